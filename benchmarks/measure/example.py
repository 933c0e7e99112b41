"""Runs the Python at the top of the README, and keeps what it prints.

python -m benchmarks example
"""

import io
from contextlib import redirect_stdout
from pathlib import Path

import torch

from benchmarks.render.readme import code_of
from closesesame.bench.results import write_measured

from . import RESULTS

README = Path(__file__).parents[2] / "README.md"


def main() -> None:
    """Runs it on one thread."""
    torch.set_num_threads(1)
    code, printed = code_of(README.read_text(encoding="utf-8")), io.StringIO()
    with redirect_stdout(printed):
        exec(code, {})  # noqa: S102  the README is ours
    rows = [{"code": code, "output": printed.getvalue()}]
    write_measured(RESULTS / "example.json", rows, "The example of the README.")
    print(printed.getvalue(), end="")
