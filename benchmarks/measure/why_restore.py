"""Why restore works: what a trigger does to the features of a model before and after its repair.

python -m benchmarks why_restore DATA STORE

Of each victim of the recipe: the victim, its repaired models, and the clean reference model. Killed, it goes
on where it was; models are shared with every study and grid in the same store.
"""

import sys
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from closesesame import __version__
from closesesame.bench.cells import JudgeCell
from closesesame.bench.queue.artifacts import ArtifactStore
from closesesame.bench.queue.store import Job
from closesesame.bench.queue.worker import Task
from closesesame.bench.results import write_result
from closesesame.bench.tasks import Result, as_planned, exam_of
from closesesame.core.machine import host
from closesesame.core.types import Labels, PerUnit
from closesesame.evaluation import Exam
from closesesame.evaluation.representations import cosines, linear_cka, weight_distance
from closesesame.models import Classifier, load_model
from closesesame.training.features import features_of

from .studies import Rows, Study, victims_in

NAME = "benchmarks.measure.why_restore"
USES = ("closesesame.evaluation.exam", "closesesame.evaluation.representations")
SUSPECT, REFERENCE = "victim", "clean reference model"
BINS = 20
MOST_POINTS = 60
ABOUT = (
    "Features are what enters the last layer. Cosine: of the features of a test clip with the trigger and "
    "without, a mean over the clips that are not of the target label; beside it the mean cosine of two clean "
    "clips of different classes. Nearest: the share of triggered clips whose features are nearest, by "
    "cosine, to the mean of the clean clips of the target label, and of their own. Distance: the norm of the "
    "change of all weights over the norm of the victim's. CKA (arXiv:1905.00414): how alike the features of "
    "clean clips are to the victim's."
)


class Compared(JudgeCell):
    """A victim as it is, and the jobs of its repaired models by what they are called."""

    repaired: dict[str, str]


def jobs(planned: list[Job]) -> list[Job]:
    """One job a victim, which waits for all its repairs."""
    made = []
    for victim in victims_in(planned):
        repaired = {name: cell.judged for name, (_, cell) in victim.repaired.items()}
        cell = Compared(**victim.cell.payload(), repaired=repaired)
        made.append(victim.job(f"{NAME}:compared", cell, repaired, USES))
    return made


@as_planned
def compared(job: Job, store: ArtifactStore) -> Result:
    """The figures of all models of one victim, and points to draw."""
    cell = Compared.read(job.payload)
    exam = exam_of(cell, store)
    places = {SUSPECT: cell.suspect, **cell.repaired, REFERENCE: cell.reference}
    models = {name: load_model(store.artifact(place)) for name, place in places.items()}
    where = {"data": cell.data.entry.name, "attack": cell.labels["attack"], "seed": cell.seed}
    rows, drawn = [], []
    for name, model in models.items():
        row, points = figures(model, models[SUSPECT], exam)
        rows.append(where | {"model": name} | row)
        drawn.append(where | {"model": name} | points)
    return {"rows": rows, "drawn": drawn}


def figures(model: Classifier, suspect: Classifier, exam: Exam) -> tuple[dict[str, Any], dict[str, Any]]:
    """The row of one model, and what is drawn of it."""
    trigger, triggered = exam.trigger, exam.triggered
    assert trigger is not None
    assert triggered is not None
    test, scores = exam.test, exam.score(model)
    assert scores.asr is not None
    assert scores.ra is not None
    clean, played = features_of(model, test), features_of(model, triggered)
    place = {name: row for row, name in enumerate(test.ids)}
    same = clean[[place[name] for name in triggered.ids]]
    turned = cosines(same, played)
    wanted = trigger.target_labels(triggered.labels, test.classes)
    nearest = nearest_class(played, class_means(clean, test.labels, len(test.classes)))
    row = {
        "acc": scores.acc.value,
        "asr": scores.asr.value,
        "ra": scores.ra.value,
        "cosine": float(turned.mean()),
        "cosine_of_classes": between_classes(clean, test.labels),
        "nearest_target": float((nearest == wanted).float().mean()),
        "nearest_own": float((nearest == triggered.labels).float().mean()),
        "distance": weight_distance(model, suspect),
        "cka": linear_cka(clean, features_of(suspect, test)),
    }
    target = test.labels == trigger.target
    axes, centre = plane_of(clean), clean.mean(0)
    parts = {"other": clean[~target], "target": clean[target], "triggered": played}
    points = {name: rounded((part[spread(len(part))] - centre) @ axes) for name, part in parts.items()}
    counts = torch.histc(turned.clamp(0, 1), BINS, 0, 1).int().tolist()
    return row, {"cosines": counts, **points}


def class_means(features: Float[Tensor, "n unit"], labels: Labels, classes: int) -> Float[Tensor, "c unit"]:
    """The mean of the features of each class, each scaled to length 1; NaN of a class without a clip."""
    ones = F.normalize(features)
    return torch.stack([ones[labels == label].mean(0) for label in range(classes)])


def nearest_class(features: Float[Tensor, "n unit"], means: Float[Tensor, "c unit"]) -> Labels:
    """The class whose mean has the highest cosine with the features, for each clip."""
    return (F.normalize(features) @ F.normalize(means).T).nan_to_num(-2).argmax(1)


def between_classes(features: Float[Tensor, "n unit"], labels: Labels) -> float:
    """The mean cosine of two clips of different classes."""
    ones = F.normalize(features)
    return float((ones @ ones.T)[labels[:, None] != labels].mean())


def plane_of(features: Float[Tensor, "n unit"]) -> Float[Tensor, "unit 2"]:
    """The first two principal axes, each with its largest part positive."""
    _, _, axes = torch.linalg.svd((features - features.mean(0)).double(), full_matrices=False)
    two = axes[:2]
    largest = two.gather(1, two.abs().argmax(1, keepdim=True))
    plane: Tensor = (two * largest.sign()).T.float()
    return plane


def spread(count: int) -> Tensor:
    """At most `MOST_POINTS` rows, evenly spread."""
    return torch.linspace(0, max(0, count - 1), min(MOST_POINTS, count)).long()


def rounded(points: PerUnit | Tensor) -> list[list[float]]:
    """Places (n, 2) as they stand in a file."""
    return [[float(f"{value:.3g}") for value in point] for point in points.tolist()]


def write(rows: Rows, done: list[str], out: Path) -> None:
    """Writes the rows, and behind them what is drawn."""
    results = [rows[name].result for name in done]
    content = {
        "recipe": out.stem,
        "about": ABOUT,
        "version": __version__,
        "host": host(),
        "rows": [row for result in results for row in result["rows"]],
        "drawn": [points for result in results for points in result["drawn"]],
    }
    write_result(content, out)


TABLE: dict[str, Task] = {"compared": compared}
STUDY = Study(NAME, jobs, write)


def main() -> int:
    """Runs the study."""
    return STUDY.main(sys.modules[__name__].__doc__ or "")
