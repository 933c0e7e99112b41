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
from .worker import CANNOT_WORK, Scope

POLL_S = 0.25
GRACE_S = 5.0
MOST_DEATHS = 8
"""Workers that may end in a row through no job's fault, while no job is finished."""
LOG = "workers.log"
LOG_TAIL_BYTES = 4096
ENVIRONMENT = {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE", "PYTHONUNBUFFERED": "1"}
"""One thread each: two processes with two threads each are six times slower."""

Watcher = Callable[[Store], None]


@contextmanager
def only_driver(folder: Path) -> Iterator[Store]:
    """Opens a store for the one driver it may have, and takes back what an earlier one left in work.

    Raises:
        DataError: if another driver is at work, or the folder cannot be written.
    """
    store = Store(folder)
    try:
        lock = (folder / "driver.lock").open("w")
    except OSError as error:
        raise DataError(f"{folder} cannot be written ({error.strerror}); use another store") from None
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise DataError(
                f"another run is at work in {folder}; wait for it, or use another store"
            ) from None
        for owner, _, _ in store.leased():
            store.release(owner)
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


def run(
    folder: Path,
    *,
    workers: int,
    timeout_s: float = 3600.0,
    scope: Scope | None = None,
    watch: Watcher | None = None,
) -> None:
    """Works until every job is done or failed.

    Args:
        folder: the store's.
        workers: how many processes, one thread each.
        timeout_s: a job that takes longer is taken from its worker, which is replaced.
        scope: what code the workers may run; the tasks of grids if None.
        watch: called again and again, to show what goes on.

    Raises:
        DataError: if another driver is at work there, or workers cannot work.
        KeyboardInterrupt: after everything was put back in order.
    """
    with stoppable(), only_driver(folder) as store:
        workers_here = _Workers(folder, store, timeout_s, scope or Scope())
        try:
            while open_jobs(store):
                workers_here.replace_lost(workers)
                if watch is not None:
                    watch(store)
                time.sleep(POLL_S)
        finally:
            workers_here.stop()
            if watch is not None:
                watch(store)


def open_jobs(store: Store) -> int:
    """How many jobs are neither done nor failed."""
    counts = store.counts()
    return counts["pending"] + counts["leased"]


@dataclass
class _Workers:
    folder: Path
    store: Store
    timeout_s: float
    scope: Scope

    def __post_init__(self) -> None:
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self.deaths, self.finished = 0, -1
        log = self.folder / LOG
        self.log_start = log.stat().st_size if log.exists() else 0

    def replace_lost(self, workers: int) -> None:
        self._take_from_late()
        for owner, process in list(self.processes.items()):
            if process.poll() is not None:
                self._give_back(owner, process.returncode)
        while len(self.processes) < min(workers, open_jobs(self.store)):
            self._start_worker()

    def _take_from_late(self) -> None:
        late = time.time() - self.timeout_s
        for owner, _, started in self.store.leased():
            if started < late and owner in self.processes:
                process = self.processes.pop(owner)
                process.kill()
                process.wait()
                self.store.release(owner, blame=f"it took longer than --timeout-s {self.timeout_s:g}")

    def _give_back(self, owner: str, status: int) -> None:
        """Gives back the job of a worker that is gone.

        Raises:
            DataError: if it said that no work is possible, or is one of many in a row that ended through
                no job's fault.
        """
        del self.processes[owner]
        blame = "" if status == CANNOT_WORK else _how_it_ended(status)
        if self.store.release(owner, blame=blame) and blame:
            return
        counts = self.store.counts()
        finished = counts["done"] + counts["failed"]
        self.deaths = 1 if finished != self.finished else self.deaths + 1
        self.finished = finished
        if status == CANNOT_WORK or (self.deaths >= MOST_DEATHS and open_jobs(self.store)):
            said = last_line(self.folder / LOG, self.log_start) if status > 0 else ""
            raise DataError(f"no worker can work in {self.folder}: {said or _how_it_ended(status)}")

    def _start_worker(self) -> None:
        owner = f"worker-{uuid4().hex[:8]}"
        module = [sys.executable, "-P", "-m", "closesesame.bench.queue.worker"]
        try:
            with (self.folder / LOG).open("ab") as log:
                self.processes[owner] = subprocess.Popen(
                    [*module, str(self.folder), owner, *self.scope.words()],
                    env=os.environ | ENVIRONMENT,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                )
        except OSError as error:
            raise DataError(f"no worker can be started: {error.filename}: {error.strerror}") from None

    def stop(self) -> None:
        for process in self.processes.values():
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
        end = time.monotonic() + GRACE_S
        for process in self.processes.values():
            try:
                process.wait(max(0.0, end - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        for owner in self.processes:
            self.store.release(owner)


def _how_it_ended(status: int) -> str:
    """How a worker ended, as the middle of a sentence."""
    if status >= 0:
        return f"its worker ended with status {status}; see {LOG} in the store"
    try:
        name = signal.Signals(-status).name
    except ValueError:
        name = f"signal {-status}"
    hint = "; is there memory enough, or were fewer workers better?" if status == -signal.SIGKILL else ""
    return f"its worker was killed by {name}{hint}"


def last_line(log: Path, start: int) -> str:
    """The last line of a log that says something, behind the byte `start`; nothing if there is none."""
    try:
        with log.open("rb") as file:
            file.seek(max(start, log.stat().st_size - LOG_TAIL_BYTES))
            lines = file.read().decode(errors="replace").split("\n")
    except OSError:
        return ""
    return next((line.strip() for line in reversed(lines) if line.strip()), "")
