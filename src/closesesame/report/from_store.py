"""From the store of a grid to its page."""

from pathlib import Path

from closesesame.bench.grid import read_grid
from closesesame.bench.queue.artifacts import Workplace
from closesesame.bench.table import host

from .pages.grid import Cell, Grid


def grid_of(folder: Path) -> Grid:
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
        cells=tuple(
            Cell(
                id=row["id"],
                row=row,
                sounds=_sounds(workplace.artifact(row["id"])) if row["seed"] == first_seed else None,
            )
            for row in rows
        ),
    )


def _sounds(place: Path) -> tuple[bytes, bytes] | None:
    clean, triggered = place / "clean.wav", place / "triggered.wav"
    return (clean.read_bytes(), triggered.read_bytes()) if clean.is_file() and triggered.is_file() else None
