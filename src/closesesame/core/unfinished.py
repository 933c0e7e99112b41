"""Parts of long work, kept beside its output until that is made: after a kill the work goes on from them."""

import shutil
from contextlib import suppress
from pathlib import Path

from .disk import Make, place

SUFFIX = ".unfinished"


class Unfinished:
    """The folder of parts beside an output; each is a folder, known by its name and by what it depends on.

    It saves time and nothing else: a part that cannot be kept is made again.
    """

    def __init__(self, out: Path) -> None:
        """Takes the path of the output, `OUT`; the parts are in `OUT.unfinished`."""
        self.folder = out.with_name(out.name + SUFFIX)

    def part(self, name: str, key: str) -> Path:
        """Where a part is, if it was kept.

        Args:
            name: letters.
            key: the same for equal work, and for no other; letters and digits.
        """
        return self.folder / f"{name}-{key}"

    def keep(self, name: str, key: str, make: Make) -> None:
        """Fills the folder of a part, whole or not at all; what the disk does not take is not kept."""
        with suppress(OSError):
            self.folder.mkdir(parents=True, exist_ok=True)
            place(self.part(name, key), make, kind="folder")

    def forget(self, *names: str) -> None:
        """Removes parts with these names, and the folder if nothing else is in it."""
        for name in names:
            for part in self.folder.glob(f"{name}-*"):
                shutil.rmtree(part, ignore_errors=True)
        with suppress(OSError):
            self.folder.rmdir()
