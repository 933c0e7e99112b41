"""Commands on grids."""

import sys
from collections.abc import Mapping
from contextlib import closing
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any

from cyclopts import App, Parameter

from closesesame.core.disk import Destination
from closesesame.core.errors import plain

from .app import app, command
from .inputs import Force, Json
from .outputs import NONE, answer, as_typed, facts, notes, now, table

bench = App(name="bench", help="Measure a grid: one recipe in, evidence out, nothing lost.")
app.command(bench)
StoreFolder = Annotated[Path, Parameter(help="Folder of the grid's store.")]
STATES = {"done": "done", "failed": "failed", "leased": "in work", "pending": "waiting"}
"""The states of jobs as people read them."""
FIGURES = {"ACC": "acc", "ASR": "asr", "RA": "ra"}


@partial(command, of=bench, name="run")
def bench_run(
    recipe: Path,
    *,
    store: StoreFolder = Path("runs/grid"),
    data: Path = Path(),
    workers: int = 2,
    ray: str | None = None,
    timeout_s: float = 3600.0,
    tries: int = 3,
    retry: bool = False,
    json: Json = False,
) -> None:
    """Measure all that is missing of a grid; it may be stopped, and killed, at any time.

    Ends with status 1 if jobs failed.

    Parameters
    ----------
    recipe
        A TOML file; see benchmarks/recipes.
    data
        Where the recipe's data sets and recordings lie.
    workers
        Processes, of one thread each, 1 to 256.
    ray
        'local' or the address of a Ray cluster, to run there.
    timeout_s
        Seconds after which a job is taken from its worker, and tried again; 1 to 2,592,000.
    tries
        How often a job is begun, if its worker dies or hangs each time; 1 to 100.
    retry
        Do failed jobs again.
    """
    from closesesame.bench.grid import run_grid
    from closesesame.bench.queue.watch import watching

    with watching(workers) as watch:
        ended = run_grid(
            recipe,
            store,
            data,
            workers=workers,
            ray=ray,
            timeout_s=timeout_s,
            tries=tries,
            retry=retry,
            watch=watch,
        )
    notes(ended.notes)
    found = ended.counts | {"store": str(store)}
    answer(json, found, lambda: facts(_in_words(ended.counts) | {"store": str(store)}))
    if ended.failed:
        label, error = ended.failed[0]
        sentence = f"{len(ended.failed)} jobs of this grid failed, the first is {label!r}: {error}"
        again = f"see 'sesame bench status --store {store}', and add --retry to do them again"
        sys.stderr.write(f"sesame: {plain(f'{sentence}; {again}')}\n")
        sys.exit(1)


@partial(command, of=bench, name="status")
def bench_status(*, store: StoreFolder = Path("runs/grid"), json: Json = False) -> None:
    """Say how far a grid is, what is in work, and what failed."""
    from closesesame.bench.grid import open_store

    with closing(open_store(store)) as opened:
        counts, leased, rows = opened.counts(), opened.leased(), opened.rows()
    failed = [{"job": row.job.label, "error": row.error or ""} for row in rows if row.state == "failed"]
    in_work = [{"worker": owner, "job": label} for owner, label, _ in leased]

    def show() -> None:
        facts(_in_words(counts))
        table(("worker", "job"), in_work)
        table(("job", "error"), failed)

    answer(json, {"jobs": counts, "in_work": in_work, "failed": failed}, show)


def _in_words(counts: Mapping[str, int]) -> dict[str, Any]:
    return {said: counts[state] for state, said in STATES.items()}


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
    answer(json, rows, lambda: _show_cells(rows))


def _show_cells(rows: list[dict[str, Any]]) -> None:
    """Figures as a table; what failed below it, each error once."""
    short = [_short(row) for row in rows]
    table(tuple(short[0]) if short else ("data",), short)
    done, errors = sum(row["state"] == "done" for row in rows), dict[str, list[str]]()
    if done < len(rows):
        facts({"cells done": f"{done} of {len(rows)}"})
    for row, figures in zip(rows, short, strict=True):
        if row["error"]:
            names = ", ".join(
                value for name, value in figures.items() if name not in FIGURES and value != NONE
            )
            errors.setdefault(row["error"], []).append(names)
    for error, cells in errors.items():
        more = f" and {len(cells) - 1} more" if len(cells) > 1 else ""
        facts({f"failed: {cells[0]}{more}": error})


def _short(row: Mapping[str, Any]) -> dict[str, str]:
    """A cell as a row of a table; shares in percent."""
    return {
        **{name: row[name] for name in ("data", "model", "attack")},
        "rate": _percent(row["poisoning_rate"]),
        "defence": row["defence"],
        "clean": _percent(row["clean_fraction"]),
        "seed": str(row["seed"]),
        **{name: NONE if row[of] is None else f"{row[of]:.3f}" for name, of in FIGURES.items()},
    }


def _percent(share: float | None) -> str:
    return NONE if share is None else f"{100 * share:g} %"


@partial(command, of=bench, name="report")
def bench_report(
    out: Path, *, store: StoreFolder = Path("runs/grid"), force: Force = False, json: Json = False
) -> None:
    """Write one HTML page for a grid: heat map, plane, times, and every cell to open.

    Parameters
    ----------
    out
        The page.
    """
    from closesesame.report.from_store import grid_of
    from closesesame.report.pages.grid import write_grid

    page = Destination(out, kind="file", force=force, inputs=(store,))
    grid = replace(grid_of(store), made=now(), command=as_typed())
    page.write(lambda made: write_grid(grid, made))
    found = {"page": str(out), "cells": len(grid.cells)}
    answer(json, found, lambda: facts(found))


@partial(command, of=bench, name="export")
def bench_export(
    out: Path, *, store: StoreFolder = Path("runs/grid"), force: Force = False, json: Json = False
) -> None:
    """Write what a grid found as a result file, as benchmarks/results holds them.

    Parameters
    ----------
    out
        The JSON file.
    """
    from closesesame.bench.grid import result_of, write_result

    file = Destination(out, kind="file", force=force, inputs=(store,))
    content = result_of(store)
    file.write(lambda made: write_result(content, made))
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
