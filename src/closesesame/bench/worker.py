"""A worker: claims a job, does it with one thread, records it, until there is none left."""

import importlib
import os
import resource
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

from closesesame.core.errors import ClosesesameError

from .store import Job, Outcome, Store
from .workplace import Workplace

LOOK_S = 0.5
BEAT_S = 10.0
IDLE_S = 0.2
Task = Callable[[Job, Workplace], Any]


def main(folder: Path, owner: str) -> None:
    """Works on the store in `folder` until nothing is left, or until the parent process is gone."""
    store, workplace = Store(folder), Workplace(folder)
    signal.signal(signal.SIGTERM, _stop)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the driver's to answer
    threading.Thread(target=_beat, args=(folder, owner, os.getppid()), daemon=True).start()
    try:
        while True:
            job = store.claim(owner)
            if job is not None:
                store.finish(job.id, owner, perform(job, workplace))
            elif _is_over(store):
                return
            else:
                time.sleep(IDLE_S)
    except SystemExit:
        store.release(owner, blame=False)
        raise


def perform(job: Job, workplace: Workplace) -> Outcome:
    """Does one job; an exception becomes an error in one sentence."""
    started = time.perf_counter()
    _forget_peak()
    outcome = Outcome()
    try:
        module, _, name = job.task.partition(":")
        task: Task = getattr(importlib.import_module(module), name)
        outcome.result = task(job, workplace)
    except ClosesesameError as error:
        outcome.error = str(error)
    except Exception as error:
        outcome.error = " ".join(f"{type(error).__name__}: {error}".split())[:500]
    outcome.seconds = time.perf_counter() - started
    outcome.peak_mb = peak_mb()
    return outcome


def _is_over(store: Store) -> bool:
    counts = store.counts()
    return not counts["pending"] and not counts["leased"]


def _stop(number: int, frame: FrameType | None) -> None:
    del frame
    sys.exit(128 + number)


def _beat(folder: Path, owner: str, parent: int) -> None:
    """Renews the lease; a worker whose driver is gone ends at once, so that nobody works behind its back."""
    store = Store(folder)
    renewed = time.monotonic()
    while True:
        time.sleep(LOOK_S)
        if os.getppid() != parent:
            os._exit(1)
        if time.monotonic() - renewed > BEAT_S:
            store.renew(owner)
            renewed = time.monotonic()


def _forget_peak() -> None:
    """Starts the high-water mark of memory anew, where the system allows it (Linux)."""
    try:
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    except OSError:
        return


def peak_mb() -> float:
    """Peak resident memory of this process in MB, of the last job where the system can tell."""
    try:
        lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024
    except (OSError, StopIteration):
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
