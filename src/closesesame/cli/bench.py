"""Commands on grids."""

import sys
from functools import partial
from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter

from .app import app, command
from .inputs import Json
from .outputs import answer, facts, table

bench = App(name="bench", help="Measure a grid: one recipe in, evidence out, nothing lost.")
app.command(bench)
StoreFolder = Annotated[Path, Parameter(help="Folder of the grid's store.")]


@partial(command, of=bench, name="run")
def bench_run(
    recipe: Path,
    *,
    store: StoreFolder = Path("runs/grid"),
    data: Path = Path(),
    workers: int = 2,
    ray: str | None = None,
    timeout: float = 3600.0,
    tries: int = 3,
    retry: bool = False,
    json: Json = False,
) -> None:
    """Measure all that is missing of a grid; it may be stopped, and killed, at any time.

    Parameters
    ----------
    recipe
        A TOML file; see benchmarks/recipes.
    data
        Where the recipe's data sets and recordings lie.
    workers
        Processes, of one thread each.
    ray
        'local' or the address of a Ray cluster, to run there.
    timeout
        Seconds after which a job is taken from its worker, and tried again.
    tries
        How often a job is begun, if its worker dies or hangs each time.
    retry
        Do failed jobs again.
    """
    from closesesame.bench.grid import run_grid
    from closesesame.bench.watch import watching

    with watching(workers) as watch:
        counts = run_grid(
            recipe,
            store,
            data,
            workers=workers,
            ray=ray,
            timeout_s=timeout,
            tries=tries,
            retry=retry,
            watch=watch,
        )
    found = counts | {"store": str(store)}
    answer(json, found, lambda: facts(found))


@partial(command, of=bench, name="status")
def bench_status(*, store: StoreFolder = Path("runs/grid"), json: Json = False) -> None:
    """Say how far a grid is, what is in work, and what failed."""
    from closesesame.bench.grid import open_store

    opened = open_store(store)
    failed = [{"job": r.job.label, "error": r.error or ""} for r in opened.rows() if r.state == "failed"]
    in_work = [{"worker": owner, "job": label} for owner, label, _ in opened.leased()]
    found = {"jobs": opened.counts(), "in_work": in_work, "failed": failed}

    def show() -> None:
        facts(opened.counts())
        table(("job", "error"), failed)

    answer(json, found, show)


@partial(command, of=bench, name="show")
def bench_show(*, store: StoreFolder = Path("runs/grid"), csv: bool = False, json: Json = False) -> None:
    """Print what a grid found, one row a cell.

    Parameters
    ----------
    csv
        Print CSV.
    """
    from closesesame.bench.grid import read_grid
    from closesesame.bench.table import as_csv

    _, rows = read_grid(store)
    if csv:
        sys.stdout.write(as_csv(rows))
        return
    columns = ("data", "model", "attack", "poisoning_rate", "defence", "seed", "acc", "asr", "ra", "error")
    short = [
        {
            name: ""
            if row[name] is None
            else f"{row[name]:.3f}"
            if isinstance(row[name], float)
            else row[name]
            for name in columns
        }
        for row in rows
    ]
    answer(json, rows, lambda: table(columns, short))


@partial(command, of=bench, name="report")
def bench_report(out: Path, *, store: StoreFolder = Path("runs/grid"), json: Json = False) -> None:
    """Write one HTML page for a grid: heat map, plane, times, and every cell to open.

    Parameters
    ----------
    out
        The page.
    """
    from closesesame.report.from_store import grid_of
    from closesesame.report.grid import write

    grid = grid_of(store)
    write(grid, out)
    found = {"page": str(out), "cells": len(grid.cells)}
    answer(json, found, lambda: facts(found))


@partial(command, of=bench, name="export")
def bench_export(out: Path, *, store: StoreFolder = Path("runs/grid"), json: Json = False) -> None:
    """Write what a grid found as a result file, as benchmarks/results holds them.

    Parameters
    ----------
    out
        The JSON file.
    """
    from closesesame.bench.grid import export

    content = export(store, out)
    found = {"file": str(out), "rows": len(content["rows"])}
    answer(json, found, lambda: facts(found))


@partial(command, of=bench, name="check")
def bench_check(file: Path, *, data: Path = Path(), json: Json = False) -> None:
    """Say which rows of a result file have the ids they would have with these data and this code.

    Parameters
    ----------
    file
        A result file, as 'sesame bench export' writes it.
    data
        Where the recipe's data sets and recordings lie.
    """
    from closesesame.bench.grid import check

    found = check(file, data)
    answer(json, found, lambda: facts(found | {"changed_code": ", ".join(found["changed_code"]) or "none"}))
