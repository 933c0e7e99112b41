"""Files and folders that are the old one or the new one at any moment, and that are tried before the work.

A command names what it will make as a `Destination` before it starts: what exists is refused or, with
`force`, replaced; the place is tried. What cannot be written in the end is kept elsewhere, and the error says
where.
"""

import ctypes
import os
import shutil
import signal
import socket
import tempfile
import threading
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import Literal

from .errors import ClosesesameError, DataError

Make = Callable[[Path], object]
"""Writes a file, or fills an empty folder, at the path it is given."""

LEAST_FREE_BYTES = 32 * 2**20
_EXCHANGE = 2
_HERE = -100


def write_whole(text: str, path: Path) -> Path:
    """Writes a text file, whole or not at all; an old file there is replaced. Returns the path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    return place(path, lambda made: made.write_text(text, encoding="utf-8"))


def place(path: Path, make: Make, *, kind: Literal["file", "folder"] = "file") -> Path:
    """Makes a file or folder beside `path` and moves it there, in place of what was there.

    Errors of `make` that name the place beside it name `path` instead.
    """
    made = path.with_name(_hidden(path.name))
    try:
        if kind == "folder":
            made.mkdir()
        make(made)
        _put(made, path)
    except ClosesesameError as error:
        if str(made) not in str(error):
            raise
        raise type(error)(str(error).replace(str(made), str(path))) from error
    finally:
        _remove(made)
    return path


def write_folder(files: Mapping[str, bytes], folder: Path | str, known: Collection[str]) -> Path:
    """Writes files into a folder of their own, whole or not at all; an old one of the kind is replaced.

    Args:
        files: contents by name.
        folder: may be there if it holds nothing else than `known`.
        known: names that such a folder may hold.

    Raises:
        DataError: if the folder holds something else.
    """
    folder = Path(folder)
    if _exists(folder) and not (folder.is_dir() and {path.name for path in folder.iterdir()} <= set(known)):
        raise DataError(f"{folder} holds something else than {' and '.join(known)}; choose another name")
    folder.parent.mkdir(parents=True, exist_ok=True)

    def write(made: Path) -> None:
        for name, content in files.items():
            (made / name).write_bytes(content)

    return place(folder, write, kind="folder")


@contextmanager
def new_folder(folder: Path) -> Iterator[Path]:
    """Gives a temporary folder that becomes `folder` if the block succeeds, and vanishes if it fails.

    Raises:
        DataError: if `folder` exists and is not empty.
    """
    if folder.exists() and not _is_empty_folder(folder):
        raise DataError(f"{folder} exists and is not empty; choose another name or remove it")
    folder.parent.mkdir(parents=True, exist_ok=True)
    made = folder.with_name(_hidden(folder.name))
    made.mkdir()
    try:
        yield made
        made.replace(folder)
    finally:
        _remove(made)


def refuse_nested(outputs: Iterable[Path | None]) -> None:
    """Refuses, before any work, outputs of one command of which one is or holds another.

    Args:
        outputs: their paths; None for one that is not made.

    Raises:
        DataError: naming the first that is or holds another.
    """
    whole = [resolved(path) for path in outputs if path is not None]
    for path in whole:
        if any(other.is_relative_to(path) for other in whole if other is not path):
            raise DataError(
                f"{path} is or holds another output of the same command; choose places side by side"
            )


class Destination:
    """A file or folder that a command is going to make."""

    def __init__(
        self,
        path: Path,
        *,
        kind: Literal["file", "folder"] = "folder",
        force: bool = False,
        replaces: Callable[[Path], bool] = lambda _: True,
        inputs: Iterable[Path] = (),
    ) -> None:
        """Refuses, before any work, what could not be written or would destroy something.

        Args:
            path: of what will be made.
            kind: what it will be.
            force: whether to replace what is there.
            replaces: whether a folder that is there is of the kind that `force` may replace.
            inputs: what the command reads; it is never written over.

        Raises:
            DataError: if `path` exists, or is an input, or cannot be written.
        """
        self.path, self.kind = path, kind
        for given in inputs:
            self._spare(given)
        if _exists(path) and not (kind == "folder" and _is_empty_folder(path)):
            self._may_replace(force, replaces)
        self._try()
        self.need(0)

    def write(self, make: Make) -> Path:
        """Makes it. Ctrl-C waits until it is there; pressed twice it does not.

        Raises:
            DataError: if it cannot be written; it is then kept elsewhere, and the error says where.
        """
        with _unstopped():
            try:
                self.path.parent.mkdir(parents=True, exist_ok=True)
                return place(self.path, make, kind=self.kind)
            except (OSError, ClosesesameError) as error:
                kept = self._keep(make)
                if kept is None:
                    raise
                reason = error.strerror if isinstance(error, OSError) else str(error)
                raise DataError(
                    f"{self.path} could not be written ({reason}); what was computed is kept in {kept}, "
                    "move it from there"
                ) from error

    def _keep(self, make: Make) -> Path | None:
        """Makes it in the first other place that takes it."""
        for place_of_last_resort in (Path(tempfile.gettempdir()), Path.home()):
            with suppress(OSError, ClosesesameError):
                folder = Path(tempfile.mkdtemp(dir=place_of_last_resort, prefix="closesesame-kept-"))
                try:
                    return place(folder / (self.path.name or "output"), make, kind=self.kind)
                except BaseException:
                    _remove(folder)
                    raise
        return None

    def _spare(self, given: Path) -> None:
        if not _exists(given):
            return
        out, read = resolved(self.path), resolved(given)
        if out == read:
            raise DataError(f"{self.path} is what is read; choose another name for the output")
        if out.is_relative_to(read) and (self.kind == "folder" or _exists(self.path)):
            raise DataError(f"{self.path} lies inside {given}, which is read; choose a place outside")
        if read.is_relative_to(out):
            raise DataError(f"{self.path} holds {given}, which is read; choose another name for the output")

    def _may_replace(self, force: bool, replaces: Callable[[Path], bool]) -> None:
        path = self.path
        if path.is_dir() != (self.kind == "folder"):
            wrong = "folder" if path.is_dir() else "file"
            raise DataError(f"{path} is a {wrong}, and a {self.kind} is to be made; choose another name")
        if not force:
            tail = " and is not empty" if self.kind == "folder" else ""
            raise DataError(f"{path} exists{tail}; choose another name, or replace it with --force")
        if self.kind == "folder" and not replaces(path):
            raise DataError(
                f"{path} holds something else than this command makes; --force does not replace it, so "
                "choose another name or remove it yourself"
            )

    def _try(self) -> None:
        """Writes and removes something where the output will be made."""
        parent = self._parent()
        tried = parent / _hidden(self.path.name)
        try:
            tried.mkdir()
            tried.rmdir()
        except OSError as error:
            raise DataError(
                f"{self.path} cannot be written ({parent}: {error.strerror}); choose another place"
            ) from None
        _sweep(self.path)

    def need(self, size: int) -> None:
        """Refuses a place that lacks the room, once it is known how much that is.

        Args:
            size: in bytes.

        Raises:
            DataError: with both figures.
        """
        parent = self._parent()
        free = shutil.disk_usage(parent).free
        if free < size + LEAST_FREE_BYTES:
            raise DataError(
                f"{self.path} needs {megabytes(size + LEAST_FREE_BYTES)} and {parent} has "
                f"{megabytes(free)} left; make room or choose another place"
            )

    def _parent(self) -> Path:
        """The folder it will be made in, or the nearest one above that is there."""
        parent = self.path.parent
        while not parent.exists() and parent != parent.parent:
            parent = parent.parent
        return parent


def megabytes(size: int) -> str:
    """A number of bytes for a sentence."""
    return f"{size / 1e6:,.0f} MB" if size < 10e9 else f"{size / 1e9:,.0f} GB"


def resolved(path: Path) -> Path:
    """Where a path leads, all links followed.

    Raises:
        DataError: if a link leads back to itself.
    """
    try:
        return path.resolve()
    except (RuntimeError, OSError):  # which of them depends on the version of Python
        raise DataError(f"{path} is a link that leads in a circle; name the file or folder itself") from None


def _exists(path: Path) -> bool:
    return path.exists() or path.is_symlink()


def _is_empty_folder(path: Path) -> bool:
    return path.is_dir() and not any(path.iterdir())


def _hidden(name: str) -> str:
    """A name for what will be called `name` later, which says what host and process makes it."""
    host = socket.gethostname().partition(".")[0]
    return f".{name[:100]}-{host}-{os.getpid()}-{os.urandom(4).hex()}"


def _sweep(path: Path) -> None:
    """Removes what processes of this host left beside `path` when they were killed."""
    host = socket.gethostname().partition(".")[0]
    name = f"{_literal(path.name[:100])}-{_literal(host)}-*-*"
    for left in [*path.parent.glob(f".{name}"), *path.parent.glob(f"..{name}")]:  # made, and made to make it
        maker = left.name.rsplit("-", 2)[-2]
        if maker.isdecimal() and not Path(f"/proc/{maker}").exists() and Path("/proc/self").exists():
            _remove(left)


def _literal(text: str) -> str:
    return "".join(f"[{character}]" if character in "*?[" else character for character in text)


def _put(made: Path, path: Path) -> None:
    """Moves `made` to `path`; what was there is at `made` afterwards or gone."""
    if not path.is_dir() or path.is_symlink() or _is_empty_folder(path):
        made.replace(path)
    elif not _exchange(made, path):
        # Without the system's help there is a moment in which neither is there; both are whole beside it.
        old = made.with_name(f"{made.name}-old")
        path.rename(old)
        made.rename(path)
        _remove(old)


def _exchange(one: Path, other: Path) -> bool:
    """Swaps two paths at once, where the system can (Linux)."""
    try:
        renameat2 = ctypes.CDLL(None, use_errno=True).renameat2
    except (OSError, AttributeError):
        return False
    return bool(renameat2(_HERE, os.fsencode(one), _HERE, os.fsencode(other), _EXCHANGE) == 0)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with suppress(OSError):
            path.unlink()


@contextmanager
def _unstopped() -> Iterator[None]:
    """Lets the first Ctrl-C or SIGTERM wait until the block is over; the second acts at once."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    asked: list[int] = []

    def wait(number: int, frame: FrameType | None) -> None:
        del frame
        if asked:
            raise KeyboardInterrupt
        asked.append(number)

    signals = (signal.SIGINT, signal.SIGTERM)
    before = [signal.signal(number, wait) for number in signals]
    try:
        yield
    finally:
        for number, handler in zip(signals, before, strict=True):
            signal.signal(number, handler)
    if asked:
        raise KeyboardInterrupt
