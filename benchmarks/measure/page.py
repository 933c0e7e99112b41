"""The page of a grid in headless Chromium: how long it takes to load, and what the console says.

python -m benchmarks page page.html [screenshot.png]

The cells are those of `results/removals_development.json`, once for each of our architectures.
"""

import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from closesesame.bench.results import write_measured
from closesesame.core.machine import host
from closesesame.families import FAMILIES
from closesesame.models import ARCHITECTURES
from closesesame.report.pages.grid import Grid, GridCell, write_grid

from . import RESULTS

QUIET = ("quic", "background-networking", "component-update", "sync", "gpu")
RUNS = 5


def cells() -> tuple[GridCell, ...]:
    """Every row once for each model."""
    rows = json.loads((RESULTS / "removals_development.json").read_text())["rows"]
    return tuple(
        GridCell.of(row | {"id": f"{row['id']}-{model}", "model": model})
        for row in rows
        for model in ARCHITECTURES
    )


def chromium(page: Path, *words: str) -> tuple[str, str]:
    """Opens a page; returns what was asked for and what the console said."""
    with tempfile.TemporaryDirectory() as profile:
        command = ["chromium", "--headless", "--no-sandbox", "--no-first-run", f"--user-data-dir={profile}"]
        command += [f"--disable-{feature}" for feature in QUIET]
        command += ["--enable-logging=stderr", "--v=0", *words, page.resolve().as_uri()]
        done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=120)
    return done.stdout, "\n".join(line for line in done.stderr.splitlines() if "CONSOLE" in line)


def main() -> None:
    """Loads the page several times and writes what was seen."""
    grid = Grid(
        name="development",
        about="The development bench, once for every model.",
        host=host(),
        families=FAMILIES,
        cells=cells(),
    )
    page = write_grid(grid, Path(sys.argv[1]))
    loads, console = [], ""
    for _ in range(RUNS):
        dom, said = chromium(page, "--dump-dom")
        console += said
        loads.append(int(re.findall(r'data-loaded-ms="(\d+)"', dom)[0]))
    if len(sys.argv) > 2:
        chromium(page, "--window-size=1300,2400", f"--screenshot={sys.argv[2]}")
    row = {
        "cells": len(grid.cells),
        "page_kb": page.stat().st_size // 1024,
        "runs": RUNS,
        "load_ms": sorted(loads),
        "console_lines": len(console.splitlines()),
    }
    write_measured(RESULTS / "page_grid.json", [row])
    print(row)
