"""Arrays that take long to make, kept in the user's cache folder, each with a digest at the end of its file.

A cache saves time and nothing else: a damaged file counts as missing, and an array that cannot be written is
not kept.
"""

import hashlib
import os
from pathlib import Path

import numpy as np

from .disk import place

_DIGEST_BYTES = 32


def cache_folder() -> Path:
    """The folder `closesesame` in the user's cache folder."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "closesesame"


def load_array(path: Path) -> np.ndarray | None:
    """Maps a kept array; changes to it do not reach the file. None if the file is missing or damaged."""
    try:
        raw = np.memmap(path, np.uint8, "r")
    except (OSError, ValueError):
        return None
    if hashlib.sha256(raw[:-_DIGEST_BYTES].data).digest() != raw[-_DIGEST_BYTES:].tobytes():
        return None
    # Copy on write: torch warns of memory that cannot be written.
    array: np.ndarray = np.load(path, mmap_mode="c", allow_pickle=False)
    return array


def store_array(path: Path, array: np.ndarray) -> None:
    """Keeps an array, if that is possible."""

    def write(made: Path) -> None:
        with made.open("w+b") as file:
            np.save(file, array, allow_pickle=False)
            file.seek(0)
            file.write(hashlib.file_digest(file, "sha256").digest())

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        place(path, write)
    except OSError:
        return
