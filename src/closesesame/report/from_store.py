"""From the store of a grid to its page."""

from pathlib import Path

from closesesame.bench.grid import read_grid
from closesesame.bench.queue.artifacts import ArtifactStore
from closesesame.core.machine import host
from closesesame.families import FAMILIES

from .pages.grid import Grid, GridCell


def grid_of(folder: Path) -> Grid:
    """All cells of the recipe that was run last in a store, as far as they are known, with their sounds.

    Raises:
        DataError: if the folder holds no grid.
    """
    recipe, rows = read_grid(folder)
    artifacts, first_seed = ArtifactStore(folder), recipe.seeds[0]
    return Grid(
        name=recipe.name,
        about=recipe.about,
        host=host(),
        families=FAMILIES,
        cells=tuple(
            GridCell.of(
                row,
                sounds=_kept_sounds(artifacts.artifact(row["id"])) if row["seed"] == first_seed else None,
            )
            for row in rows
        ),
    )


def _kept_sounds(place: Path) -> tuple[bytes, bytes] | None:
    """The clean and the triggered clip that were kept with a result."""
    clean, triggered = place / "clean.wav", place / "triggered.wav"
    return (clean.read_bytes(), triggered.read_bytes()) if clean.is_file() and triggered.is_file() else None
