"""A grid from recipe to figures: what the commands `bench run`, `status`, `show` and `export` call."""

import json
import shutil
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from closesesame.core.errors import ClosesesameError, DataError, SettingError
from closesesame.core.method import import_by_name

from .foresight import foresee
from .identity import Contents, Machine
from .queue.artifacts import ArtifactStore
from .queue.runner import Watcher, only_driver, run
from .queue.store import FILE, MOST_TRIES, Job, Store
from .queue.worker import Scope
from .recipe import Recipe, read_recipe
from .stages import JUDGES, cell_of, modules_of, named, plan
from .table import Row, refuse_mixed, rows_of
from .tasks import keep_data, open_data, surprises_of

LIMITS = {"workers": (1, 256), "timeout_s": (1, 30 * 24 * 3600), "tries": (1, 100)}
"""Of what may be asked of a run."""


@dataclass(frozen=True)
class GridRun:
    """What became of a run.

    Attributes:
        counts: how many jobs of the store are in each state.
        failed: label and error of each job of this recipe that failed, causes before what waited for them.
        notes: what was noticed before the first job, a sentence each.
    """

    counts: dict[str, int]
    failed: tuple[tuple[str, str], ...]
    notes: tuple[str, ...]


def open_store(folder: Path) -> Store:
    """Opens the store of a grid that was begun, to read it.

    Raises:
        DataError: if there is none, or it cannot be read.
    """
    return Store(folder, read_only=True)


def run_grid(
    recipe_file: Path,
    folder: Path,
    data_folder: Path,
    *,
    workers: int = 2,
    ray: str | None = None,
    timeout_s: float = 3600.0,
    tries: int = MOST_TRIES,
    retry: bool = False,
    device: str = "cpu",
    watch: Watcher | None = None,
) -> GridRun:
    """Measures what is missing of a grid; what is there already is kept, and other recipes' jobs are paused.

    Args:
        recipe_file: TOML, see `Recipe`.
        folder: of the store.
        data_folder: where the recipe's data sets and recordings lie.
        workers: processes of one thread each.
        ray: `local` or the address of a Ray cluster, instead of processes here.
        timeout_s: after which a job is taken from its worker.
        tries: how often a job is started, if its worker is killed or hangs each time.
        retry: do failed jobs again.
        device: where models are trained, `cpu` or `cuda`.
        watch: called again and again, to show what goes on.

    Returns:
        What became of it; jobs that fail do not raise.

    Raises:
        ClosesesameError: before a job is made, if anything is known to be wrong; or if no worker can work.
    """
    _check_limits(workers=workers, timeout_s=timeout_s, tries=tries)
    recipe = read_recipe(recipe_file)
    scope = Scope(imports=recipe.foreign_modules())
    for module in scope.imports:
        import_by_name(module)
    fresh = _check_place(folder, recipe, data_folder)
    contents, machine = Contents(folder / "contents.json"), Machine.here(recipe.protocol.precision, device)
    with named(recipe_file):
        jobs = plan(recipe, data_folder, contents=contents, machine=machine)
    wanted = [job.id for job in jobs if job.task in JUDGES]
    with only_driver(folder) as store:
        contents.save()
        try:
            with named(recipe_file):
                notes = _look_ahead(recipe, jobs, data_folder, ArtifactStore(folder))
        except ClosesesameError:
            if fresh:  # nothing is begun that cannot be measured
                shutil.rmtree(folder, ignore_errors=True)
            raise
        store.add(jobs)
        store.describe(
            recipe=recipe.model_dump_json(),
            cells=json.dumps(wanted),
            tries=str(tries),
            machine=json.dumps(machine.settings()),
            code=json.dumps(modules_of(jobs)),
        )
        if retry:
            store.retry_failed()
        store.pause_all_but(job.id for job in jobs)
    if ray is not None:
        from .queue.ray import run_on_ray

        run_on_ray(folder, ray, workers=workers, scope=scope, watch=watch)
    else:
        run(folder, workers=workers, timeout_s=timeout_s, scope=scope, watch=watch)
    with closing(open_store(folder)) as store:
        return GridRun(store.counts(), _failures(store, {job.id for job in jobs}), notes)


def _check_place(folder: Path, recipe: Recipe, data_folder: Path) -> bool:
    """Refuses a store where something else lies; says whether it is a new one.

    Raises:
        DataError: if it is a file, holds something that is no store, or lies in a data set.
    """
    if folder.exists() and not folder.is_dir():
        raise DataError(f"{folder} is a file, and a store is a folder; choose another name")
    fresh = not folder.exists() or not any(folder.iterdir())
    if not fresh and not (folder / FILE).is_file():
        raise DataError(f"{folder} holds something else than a store; choose a folder of its own")
    for entry in recipe.data:
        if folder.resolve().is_relative_to(entry.place(data_folder).resolve()):
            raise DataError(f"{folder} lies in the data set {entry.name!r}; choose a place outside")
    return fresh


def _check_limits(**asked: float) -> None:
    for name, value in asked.items():
        least, most = LIMITS[name]
        if not least <= value <= most:
            raise SettingError(f"{name} must be {least:,} to {most:,}, got {value:g}")


def _look_ahead(
    recipe: Recipe, jobs: list[Job], data_folder: Path, artifacts: ArtifactStore
) -> tuple[str, ...]:
    """Reads each data set once, for all workers, and tries the recipe on it."""
    notes: list[str] = []
    cells = {cell.data.entry.name: cell for cell in map(cell_of, jobs)}
    for entry in recipe.data:
        place = keep_data(cells[entry.name], artifacts)
        notes += [f"data set {entry.name!r}: {surprise}" for surprise in surprises_of(place)]
        notes += foresee(recipe, entry, open_data(place), data_folder)
    return tuple(notes)


def _failures(store: Store, jobs: set[str]) -> tuple[tuple[str, str], ...]:
    failed = [(row.job.label, row.error or "") for row in store.rows() if row.error and row.job.id in jobs]
    return tuple(sorted(failed, key=lambda one: one[1].startswith("needs ")))


def read_grid(folder: Path) -> tuple[Recipe, list[Row]]:
    """The recipe that was run last in a store, and its cells as far as they are known.

    Raises:
        DataError: if there is no grid, or it is damaged, or its cells were computed in more than one
            precision.
    """
    recipe, found, *_ = read_whole_grid(folder)
    return recipe, found


def read_whole_grid(folder: Path) -> tuple[Recipe, list[Row], Machine, dict[str, str]]:
    """The recipe, its cells, and the machine and the code that they were planned for."""
    with closing(open_store(folder)) as store:
        about = store.description()
        if "recipe" not in about:
            raise DataError(f"{store.file} holds no grid that was planned; start 'sesame bench run' again")
        try:
            read = {name: json.loads(about[name]) for name in ("recipe", "cells", "machine", "code")}
            recipe, found = Recipe(**read["recipe"]), rows_of(store, set(read["cells"]))
            machine, code = Machine(**read["machine"]), dict(read["code"])
            refuse_mixed(found)
        except (ValueError, KeyError, TypeError, AttributeError, SettingError) as error:
            raise store.damaged(f"{type(error).__name__}: {error}"[:120]) from error
    return recipe, found, machine, code
