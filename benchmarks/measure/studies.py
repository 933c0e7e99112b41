"""Studies: jobs of a measurement that start from the models of a recipe, run and kept as a grid's are."""

import argparse
import os
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from closesesame.bench.cells import JudgeCell
from closesesame.bench.grid import open_store
from closesesame.bench.identity import Code, Contents, Machine, identity
from closesesame.bench.queue.runner import only_driver, run
from closesesame.bench.queue.store import Job, Row, Store
from closesesame.bench.queue.watch import watching
from closesesame.bench.queue.worker import Scope
from closesesame.bench.recipe import read_recipe
from closesesame.bench.stages import JUDGE, plan

from . import RECIPES, RESULTS

ROOT = Path(__file__).parents[2]
Rows = dict[str, Row]
"""Jobs of a store by id."""


@dataclass(frozen=True)
class Study:
    """One measurement.

    Attributes:
        module: whose `TABLE` holds its task.
        jobs: its own jobs, made from all jobs of the recipe, the first to do first.
        write: writes its result file from the jobs of the store and the ids of its own that are done.
    """

    module: str
    jobs: Callable[[list[Job]], list[Job]]
    write: Callable[[Rows, list[str], Path], object]

    def run(
        self,
        recipe: Path,
        data: Path,
        folder: Path,
        out: Path,
        *,
        workers: int,
        only: Sequence[str] = ("",),
        device: str = "cpu",
    ) -> bool:
        """Does what is missing, and writes the result file whenever a job of the study is done.

        Args:
            recipe: of the models.
            data: the folder that data sets and recordings lie in.
            folder: of the store; studies and grids may share one, and with it the models.
            out: the result file.
            workers: processes of one thread each.
            only: the study's jobs with one of these in their label are run; the file has whatever is known.
            device: where models are trained, `cpu` or `cuda`.

        Returns:
            Whether no job failed.
        """
        read = read_recipe(recipe)
        contents = Contents(folder / "contents.json")
        machine = Machine.here(read.protocol.precision, device)
        planned = plan(read, data, contents=contents, machine=machine)
        own = self.jobs(planned)
        wanted = [job for job in own if any(piece in job.label for piece in only)]
        if not wanted:
            raise SystemExit(f"no case of {read.name} has {' or '.join(map(repr, only))} in its label")
        needed = with_needs(wanted, planned)
        with only_driver(folder) as store:
            contents.save()
            store.add(needed)
            store.retry_failed()
            store.pause_all_but(job.id for job in needed)
        os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
        written = -1
        with watching(workers) as show:

            def watch(store: Store) -> None:
                nonlocal written
                show(store)
                done = store.counts()["done"]
                if done != written:
                    written = done
                    rows = {row.job.id: row for row in store.rows()}
                    known = [job.id for job in own if job.id in rows and rows[job.id].state == "done"]
                    if known:
                        self.write(rows, known, out)

            scope = Scope(tasks=(*Scope().tasks, self.module))
            run(folder, workers=workers, timeout_s=4 * 3600, scope=scope, watch=watch)
        with closing(open_store(folder)) as store:
            mine = {job.id for job in needed}
            failed = [row for row in store.rows() if row.error and row.job.id in mine]
        for row in failed:
            sys.stderr.write(f"{row.job.label}: {row.error}\n")
        return not failed

    def main(self, about: str) -> int:
        """The command line: where the data and the store lie, and what else can be chosen."""
        name = self.module.rpartition(".")[2]
        parser = argparse.ArgumentParser(
            prog=f"benchmarks {name}", description=about, formatter_class=argparse.RawDescriptionHelpFormatter
        )
        parser.add_argument("data", type=Path, help="folder that holds keywords10 and the recordings")
        parser.add_argument("store", type=Path, help="where models and results are kept")
        parser.add_argument("--recipe", type=Path, default=RECIPES / "studies" / f"{name}.toml")
        parser.add_argument("--out", type=Path, default=RESULTS / f"{name}.json", help="the result file")
        parser.add_argument(
            "--only", nargs="+", default=[""], help="run cases with one of these in their label, such as pbsm"
        )
        parser.add_argument("--workers", type=int, default=2, help="processes of one thread each")
        parser.add_argument(
            "--device", choices=("cpu", "cuda"), default="cpu", help="where models are trained"
        )
        given = parser.parse_args()
        fine = self.run(
            given.recipe,
            given.data,
            given.store,
            given.out,
            workers=given.workers,
            only=given.only,
            device=given.device,
        )
        return int(not fine)


@dataclass(frozen=True)
class Victim:
    """A poisoned suspect of a recipe.

    Attributes:
        judged: the job that measures it as it is.
        cell: what that job is given.
        repaired: the jobs that measure its repaired models, by what the repair is called.
    """

    judged: Job
    cell: JudgeCell
    repaired: dict[str, tuple[Job, JudgeCell]]

    def job(self, task: str, cell: JudgeCell, made: Mapping[str, str], uses: Sequence[str]) -> Job:
        """A job on this victim, and on what was made of it.

        Args:
            task: the module of a study and its function.
            cell: what the function is given.
            made: the jobs that it waits for, by what it calls them.
            uses: modules whose code it runs, besides its own.
        """
        module, function = task.split(":")
        return Job(
            id=identity(module, self.judged.id, made, Code().of(*uses)),
            task=task,
            payload=cell.payload(),
            needs=(*self.judged.needs, *made.values()),
            label=f"{function}: {self.judged.label.removeprefix('none: ')}",
        )


def victims_in(planned: Iterable[Job]) -> list[Victim]:
    """All poisoned suspects, in the order of the recipe."""
    jobs = [job for job in planned if job.task == JUDGE]
    cells = {job.id: JudgeCell.read(job.payload) for job in jobs}
    found: dict[str, Victim] = {}
    for job in jobs:
        cell = cells[job.id]
        if cell.method is None and cell.poisoned is not None:
            found[cell.suspect] = Victim(job, cell, {})
    for job in jobs:
        cell = cells[job.id]
        if cell.method is not None and cell.suspect in found:
            found[cell.suspect].repaired[cell.labels["method"]] = job, cell
    return list(found.values())


def with_needs(own: list[Job], planned: list[Job]) -> list[Job]:
    """The jobs, each behind all that it needs, and nothing else: a run that is stopped has whole cases."""
    known, found = {job.id: job for job in (*planned, *own)}, dict[str, Job]()

    def add(name: str) -> None:
        if name not in found:
            for need in known[name].needs:
                add(need)
            found[name] = known[name]

    for job in own:
        add(job.id)
    return list(found.values())
