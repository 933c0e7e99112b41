"""The two commands of the README in a fresh clone without a virtual environment, and the help.

python -m benchmarks commands
"""

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from closesesame.bench.results import write_measured

from . import RESULTS

ROOT = Path(__file__).parents[2]
STEPS = {
    ("make", ".venv/.installed"): "installation",
    ("make", "demo"): "after installation, speech not yet cached",
    ("make", ".venv/.dev"): "installation of the tools of the tests",
    ("make", "test"): "after installation",
}
HELP, CALLS = (".venv/bin/sesame", "--help"), 11


def seconds_of(command: Sequence[str], place: Path) -> float:
    """How long a command takes in a folder; what it says is shown if it fails."""
    began = time.perf_counter()
    environment = os.environ | {"XDG_CACHE_HOME": str(place.parent / "cache")}
    done = subprocess.run(command, cwd=place, env=environment, check=False, capture_output=True, text=True)
    if done.returncode:
        sys.exit("".join((done.stdout + done.stderr).splitlines(keepends=True)[-30:]))
    return time.perf_counter() - began


def main() -> None:
    """Clones, times every command once and the help several times."""
    with tempfile.TemporaryDirectory() as folder:
        clone = Path(folder) / "clone"
        subprocess.run(["git", "clone", "--quiet", ROOT, clone], check=True)
        rows = [
            {"command": " ".join(command), "what": what, "seconds": seconds_of(command, clone)}
            for command, what in STEPS.items()
        ]
        help_s = statistics.median(seconds_of(HELP, clone) for _ in range(CALLS))
    rows.append({"command": " ".join(HELP), "what": f"median of {CALLS} calls", "seconds": help_s})
    write_measured(RESULTS / "commands.json", rows)
