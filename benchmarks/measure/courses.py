"""The course of robust trainings: what the model knows after each epoch of each stage.

python -m benchmarks courses DATA STORE [--only plain] [--workers 2]

Beside ACC, ASR and RA on the test set stand the shares of clean and of poisoned training clips that get their
given label. Killed, it goes on where it was; triggers, poisoned sets and clean reference models are shared
with every study and grid in the same store.
"""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from closesesame.bench.cells import JudgeCell, MethodCell
from closesesame.bench.identity import Code, identity
from closesesame.bench.queue.artifacts import ArtifactStore
from closesesame.bench.queue.store import Job
from closesesame.bench.queue.worker import Task
from closesesame.bench.results import write_measured
from closesesame.bench.stages import JUDGE
from closesesame.bench.tasks import Result, as_planned, given_to, truth_of
from closesesame.core.types import Mask
from closesesame.data import Dataset
from closesesame.evaluation import Exam
from closesesame.models import Classifier
from closesesame.robust_training import ROBUST_TRAININGS
from closesesame.running import train
from closesesame.training import predict

from .studies import Rows, Study

NAME = "benchmarks.measure.courses"
USES = ("closesesame.robust_training", "closesesame.evaluation.exam")
FAMILY = "robust_training"
FIGURES = ("acc", "asr", "ra", "clean_fitted", "poisoned_fitted")
ABOUT = (
    "After each epoch of each stage: ACC, ASR and RA on the test set, and the shares of the clean and of the "
    "poisoned training clips that get their given label (fitted). A list of these a stage; the method sees "
    "none of them."
)


class Course(JudgeCell):
    """What the judge of a robust training knows, and the training."""

    training_cell: dict[str, Any]


def jobs(planned: list[Job]) -> list[Job]:
    """One job a robust training of the recipe; that of the clean set is watched with the first trigger."""
    code, known = Code().of(*USES), {job.id: job for job in planned}
    made: dict[str, Job] = {}
    for judged in planned:
        if judged.task != JUDGE:
            continue
        cell = JudgeCell.read(judged.payload)
        if cell.family != FAMILY or cell.judged in made:
            continue
        trained = known[cell.judged]
        needs = [cell.trigger, cell.reference, *trained.needs]
        made[trained.id] = Job(
            id=identity(NAME, trained.id, cell.trigger, cell.reference, code),
            task=f"{NAME}:watched",
            payload=Course(**cell.payload(), training_cell=trained.payload).payload(),
            needs=tuple(dict.fromkeys(needs)),
            label=f"course: {judged.label}",
        )
    return list(made.values())


@as_planned
def watched(job: Job, store: ArtifactStore) -> Result:
    """Trains once more, and measures after each epoch."""
    cell = Course.read(job.payload)
    plan, truth = MethodCell.read(cell.training_cell), truth_of(cell, store)
    given, seen = given_to(plan, store), dict[str, dict[str, list[float | None]]]()
    data = given.untrusted
    assert data is not None
    poisoned = mask_of(truth.read_mask(), data)

    def watch(stage: str, epoch: int, model: Classifier) -> None:
        del epoch
        found = figures(model, truth.exam, data, poisoned)
        for name in FIGURES:
            seen.setdefault(stage, {}).setdefault(name, []).append(found[name])

    robust = ROBUST_TRAININGS.recall(plan.method.name, plan.method.settings)
    made = train(robust, given, cell.seed, watch=watch)
    return {
        "data": cell.data.entry.name,
        "model": cell.labels["model"],
        "attack": cell.labels["attack"],
        "poisoning_rate": 0.0 if cell.poisoned is None else cell.attack.rate,
        "method": cell.labels["method"],
        "seed": cell.seed,
        "chosen": made.about["chosen"],
        "course": seen,
    }


def mask_of(poisoned: Mapping[str, bool], data: Dataset) -> Mask:
    """Which examples (n,) are poisoned."""
    return torch.tensor([poisoned[name] for name in data.ids])


def figures(model: Classifier, exam: Exam, data: Dataset, poisoned: Mask) -> dict[str, float | None]:
    """What a model knows; None of what there is not, such as poisoned clips at rate 0."""
    scores, fitted = exam.measure(model), predict(model, data).argmax(1) == data.labels
    return {
        "acc": scores.acc.value,
        "asr": None if scores.asr is None else scores.asr.value,
        "ra": None if scores.ra is None else scores.ra.value,
        "clean_fitted": float(fitted[~poisoned].float().mean()),
        "poisoned_fitted": float(fitted[poisoned].float().mean()) if poisoned.any() else None,
    }


def write(rows: Rows, done: list[str], out: Path) -> None:
    """Writes the courses that there are."""
    write_measured(out, [rows[name].result for name in done], ABOUT)


TABLE: dict[str, Task] = {"watched": watched}
STUDY = Study(NAME, jobs, write)


def main() -> int:
    """Runs the study."""
    return STUDY.main(sys.modules[__name__].__doc__ or "")
