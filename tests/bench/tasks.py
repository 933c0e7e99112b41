"""Tasks for the tests of the engine."""

import errno
import os
import signal
import time
from typing import Any

from closesesame.bench.queue.artifacts import ArtifactStore
from closesesame.bench.queue.store import Job
from closesesame.bench.queue.worker import Task
from closesesame.core.errors import DataError


def empty(job: Job, artifacts: ArtifactStore) -> dict[str, Any]:
    """Nothing."""
    return {"number": job.payload["number"]}


def slow(job: Job, artifacts: ArtifactStore) -> dict[str, Any]:
    """Something that takes a while and leaves a file."""
    time.sleep(job.payload.get("seconds", 0.05))
    place = artifacts.keep(job.id, lambda folder: (folder / "x").write_text(job.payload["text"]))
    needed = [(artifacts.artifact(need) / "x").read_text() for need in sorted(job.needs)]
    return {"text": "".join([*needed, (place / "x").read_text()])}


def wrong(job: Job, artifacts: ArtifactStore) -> None:
    """An error of ours."""
    raise DataError("the clip is empty; remove it")


def broken(job: Job, artifacts: ArtifactStore) -> None:
    """An error of somebody else's, over two lines."""
    raise ValueError("first line\nsecond line")


def deadly(job: Job, artifacts: ArtifactStore) -> None:
    """Takes its worker with it."""
    os.kill(os.getpid(), signal.SIGKILL)


def deadly_once(job: Job, artifacts: ArtifactStore) -> dict[str, Any]:
    """Takes its worker with it the first time."""
    mark = artifacts.folder / f"tried-{job.id}"
    if not mark.exists():
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return {"text": "second time"}


def hanging(job: Job, artifacts: ArtifactStore) -> None:
    """Never ends."""
    time.sleep(3600)


def hungry(job: Job, artifacts: ArtifactStore) -> dict[str, Any]:
    """Takes some memory."""
    return {"bytes": len(bytearray(job.payload["bytes"]))}


def unspeakable(job: Job, artifacts: ArtifactStore) -> object:
    """A result that is no JSON."""
    return object()


def crowded(job: Job, artifacts: ArtifactStore) -> None:
    """Finds no room."""
    raise OSError(errno.ENOSPC, "No space left on device")


def quitting(job: Job, artifacts: ArtifactStore) -> None:
    """Ends its worker as if all was well."""
    raise SystemExit(0)


TABLE: dict[str, Task] = {
    task.__name__: task
    for task in (
        empty,
        slow,
        wrong,
        broken,
        deadly,
        deadly_once,
        hanging,
        hungry,
        unspeakable,
        crowded,
        quitting,
    )
}
