"""Progress of long work: silent in a library call, a live bar on standard error from the command line."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Generic, TypeVar

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

T = TypeVar("T")
_live: ContextVar[Progress | None] = ContextVar("closesesame_progress", default=None)


@contextmanager
def shown() -> Iterator[None]:
    """Shows every `Track` inside the block as a bar on standard error, if that is a terminal."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=30),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}", markup=False),
    )
    with Progress(*columns, console=console, transient=True) as bars:
        token = _live.set(bars)
        try:
            yield
        finally:
            _live.reset(token)


class Track(Generic[T]):
    """Iterates over `steps` and shows how far it is; `note` adds a few words such as the loss."""

    def __init__(self, steps: Iterable[T], what: str, total: int) -> None:
        self._steps, self._what, self._total = steps, what, total
        self._bars = _live.get()
        self._task = None if self._bars is None else self._bars.add_task(what, total=total, note="")

    def __iter__(self) -> Iterator[T]:
        try:
            for step in self._steps:
                yield step
                if self._bars is not None and self._task is not None:
                    self._bars.advance(self._task)
        finally:
            if self._bars is not None and self._task is not None:
                self._bars.remove_task(self._task)

    def note(self, words: str) -> None:
        """Shows a few words at the end of the bar."""
        if self._bars is not None and self._task is not None:
            self._bars.update(self._task, note=words)
