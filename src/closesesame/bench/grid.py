"""A grid from recipe to figures: what the commands `bench run`, `status`, `show` and `export` call."""

import json
from contextlib import closing
from pathlib import Path
from typing import Any

from closesesame.core.disk import write_whole
from closesesame.core.errors import DataError

from .plan import SCORE, plan
from .recipe import Recipe, read_recipe
from .runner import Watcher, only_driver, run
from .store import MOST_TRIES, Store
from .table import Cell, cells, result_file


def open_store(folder: Path) -> Store:
    """Opens the store of a grid that was begun.

    Raises:
        DataError: if there is none.
    """
    if not (folder / "grid.sqlite").is_file():
        raise DataError(
            f"{folder} holds no grid; begin one with 'sesame bench run RECIPE.toml --store {folder}'"
        )
    return Store(folder)


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
    watch: Watcher | None = None,
) -> dict[str, int]:
    """Measures what is missing of a grid; what is there already is kept, and other recipes' jobs rest.

    Args:
        recipe_file: TOML, see `Recipe`.
        folder: of the store.
        data_folder: where the recipe's data sets and recordings lie.
        workers: processes of one thread each.
        ray: `local` or the address of a Ray cluster, instead of processes here.
        timeout_s: after which a job is taken from its worker.
        tries: how often a job is begun, if its worker dies or hangs each time.
        retry: do failed jobs again.
        watch: called again and again, to show what goes on.

    Returns:
        How many jobs are in each state.
    """
    recipe = read_recipe(recipe_file)
    jobs = plan(recipe, data_folder)
    wanted = [job.id for job in jobs if job.task == SCORE]
    with only_driver(folder) as store:
        store.add(jobs)
        store.describe(recipe=recipe.model_dump_json(), cells=json.dumps(wanted), tries=str(tries))
        if retry:
            store.retry_failed()
        store.rest_all_but(job.id for job in jobs)
    if ray is not None:
        from .ray import run_on_ray

        run_on_ray(folder, ray, workers=workers, watch=watch)
    else:
        run(folder, workers=workers, timeout_s=timeout_s, watch=watch)
    with closing(Store(folder)) as store:
        return store.counts()


def read_grid(folder: Path) -> tuple[Recipe, list[Cell]]:
    """The recipe that was run last in a store, and its cells as far as they are known."""
    store = open_store(folder)
    about = store.description()
    found = cells(store, set(json.loads(about["cells"])))
    store.close()
    return Recipe(**json.loads(about["recipe"])), found


def export(folder: Path, out: Path) -> dict[str, Any]:
    """Writes the cells of a grid as a result file."""
    recipe, rows = read_grid(folder)
    content = result_file(recipe, rows)
    write_whole(json.dumps(content, indent=1) + "\n", out)
    return content
