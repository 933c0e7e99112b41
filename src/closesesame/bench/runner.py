"""The driver on one machine: keeps worker processes on a store until nothing is left.

Whatever dies is taken back and done again: a worker that was killed or hangs is replaced, a driver that was
killed leaves workers that end by themselves, and the next run goes on where it was.
"""

import fcntl
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

from closesesame.core.errors import DataError

from .store import Store

POLL_S = 0.1
GRACE_S = 5.0
ENVIRONMENT = {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE", "PYTHONUNBUFFERED": "1"}
"""One thread each: two processes with two threads each are six times slower."""

Watcher = Callable[[Store], None]


@contextmanager
def only_driver(folder: Path) -> Iterator[Store]:
    """Opens a store for the one driver it may have, and takes back what an earlier one left in work.

    Raises:
        DataError: if another driver is at work.
    """
    store = Store(folder)
    with (folder / "driver.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise DataError(
                f"another run is at work in {folder}; wait for it, or use another store"
            ) from None
        for owner, _, _ in store.leased():
            store.release(owner, blame=False)
        for left in folder.glob("*/.making-*"):
            shutil.rmtree(left, ignore_errors=True)
        try:
            yield store
        finally:
            store.close()


@contextmanager
def stoppable() -> Iterator[None]:
    """Lets SIGTERM, and SIGINT even where a shell had it ignored, raise KeyboardInterrupt."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    signals = (signal.SIGINT, signal.SIGTERM)
    before = [signal.signal(number, signal.default_int_handler) for number in signals]
    try:
        yield
    finally:
        for number, handler in zip(signals, before, strict=True):
            signal.signal(number, handler)


def run(folder: Path, *, workers: int, timeout_s: float = 3600.0, watch: Watcher | None = None) -> None:
    """Works until every job is done or failed.

    Args:
        folder: the store's.
        workers: how many processes, one thread each.
        timeout_s: a job that takes longer is taken from its worker, which is replaced.
        watch: called again and again, to show what goes on.

    Raises:
        DataError: if another driver is at work there.
        KeyboardInterrupt: after everything was put back in order.
    """
    with stoppable(), only_driver(folder) as store:
        crew = _Crew(folder, store, timeout_s)
        try:
            while open_jobs(store):
                crew.replace_lost(workers)
                if watch is not None:
                    watch(store)
                time.sleep(POLL_S)
        finally:
            crew.dismiss()
            if watch is not None:
                watch(store)


def open_jobs(store: Store) -> int:
    """How many jobs are neither done nor failed."""
    counts = store.counts()
    return counts["pending"] + counts["leased"]


@dataclass
class _Crew:
    folder: Path
    store: Store
    timeout_s: float

    def __post_init__(self) -> None:
        self.hands: dict[str, subprocess.Popen[bytes]] = {}

    def replace_lost(self, workers: int) -> None:
        late = time.time() - self.timeout_s
        for owner, _, started in self.store.leased():
            if started < late and owner in self.hands:
                self.hands[owner].kill()
                self.hands[owner].wait()
        for owner, hand in list(self.hands.items()):
            if hand.poll() is not None:
                self.store.release(owner, blame=True)
                del self.hands[owner]
        while len(self.hands) < min(workers, open_jobs(self.store)):
            owner = f"worker-{uuid4().hex[:8]}"
            command = [sys.executable, "-m", "closesesame.bench.worker", str(self.folder), owner]
            log = (self.folder / "workers.log").open("ab")
            self.hands[owner] = subprocess.Popen(
                command, env=os.environ | ENVIRONMENT, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
            log.close()

    def dismiss(self) -> None:
        for hand in self.hands.values():
            if hand.poll() is None:
                hand.send_signal(signal.SIGTERM)
        end = time.monotonic() + GRACE_S
        for owner, hand in self.hands.items():
            try:
                hand.wait(max(0.0, end - time.monotonic()))
            except subprocess.TimeoutExpired:
                hand.kill()
                hand.wait()
            self.store.release(owner, blame=False)
