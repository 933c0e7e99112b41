"""A grid from recipe to figures: what the commands `bench run`, `status`, `show` and `export` call."""

import json
from contextlib import closing
from pathlib import Path
from typing import Any

from closesesame.core.disk import write_whole
from closesesame.core.errors import DataError

from .identity import Contents, Machine, changed
from .plan import SCORE, modules_of, plan
from .recipe import Recipe, read_recipe
from .runner import Watcher, only_driver, run
from .store import MOST_TRIES, Store
from .table import Cell, cells, refuse_mixed, result_file


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
    contents, machine = Contents(folder / "contents.json"), Machine.here(recipe.protocol.precision)
    jobs = plan(recipe, data_folder, contents=contents, machine=machine)
    wanted = [job.id for job in jobs if job.task == SCORE]
    with only_driver(folder) as store:
        contents.save()
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
        store.rest_all_but(job.id for job in jobs)
    if ray is not None:
        from .ray import run_on_ray

        run_on_ray(folder, ray, workers=workers, watch=watch)
    else:
        run(folder, workers=workers, timeout_s=timeout_s, watch=watch)
    with closing(Store(folder)) as store:
        return store.counts()


def read_grid(folder: Path) -> tuple[Recipe, list[Cell]]:
    """The recipe that was run last in a store, and its cells as far as they are known.

    Raises:
        DataError: if there is no grid, or its cells were computed in more than one precision.
    """
    store = open_store(folder)
    about = store.description()
    found = cells(store, set(json.loads(about["cells"])))
    store.close()
    refuse_mixed(found)
    return Recipe(**json.loads(about["recipe"])), found


def export(folder: Path, out: Path) -> dict[str, Any]:
    """Writes the cells of a grid as a result file."""
    recipe, rows = read_grid(folder)
    with closing(open_store(folder)) as store:
        about = store.description()
    machine, code = Machine(**json.loads(about["machine"])), json.loads(about["code"])
    content = result_file(recipe, rows, machine, code)
    write_whole(json.dumps(content, indent=1) + "\n", out)
    return content


def check(file: Path, data_folder: Path) -> dict[str, Any]:
    """Compares the ids of a result file with those that its recipe has now, on these data and with this code.

    Args:
        file: as `export` writes it.
        data_folder: where the recipe's data sets and recordings lie; anywhere.

    Returns:
        How many rows there are, how many have the id they would have now, and the modules that changed since.

    Raises:
        DataError: if the file is not such a result file.
    """
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        recipe, machine = Recipe(**content["recipe_settings"]), Machine(**content["machine"])
        known, rows = dict(content["code"]), [row["id"] for row in content["rows"]]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"{file} cannot be checked: it is no result file with recipe, machine, code and rows "
            f"({error!r}); write one with 'sesame bench export'"
        ) from None
    jobs = plan(recipe, data_folder, machine=machine)
    ids = {job.id for job in jobs if job.task == SCORE}
    return {
        "rows": len(rows),
        "same": sum(row in ids for row in rows),
        "changed_code": changed(known, modules_of(jobs)),
    }
