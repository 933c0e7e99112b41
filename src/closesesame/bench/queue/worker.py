"""A worker: claims a job, does it with one thread, records it, until there is none left."""

import argparse
import errno
import json
import os
import resource
import signal
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

from closesesame.core.errors import ClosesesameError, DataError
from closesesame.core.memory import keep_freed, release_freed
from closesesame.core.method import import_by_name

from .artifacts import ArtifactStore
from .store import Job, Outcome, Store

LOOK_S = 0.5
BEAT_S = 10.0
IDLE_S = 0.2
CANNOT_WORK = 75
"""Exit status of a worker that cannot work at all; its job is not to blame."""
FULL = {errno.ENOSPC, errno.EDQUOT}
Task = Callable[[Job, ArtifactStore], Any]


@dataclass(frozen=True)
class Scope:
    """What code a worker may run. The driver says it; no row of a store can add to it.

    Attributes:
        tasks: the modules whose `TABLE` holds tasks by name.
        imports: modules with methods that are not ours, which the recipe names.
    """

    tasks: tuple[str, ...] = ("closesesame.bench.tasks", "closesesame.bench.adversaries")
    imports: tuple[str, ...] = ()

    def words(self) -> list[str]:
        """The scope on the command line of a worker."""
        named = {"--tasks": self.tasks, "--import": self.imports}
        return [word for option, names in named.items() for name in names for word in (option, name)]

    def load(self) -> "Tasks":
        """Imports what may be run.

        Raises:
            SettingError: if a module cannot be imported.
        """
        for name in self.imports:
            import_by_name(name)
        tables = {module: import_by_name(module).TABLE for module in self.tasks}
        return Tasks(
            {f"{module}:{name}": task for module, table in tables.items() for name, task in table.items()}
        )


@dataclass(frozen=True)
class Tasks:
    """The tasks that may be run, as `module:function`: nothing is imported because a job names it."""

    table: Mapping[str, Task]

    def find(self, name: str) -> Task:
        """The task that a job names.

        Raises:
            DataError: if it is none of these.
        """
        if name not in self.table:
            raise DataError(
                f"the store asks for the task {name[:80]!r}, and only these are run: "
                f"{', '.join(self.table)}; plan the grid again in another store"
            )
        return self.table[name]


def main(folder: Path, owner: str, scope: Scope) -> None:
    """Works on the store in `folder` until nothing is left, or until the parent process is gone.

    Raises:
        ClosesesameError: if no work is possible here, or it cannot be recorded.
    """
    tasks, store, artifacts = scope.load(), Store(folder), ArtifactStore(folder)
    signal.signal(signal.SIGTERM, _stop)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the driver's to answer
    threading.Thread(target=_heartbeat, args=(folder, owner, os.getppid()), daemon=True).start()
    try:
        while True:
            job = store.claim(owner)
            if job is not None:
                store.finish(job.id, owner, perform(job, artifacts, tasks))
            elif _is_over(store):
                return
            else:
                time.sleep(IDLE_S)
    except SystemExit:
        store.release(owner)
        raise


def perform(job: Job, artifacts: ArtifactStore, tasks: Tasks) -> Outcome:
    """Does one job; an exception becomes an error in one sentence.

    Raises:
        DataError: if the disk is full, for which no job is to blame.
    """
    keep_freed()
    forget_peak()
    started = time.perf_counter()
    outcome = Outcome()
    try:
        result = tasks.find(job.task)(job, artifacts)
        json.dumps(result)  # here, where the job is to blame, and not when it is recorded
        outcome.result = result
    except ClosesesameError as error:
        outcome.error = _one_line(str(error))
    except OSError as error:
        if error.errno in FULL:
            raise DataError(
                f"{artifacts.folder}: the disk is full; make room and start 'sesame bench run' again: what "
                "is recorded is kept"
            ) from error
        outcome.error = _one_line(f"{error.filename or 'a file'}: {error.strerror or error}")
    except MemoryError:
        outcome.error = "the memory of this machine is not enough; use fewer workers"
    except Exception as error:
        outcome.error = _one_line(f"{type(error).__name__}: {error}")[:500]
    outcome.seconds = time.perf_counter() - started
    outcome.peak_mb = peak_mb()
    return outcome


def _one_line(text: str) -> str:
    """Without line breaks and without what is no UTF-8, as names of files may hold."""
    return " ".join(text.encode("utf-8", "replace").decode().split())


def _is_over(store: Store) -> bool:
    counts = store.counts()
    return not counts["pending"] and not counts["leased"]


def _stop(number: int, frame: FrameType | None) -> None:
    del frame
    sys.exit(128 + number)


def _heartbeat(folder: Path, owner: str, parent: int) -> None:
    """Renews the lease; a worker whose driver has ended stops, so that no job runs without one."""
    store = Store(folder)
    renewed = time.monotonic()
    while True:
        time.sleep(LOOK_S)
        if os.getppid() != parent:
            os._exit(1)
        if time.monotonic() - renewed > BEAT_S:
            with suppress(ClosesesameError):  # there are more beats before the lease runs out
                store.renew(owner)
            renewed = time.monotonic()


def forget_peak() -> None:
    """Starts the high-water mark of memory anew, where the system allows it (Linux)."""
    release_freed()
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


def _start(words: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(prog="closesesame.bench.queue.worker")
    parser.add_argument("folder", type=Path)
    parser.add_argument("owner")
    parser.add_argument("--tasks", action="append", required=True)
    parser.add_argument("--import", dest="imports", action="append", default=[])
    asked = parser.parse_args(words)
    try:
        main(asked.folder, asked.owner, Scope(tuple(asked.tasks), tuple(asked.imports)))
    except ClosesesameError as error:
        sys.stderr.write(f"{error}\n")
        sys.exit(CANNOT_WORK)


if __name__ == "__main__":
    _start(sys.argv[1:])
