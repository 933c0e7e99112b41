"""From the store of a grid to its page."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from closesesame.bench.grid import read_grid
from closesesame.bench.queue.artifacts import Workplace
from closesesame.bench.table import host
from closesesame.evaluation.measures import ACC, ASR, DER, RA, Measure

from .pages.grid import Family, Grid, GridCell


class _Family(NamedTuple):
    name: str
    title: str
    measures: tuple[Measure, ...]


FAMILIES: tuple[Family, ...] = (_Family("removal", "Removals", (ASR, RA, ACC, DER)),)


def grid_of(folder: Path, families: Sequence[Family] = FAMILIES) -> Grid:
    """All cells of the recipe that was run last in a store, as far as they are known, with their sounds.

    Raises:
        DataError: if the folder holds no grid.
    """
    recipe, rows = read_grid(folder)
    workplace, first_seed = Workplace(folder), recipe.seeds[0]
    return Grid(
        name=recipe.name,
        about=recipe.about,
        host=host(),
        families=families,
        cells=tuple(
            GridCell.of(
                _result_row(row),
                sounds=_kept_sounds(workplace.artifact(row["id"])) if row["seed"] == first_seed else None,
            )
            for row in rows
        ),
    )


def _result_row(row: Mapping[str, Any]) -> dict[str, Any]:
    family = "none" if row["defence"] == "none" else "removal"
    return {**row, "family": family, "method": row["defence"], "method_name": row["defence_name"]}


def _kept_sounds(place: Path) -> tuple[bytes, bytes] | None:
    """The clean and the triggered clip that were kept with a result."""
    clean, triggered = place / "clean.wav", place / "triggered.wav"
    return (clean.read_bytes(), triggered.read_bytes()) if clean.is_file() and triggered.is_file() else None
