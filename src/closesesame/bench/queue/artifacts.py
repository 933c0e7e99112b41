"""Where the tasks of a grid keep files: artifacts that stay, and a cache with a size limit."""

import os
import shutil
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

CACHE_BYTES = 4 * 2**30


class ArtifactStore:
    """`artifacts/<job>/` beside the store, and `cache/<key>/`.

    What is made appears under its name whole or not at all, so workers may make the same thing side by side.
    """

    def __init__(self, folder: Path, cache_bytes: int = CACHE_BYTES) -> None:
        self.folder, self.cache_bytes = folder, cache_bytes

    def artifact(self, job: str) -> Path:
        """Where the files of a job lie."""
        return self.folder / "artifacts" / job

    def keep(self, job: str, make: Callable[[Path], object]) -> Path:
        """Makes the files of a job, unless they are there."""
        return self._make(self.artifact(job), make)

    def cached(self, key: str, make: Callable[[Path], object]) -> Path:
        """Returns a folder of the cache, made if it is not there; the least used go if it grows too large."""
        place = self.folder / "cache" / key
        if not place.exists():
            self._make(place, make)
            self._shrink(keep=place)
        with suppress(OSError):
            os.utime(place)
        return place

    def _make(self, place: Path, make: Callable[[Path], object]) -> Path:
        if place.exists():
            return place
        place.parent.mkdir(parents=True, exist_ok=True)
        made = Path(tempfile.mkdtemp(dir=place.parent, prefix=".making-"))
        try:
            make(made)
            with suppress(OSError):  # another worker was faster, with the same files
                made.replace(place)
        finally:
            shutil.rmtree(made, ignore_errors=True)
        return place

    def _shrink(self, keep: Path) -> None:
        entries = []
        for place in keep.parent.iterdir():
            with suppress(OSError):
                size = sum(file.stat().st_size for file in place.rglob("*") if file.is_file())
                entries.append((place.stat().st_mtime, size, place))
        total = sum(size for _, size, _ in entries)
        for _, size, place in sorted(entries):
            if total <= self.cache_bytes:
                return
            if place != keep:
                shutil.rmtree(place, ignore_errors=True)
                total -= size
