"""Result files: the rows of a grid, or figures of a script, with all that they were measured with."""

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from closesesame import __version__
from closesesame.core.disk import write_whole
from closesesame.core.errors import DataError, SettingError
from closesesame.core.machine import host

from .grid import read_whole_grid
from .identity import Machine, changed
from .recipe import Recipe
from .stages import JUDGES, modules_of, plan
from .table import Row, refuse_mixed


def result_file(recipe: Recipe, rows: list[Row], machine: Machine, code: Mapping[str, str]) -> dict[str, Any]:
    """The content of a file of `benchmarks/results`; `check` compares it with what is there now.

    Args:
        recipe: what was run.
        rows: its cells.
        machine: what they were computed on.
        code: a hash of each module that took part.

    Raises:
        DataError: if the rows were computed in more than one precision.
    """
    refuse_mixed(rows)
    return {
        "recipe": recipe.name,
        "about": recipe.about,
        "version": __version__,
        "protocol": recipe.protocol.about(),
        "tuned_on": recipe.tuned_on,
        "host": host(),
        "machine": machine.settings(),
        "recipe_settings": recipe.model_dump(mode="json"),
        "code": dict(code),
        "rows": rows,
    }


def export(folder: Path, out: Path) -> dict[str, Any]:
    """Writes the cells of a grid as a result file; an old file there is replaced. Returns its content."""
    content = result_of(folder)
    write_result(content, out)
    return content


def result_of(folder: Path) -> dict[str, Any]:
    """The cells of a grid as the content of a result file.

    Raises:
        DataError: as `read_grid`.
    """
    recipe, rows, machine, code = read_whole_grid(folder)
    return result_file(recipe, rows, machine, code)


def write_result(content: dict[str, Any], out: Path) -> Path:
    """Writes a result file, whole or not at all. Returns its path."""
    return write_whole(json.dumps(content, indent=1) + "\n", out)


def write_measured(out: Path, rows: Sequence[Mapping[str, Any]], about: str = "") -> Path:
    """Writes figures that a script measured on this machine; the result is called as its file is.

    Args:
        out: the file; an old one there is replaced.
        rows: one a line of the table, all figures as numbers.
        about: what was done, for the head of the table.
    """
    content = {"recipe": out.stem, "about": about, "version": __version__, "host": host(), "rows": list(rows)}
    return write_result(content, out)


def check(file: Path, data_folder: Path) -> dict[str, Any]:
    """Compares the ids of a result file with those that its recipe has now, on these data and with this code.

    Args:
        file: as `export` writes it.
        data_folder: where the recipe's data sets and recordings lie; anywhere.

    Returns:
        How many rows there are, how many have the id they would have now, and the modules that changed since.

    Raises:
        DataError: if the file is not such a result file, or names methods of a module that was not imported
            before, or the data are not there.
    """
    recipe, machine, known, rows = _read_result_file(file)
    for module in recipe.foreign_modules():
        if module not in sys.modules:
            raise DataError(
                f"{file} names methods of {module!r}; if you trust it, import that first, on the command "
                f"line with --import {module}"
            )
    jobs = plan(recipe, data_folder, machine=machine)
    ids = {job.id for job in jobs if job.task in JUDGES}
    return {
        "rows": len(rows),
        "same": sum(row in ids for row in rows),
        "changed_code": changed(known, modules_of(jobs)),
    }


def _read_result_file(file: Path) -> tuple[Recipe, Machine, dict[str, str], list[str]]:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise DataError(f"{file} cannot be read: {error.strerror}") from None
    except (ValueError, RecursionError):
        raise _no_result_file(file, "it is no JSON") from None
    try:
        return (
            Recipe(**content["recipe_settings"]),
            Machine(**content["machine"]),
            dict(content["code"]),
            [str(row["id"]) for row in content["rows"]],
        )
    except KeyError as error:
        raise _no_result_file(file, f"it holds no {error}") from None
    except SettingError as error:
        raise _no_result_file(file, f"its recipe cannot be used: {error}") from None
    except (ValueError, TypeError, AttributeError):
        raise _no_result_file(file, "its recipe, machine, code or rows are of another form") from None


def _no_result_file(file: Path, why: str) -> DataError:
    return DataError(f"{file} is no result file: {why}; write one with 'sesame bench export'")
