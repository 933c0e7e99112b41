"""The driver on a Ray cluster (extra `ray`): the same jobs, each a Ray task; the store stays with the driver.

Artifacts travel with the tasks, so nodes need no common disk for them. Data sets are read where the task
runs: their folder must lie there under the same path, or the source be `synthetic`.
"""

import hashlib
import logging
import platform
import shutil
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

from closesesame.core.errors import DataError

from .artifacts import ArtifactStore
from .runner import ENVIRONMENT, Watcher, only_driver, open_jobs, stoppable
from .store import Job, Outcome, Store
from .worker import Scope, perform

POLL_S = 0.2
RENEW_S = 10.0
Files = dict[str, bytes]


def run_on_ray(
    folder: Path,
    address: str,
    *,
    workers: int,
    scope: Scope | None = None,
    watch: Watcher | None = None,
) -> None:
    """Works until every job is done or failed.

    Args:
        folder: the store's.
        address: of a cluster, or `local` for one of `workers` processes on this machine.
        workers: for `local`; a cluster gets as many tasks as it has processors.
        scope: what code the tasks may run, on every node; the tasks of grids if None.
        watch: called again and again, to show what goes on.

    Raises:
        DataError: if Ray is not installed, or another driver is at work there.
    """
    try:
        import ray
    except ImportError:
        raise DataError("--ray needs Ray; run: pip install ray") from None
    local = {"num_cpus": workers} if address == "local" else {"address": address}
    ray.init(
        **local,
        include_dashboard=False,
        log_to_driver=False,
        logging_level=logging.ERROR,
        runtime_env={"env_vars": ENVIRONMENT},
    )
    try:
        with stoppable(), only_driver(folder) as store:
            running_jobs = _Running(ray, folder, store, scope or Scope())
            running_jobs.work(watch)
    finally:
        ray.shutdown()
    if address == "local":
        shutil.rmtree(node_folder(running_jobs.grid), ignore_errors=True)


@dataclass
class _Running:
    ray: Any
    folder: Path
    store: Store
    scope: Scope

    def __post_init__(self) -> None:
        place = f"{platform.node()}:{self.folder.resolve()}"
        self.grid = hashlib.sha256(place.encode()).hexdigest()[:12]

    def work(self, watch: Watcher | None) -> None:
        far = self.ray.remote(max_retries=0, num_cpus=1)(perform_on_node)
        slots = int(self.ray.cluster_resources().get("CPU", 1))
        artifacts, running = ArtifactStore(self.folder), dict[Any, tuple[Job, str]]()
        renewed = time.monotonic()
        try:
            while open_jobs(self.store):
                while len(running) < slots:
                    owner = f"ray-{uuid4().hex[:8]}"
                    job = self.store.claim(owner)
                    if job is None:
                        break
                    needed = {need: pack(artifacts.artifact(need)) for need in job.needs}
                    running[far.remote(job, needed, self.grid, self.scope)] = job, owner
                if running:
                    ready, _ = self.ray.wait(list(running), timeout=POLL_S)
                    for reference in ready:
                        self._collect(reference, *running.pop(reference), artifacts)
                else:
                    time.sleep(POLL_S)
                if time.monotonic() - renewed > RENEW_S:
                    renewed = time.monotonic()
                    for _, owner in running.values():
                        self.store.renew(owner)
                if watch is not None:
                    watch(self.store)
        finally:
            for _, owner in running.values():
                self.store.release(owner)

    def _collect(self, reference: Any, job: Job, owner: str, artifacts: ArtifactStore) -> None:
        try:
            outcome, files = self.ray.get(reference)
        except self.ray.exceptions.RayTaskError as error:  # its modules are not there
            raise DataError(f"a node of Ray cannot work: {last_words(error)}") from None
        except self.ray.exceptions.RayError:
            self.store.release(owner, blame="its worker died; is there memory enough on every node?")
            return
        if files:
            artifacts.keep(job.id, lambda folder: unpack(files, folder))
        self.store.finish(job.id, owner, outcome)


def last_words(error: Exception) -> str:
    """The last line of an error, which is what a traceback of Ray ends with."""
    return (str(error).strip().splitlines() or [type(error).__name__])[-1]


def perform_on_node(job: Job, needed: dict[str, Files], grid: str, scope: Scope) -> tuple[Outcome, Files]:
    """Does one job on a node, in a folder of that node; returns its outcome and its files."""
    tasks = scope.load()
    artifacts = ArtifactStore(node_folder(grid))
    for need, files in needed.items():
        if files:
            artifacts.keep(need, lambda folder, files=files: unpack(files, folder))  # type: ignore[misc]
    outcome = perform(job, artifacts, tasks)
    return outcome, pack(artifacts.artifact(job.id))


def node_folder(grid: str) -> Path:
    """Where a node keeps what the tasks of a grid need and make."""
    return Path(tempfile.gettempdir()) / f"closesesame-{grid}"


def pack(folder: Path) -> Files:
    """The files of a folder, by name; none if there is no folder."""
    return {path.name: path.read_bytes() for path in folder.glob("*")}


def unpack(files: Files, folder: Path) -> None:
    """Writes packed files into a folder."""
    for name, content in files.items():
        (folder / name).write_bytes(content)
