"""A few of the injections of `benchmarks/measure/faults.py`: kills and full disks lose nothing."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def test_kills_full_disks_and_too_little_memory_lose_no_model() -> None:
    if shutil.which("cc") is None:
        pytest.skip("faults are injected by a library that a C compiler builds, and there is none")
    words = [sys.executable, "-m", "benchmarks", "faults", "--few", "4", "--command", "train"]
    ended = subprocess.run(words, cwd=ROOT, check=False, capture_output=True, text=True)
    rows = [json.loads(line) for line in ended.stdout.splitlines() if line.startswith("{")]
    assert ended.returncode == 0, ended.stdout + ended.stderr
    found = {row["fault"]: row for row in rows}
    assert found["kill -9"]["old whole"] > 0
    assert found["kill -9"]["new whole"] > 0
    assert found["full disk"]["refused before the work"] > 0
    assert found["full disk"]["kept elsewhere"] > 0
    assert all(row["lost"] == row["not one sentence"] == 0 for row in rows)
