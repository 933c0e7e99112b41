"""Why rows of ASAP's main table equal the victim's: what its defences leave of a trigger.

python -m benchmarks why_asap DATA STORE
python -m benchmarks why_asap DATA STORE --recipe RECIPE --out FILE    for `why_asap_sounds`, say

Of each victim of the recipe, a row for each defence. Killed, it goes on where it was; models are shared with
every study and grid in the same store.
"""

import sys
from pathlib import Path
from typing import Any

import torch
from torch import nn

from closesesame.audio.effects import rms
from closesesame.bench.cells import JudgeCell, MethodPlan
from closesesame.bench.judging import KINDS, Truth
from closesesame.bench.queue.artifacts import ArtifactStore
from closesesame.bench.queue.store import Job
from closesesame.bench.queue.worker import Task
from closesesame.bench.results import write_measured
from closesesame.bench.tasks import Result, as_planned, truth_of, untrusted_set
from closesesame.core.seeding import derive
from closesesame.data import Dataset
from closesesame.detection import DETECTIONS
from closesesame.evaluation import Exam
from closesesame.evaluation.stealth import spread
from closesesame.families import BY_NAME
from closesesame.models import Classifier
from closesesame.models.channels import head_in
from closesesame.purification import Purifier
from closesesame.robust_training import Screened

from .studies import Rows, Study, victims_in

NAME = "benchmarks.measure.why_asap"
USES = ("closesesame.evaluation.exam", "closesesame.models.channels", Screened.__module__)
CLIPS = 90
ABOUT = (
    "Lowered: by how much the purifier in front lowers what the trigger adds to a clip, which is the "
    f"difference between the clip with and without it; a median over {CLIPS} test clips. Pruned: units that "
    "enter the last layer and are cut off. Dropped: the training clips that activation clustering finds most "
    "suspicious, asked of the victim, and how many of the poisoned ones are among them."
)


class Defended(JudgeCell):
    """A victim, and its defences by what they are called: the family, the method and the job that ran it."""

    defences: dict[str, tuple[str, MethodPlan, str]]


def jobs(planned: list[Job]) -> list[Job]:
    """One job a victim, which waits for all its defences."""
    made = []
    for victim in victims_in(planned):
        defences = {
            label: (cell.family, cell.method, cell.judged)
            for label, (_, cell) in victim.repaired.items()
            if cell.method is not None
        }
        ran = {label: job for label, (_, _, job) in defences.items()}
        cell = Defended(**victim.cell.payload(), defences=defences)
        made.append(victim.job(f"{NAME}:left", cell, ran, USES))
    return made


@as_planned
def left(job: Job, store: ArtifactStore) -> Result:
    """A row for each defence of one victim."""
    cell = Defended.read(job.payload)
    truth = truth_of(cell, store)
    where = {"data": cell.data.entry.name, "attack": cell.labels["attack"], "seed": cell.seed}
    rows = []
    for label, (family, plan, made) in cell.defences.items():
        method = BY_NAME[family].registry.recall(plan.name, plan.settings)
        if isinstance(method, Screened):
            figures = dropped(method, truth, untrusted_set(cell, cell.poisoned, store), cell.seed)
        else:
            network = KINDS[BY_NAME[family].makes].load(store.artifact(made), cell.machine["device"])
            figures = changed(network, truth)
        rows.append(where | {"defence": label} | figures)
    return {"rows": rows}


def dropped(method: Screened, truth: Truth, untrusted: Dataset, seed: int) -> dict[str, Any]:
    """What is dropped if the victim is asked; the first training of the method is that of the victim."""
    detection = DETECTIONS.recall(method.detection, method.detection_settings)
    found = detection.score(truth.load_suspect(), untrusted, None, derive(seed, "detection"))
    assert method.dropped_share is not None
    count = round(method.dropped_share * len(untrusted))
    poisoned = truth.read_mask()
    gone = found.scores.argsort(descending=True)[:count].tolist()
    return {
        "dropped": count,
        "poisoned": sum(poisoned.values()),
        "poisoned_and_dropped": sum(poisoned[untrusted.ids[row]] for row in gone),
    }


def changed(network: nn.Module, truth: Truth) -> dict[str, Any]:
    """What a purifier, or a repaired model and the one in front of it, makes of the trigger."""
    figures: dict[str, Any] = {}
    for purifier in (part for part in network.modules() if isinstance(part, Purifier)):
        figures["lowered_dB"] = lowered_db(purifier, truth.exam)
    if isinstance(network, Classifier):
        weight = head_in(network).weight
        figures |= {"pruned": int((weight == 0).all(0).sum()), "units": weight.shape[1]}
    return figures


@torch.no_grad()
def lowered_db(purifier: Purifier, exam: Exam) -> float:
    """By how much what a trigger adds to a clip is lower behind a purifier; a median over clips."""
    assert exam.triggered is not None
    clean, triggered = exam.pairs(spread(len(exam.triggered), CLIPS))
    before = rms(triggered.inputs[:] - clean.inputs[:])
    after = rms(purifier(triggered.inputs[:]) - purifier(clean.inputs[:]))
    return float((20 * (before / after).log10()).median())


def write(rows: Rows, done: list[str], out: Path) -> None:
    """Writes the rows of all victims that are done."""
    write_measured(out, [row for name in done for row in rows[name].result["rows"]], ABOUT)


TABLE: dict[str, Task] = {"left": left}
STUDY = Study(NAME, jobs, write)


def main() -> int:
    """Runs the study."""
    return STUDY.main(sys.modules[__name__].__doc__ or "")
