"""The live table of a run: what is done, what is in work, and how long it will take."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from .runner import Watcher
from .store import Store

LOG_EVERY_S = 30.0


@contextmanager
def watching(workers: int) -> Iterator[Watcher]:
    """A live table on a terminal; in a log, a line every half minute."""
    console = Console(stderr=True)
    if console.is_terminal:
        with Live(console=console, refresh_per_second=4) as live:
            yield lambda store: live.update(_table(store, workers))
        return
    last = time.monotonic()

    def log(store: Store) -> None:
        nonlocal last
        if time.monotonic() - last > LOG_EVERY_S:
            last = time.monotonic()
            console.print(Text(_summary(store, workers)), soft_wrap=True)

    yield log


def _summary(store: Store, workers: int) -> str:
    counts = store.counts()
    waiting = counts["pending"] + counts["leased"]
    left_s = sum(mean * number for mean, number in store.seconds_by_task().values()) / workers
    left = f", about {_clock(left_s)} left" if waiting and left_s else ""
    return f"{counts['done']} jobs done, {counts['failed']} failed, {waiting} to do{left}"


def _table(store: Store, workers: int) -> Table:
    table = Table(title=_summary(store, workers), title_justify="left", box=None, show_header=False)
    for owner, label, started in store.leased():
        table.add_row(Text(owner), Text(_clock(time.time() - started)), Text(label))
    return table


def _clock(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
