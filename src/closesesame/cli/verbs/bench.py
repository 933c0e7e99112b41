"""Commands on grids."""

import sys
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import App, Parameter

from closesesame.cli.app import app, command, examples
from closesesame.cli.options import Force
from closesesame.cli.outputs import as_typed, now
from closesesame.cli.printing import Answer, facts, notes, table
from closesesame.core.disk import Destination
from closesesame.core.wording import NONE

if TYPE_CHECKING:
    from closesesame.evaluation.measures import Measure

bench = App(
    name="bench",
    help="Measure a grid of cells: read one recipe, measure what is missing, lose nothing.",
    help_epilogue=examples("sesame bench run recipe.toml", "sesame bench status", "sesame bench run --help"),
)
app.command(bench)
STORE = Path("runs/grid")
StoreFolder = Annotated[Path, Parameter(help="Folder of the grid's store.")]
DataFolder = Annotated[Path, Parameter(help="Folder in which the recipe's data sets and recordings lie.")]
STATES = {"done": "done", "failed": "failed", "leased": "in work", "pending": "waiting"}
"""The states of jobs, and how they are called for people."""


@command("run", of=bench, bars=False)
def bench_run(
    recipe: Path,
    *,
    store: StoreFolder = STORE,
    data: DataFolder = Path(),
    workers: int = 2,
    ray: str | None = None,
    timeout_s: float = 3600.0,
    tries: int = 3,
    retry: bool = False,
    device: Literal["cpu", "cuda"] = "cpu",
) -> Answer:
    """Measure all that is missing of a grid. It may be stopped or killed at any time, and run again.

    Ends with status 1 if jobs failed.

    Args:
        recipe: A TOML file; see benchmarks/recipes.
        workers: Number of processes, 1 to 256, each with one thread.
        ray: 'local' or the address of a Ray cluster, to compute there.
        timeout_s: Seconds after which a job is taken from its worker and tried again; 1 to 2,592,000.
        tries: How often a job is started if its worker dies or hangs each time; 1 to 100.
        retry: Run failed jobs again.
        device: Where models are trained, cpu or cuda.

    Examples:
        sesame bench run recipe.toml --store runs/mine --data DATA --workers 4
        sesame bench run recipe.toml --store runs/mine --data DATA --retry
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
            device=device,
            watch=watch,
        )
    notes(ended.notes)
    failure, where = "", {"store": str(store)}
    if ended.failed:
        label, error = ended.failed[0]
        first = f"{len(ended.failed)} jobs of this grid failed, the first is {label!r}: {error}"
        failure = f"{first}; see 'sesame bench status --store {store}', and add --retry to run them again"
    return Answer(ended.counts | where, lambda: facts(_in_words(ended.counts) | where), failure=failure)


@command("status", of=bench)
def bench_status(*, store: StoreFolder = STORE) -> Answer:
    """Say how far a grid is, which jobs are in work, and which failed.

    Examples:
        sesame bench status --store runs/mine
    """
    from closesesame.bench.grid import open_store

    with closing(open_store(store)) as opened:
        counts, leased, rows = opened.counts(), opened.leased(), opened.rows()
    failed = [{"job": row.job.label, "error": row.error or ""} for row in rows if row.state == "failed"]
    in_work = [{"worker": owner, "job": label} for owner, label, _ in leased]

    def show() -> None:
        facts(_in_words(counts))
        table(("worker", "job"), in_work)
        table(("job", "error"), failed)

    return Answer({"jobs": counts, "in_work": in_work, "failed": failed}, show)


def _in_words(counts: Mapping[str, int]) -> dict[str, Any]:
    return {said: counts[state] for state, said in STATES.items()}


@command("show", of=bench)
def bench_show(*, store: StoreFolder = STORE, csv: bool = False) -> Answer:
    """Print the results of a grid, one table a family and one row a cell.

    Args:
        csv: Print CSV, with all columns.

    Examples:
        sesame bench show --store runs/mine
        sesame bench show --store runs/mine --csv
    """
    from closesesame.bench.grid import read_grid
    from closesesame.bench.table import as_csv

    _, rows = read_grid(store)
    return Answer(rows, lambda: sys.stdout.write(as_csv(rows)) if csv else _print_cells(rows))


def _print_cells(rows: list[dict[str, Any]]) -> None:
    """Prints the suspects and then each family as a table of its measures; below, each error once."""
    from closesesame.bench.stages import NO_METHOD
    from closesesame.evaluation.measures import OF_ADVERSARIES, OF_MODELS
    from closesesame.families import FAMILIES

    suspects = [row for row in rows if row["method_name"] == NO_METHOD]
    _print_table("Suspects", suspects, (*OF_MODELS, *OF_ADVERSARIES))
    for family in FAMILIES:
        own = [row for row in rows if row["family"] == family.name]
        _print_table(family.title, own, (*family.measures, *OF_ADVERSARIES))
    done, errors = sum(row["state"] == "done" for row in rows), dict[str, list[str]]()
    if done < len(rows):
        facts({"cells done": f"{done} of {len(rows)}"})
    for row in rows:
        if row["error"]:
            errors.setdefault(row["error"], []).append(", ".join(_known(_cell(row).values())))
    for error, names in errors.items():
        more = f" and {len(names) - 1} more" if len(names) > 1 else ""
        facts({f"failed: {names[0]}{more}": error})


def _print_table(title: str, rows: list[dict[str, Any]], measures: "Sequence[Measure]") -> None:
    """Prints rows with the measures that any of them has, under a title."""
    if not rows:
        return
    known = [one for one in measures if any(row.get(one.key) is not None for row in rows)]
    shown = [_cell(row) | {one.heading: one.said(row.get(one.key)) for one in known} for row in rows]
    sys.stdout.write(f"{title}\n")
    table(tuple(shown[0]), shown)


def _known(words: Iterable[str]) -> list[str]:
    return [word for word in words if word != NONE]


def _cell(row: Mapping[str, Any]) -> dict[str, str]:
    """What a row is of; shares in percent."""
    return {
        **{name: row[name] for name in ("data", "model", "attack")},
        "rate": _percent(row["poisoning_rate"]),
        "method": row["method"],
        "clean": _percent(row["clean_fraction"]),
        "seed": str(row["seed"]),
    }


def _percent(share: float | None) -> str:
    return NONE if share is None else f"{100 * share:g} %"


@command("report", of=bench)
def bench_report(out: Path, *, store: StoreFolder = STORE, force: Force = False) -> Answer:
    """Write one HTML page on a grid: a heat map, a scatter plot, times, and details of every cell.

    Args:
        out: The page.

    Examples:
        sesame bench report page.html --store runs/mine
    """
    from closesesame.report.from_store import grid_of
    from closesesame.report.pages.grid import write_grid

    page = Destination(out, kind="file", force=force, inputs=(store,))
    grid = replace(grid_of(store), made=now(), command=as_typed())
    page.write(lambda made: write_grid(grid, made))
    return Answer({"page": str(out), "cells": len(grid.cells)})


@command("export", of=bench)
def bench_export(out: Path, *, store: StoreFolder = STORE, force: Force = False) -> Answer:
    """Write the results of a grid as a result file, such as those in benchmarks/results.

    Args:
        out: The JSON file.

    Examples:
        sesame bench export rows.json --store runs/mine
    """
    from closesesame.bench.results import result_of, write_result

    file = Destination(out, kind="file", force=force, inputs=(store,))
    content = result_of(store)
    file.write(lambda made: write_result(content, made))
    return Answer({"file": str(out), "rows": len(content["rows"])})


@command("check", of=bench)
def bench_check(file: Path, *, data: DataFolder = Path()) -> Answer:
    """Say which rows of a result file this code and these data would give the same ids.

    Args:
        file: A result file, as 'sesame bench export' writes it.

    Examples:
        sesame bench check rows.json --data DATA
    """
    from closesesame.bench.results import check

    found = check(file, data)
    changed = ", ".join(found["changed_code"]) or "none"
    return Answer(found, lambda: facts(found | {"changed_code": changed}))
