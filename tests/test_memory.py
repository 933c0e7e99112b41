"""Freed memory: it stays with the process when asked to, and goes back when asked to."""

import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from closesesame import cli
from closesesame.bench.queue import worker
from closesesame.bench.queue.artifacts import ArtifactStore
from closesesame.bench.queue.store import Job

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="what it changes is glibc's")

STEPS, MB = 50, 40  # glibc never keeps a piece above 32 MB of its own accord
PROGRAM = f"""
import resource, sys
from closesesame.core.memory import keep_freed, release_freed
import torch
if "keep" in sys.argv: keep_freed()
def step():
    a = torch.ones({MB} * 2**18)
    b = torch.ones({MB} * 2**18)
step()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range({STEPS}): step()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
def mb(): return int(next(x for x in open("/proc/self/status") if x.startswith("VmRSS")).split()[1]) // 1024
full = mb()
release_freed()
print(full - mb())
"""


def measured(*words: str) -> tuple[int, int]:
    """Pages that were cleared for the steps, and MB that went back at the end."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *words], capture_output=True, text=True, check=True, timeout=100
    )
    faults, returned = done.stdout.split()
    return int(faults), int(returned)


def test_freed_memory_is_used_again_and_returned_when_asked() -> None:
    kept, returned = measured("keep")
    usual, _ = measured()
    assert kept < usual / 2  # a few steps against all; pages may be of any size
    assert returned >= MB


def test_commands_and_workers_keep_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    calls: list[str] = []
    monkeypatch.setattr(cli, "keep_freed", lambda: calls.append("keep"))
    monkeypatch.setattr(worker, "keep_freed", lambda: calls.append("keep"))
    monkeypatch.setattr(worker, "release_freed", lambda: calls.append("release"))
    monkeypatch.setattr(sys, "argv", ["sesame", "--version"])
    with suppress(SystemExit):
        cli.run()
    assert calls == ["keep"]
    job = Job(id="j", task="m:f", payload={})
    tasks = worker.Tasks({"m:f": lambda *_: calls.append("job")})
    worker.perform(job, ArtifactStore(tmp_path), tasks)
    assert calls == ["keep", "keep", "release", "job"]
