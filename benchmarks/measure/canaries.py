"""How well do canaries predict the attacker's ASR after a repair? Many victims, repairs of three strengths.

python -m benchmarks canaries DATA STORE [--only resnet "small_cnn, seed 0"] [--workers 2]

One row a victim and repair. A longer list of seeds, attacks or models in the recipe makes more rows, and what
is measured is kept. Killed, it goes on where it was; models are shared with every study and grid in the same
store.
"""

import sys
from pathlib import Path
from typing import Any

from closesesame.bench.cells import MethodCell
from closesesame.bench.identity import Code, identity
from closesesame.bench.queue.artifacts import ArtifactStore
from closesesame.bench.queue.store import Job
from closesesame.bench.queue.worker import Task
from closesesame.bench.results import write_measured
from closesesame.bench.tasks import Result, as_planned, given_to
from closesesame.evaluation import CanaryReport, examine
from closesesame.evaluation.canaries import read_canaries
from closesesame.models import load_model
from closesesame.removal import REMOVALS

from .studies import Rows, Study, victims_in

NAME = "benchmarks.measure.canaries"
USES = ("closesesame.evaluation.canaries",)
ABOUT = (
    "ASR, RA and ACC are those of the attacker's trigger, on the test clips; before is the victim as it is. "
    "Canaries are planted in a copy of the victim and measured on held-out clips: their ASR is a mean over "
    "those that were planted (ASR of 80 % or more), less their bias. Behind it stands the same of each "
    "canary; empty if it was not planted."
)


class Examined(MethodCell):
    """What a repair was given, and what measures it.

    Attributes:
        repaired: the job of the repair.
        judged: the job that measures the repaired model.
        judged_before: the job that measures the victim.
        labels: what model, attack and method are called.
        target: the target label, by name or by index.
    """

    repaired: str
    judged: str
    judged_before: str
    labels: dict[str, str]
    target: int | str


def jobs(planned: list[Job]) -> list[Job]:
    """One job a victim and repair; models take turns, so that a short run has seen all attacks."""
    code, known, made = Code().of(*USES), {job.id: job for job in planned}, []
    for victim in victims_in(planned):
        for judged, cell in victim.repaired.values():
            repair = known[cell.judged]
            given = Examined(
                **repair.payload,
                repaired=repair.id,
                judged=judged.id,
                judged_before=victim.judged.id,
                labels=cell.labels,
                target=cell.attack.all_settings["target"],
            )
            made.append(
                Job(
                    id=identity(NAME, repair.id, code),
                    task=f"{NAME}:examined",
                    payload=given.payload(),
                    needs=(repair.id, judged.id, victim.judged.id),
                    label=f"canaries: {judged.label}",
                )
            )
    attacks = list(dict.fromkeys(job.payload["labels"]["attack"] for job in made))
    return sorted(made, key=lambda job: (job.payload["seed"], attacks.index(job.payload["labels"]["attack"])))


@as_planned
def examined(job: Job, store: ArtifactStore) -> Result:
    """What canaries say of the repair, with the clips and the seed that it had."""
    cell = Examined.read(job.payload)
    given = given_to(cell, store)
    assert given.suspect is not None
    assert given.clean is not None
    report = examine(
        REMOVALS.recall(cell.method.name, cell.method.settings),
        given.suspect,
        given.clean,
        cell.seed,
        repaired=load_model(store.artifact(cell.repaired), cell.machine["device"]),
    )
    return {"canaries": report.model_dump(mode="json")}


def row_of(name: str, rows: Rows) -> dict[str, Any]:
    """The row of one job, with what the judges of its models found."""
    cell = Examined.read(rows[name].job.payload)
    report = read_canaries(rows[name].result["canaries"])
    assert report is not None
    after, before = rows[cell.judged].result, rows[cell.judged_before].result
    repair = rows[cell.repaired]
    return {
        "data": cell.data.entry.name,
        "model": cell.labels["model"],
        "attack": cell.labels["attack"],
        "target": cell.target,
        "seed": cell.seed,
        "repair": cell.labels["method"],
        "acc_before": before["acc"],
        "asr_before": before["asr"],
        "acc": after["acc"],
        "asr": after["asr"],
        "ra": after["ra"],
        "ra_reference": after["ra_reference"],
        "triggered_clips": after["triggered_clips"],
        "clean_clips": repair.result["tuned_on"] + repair.result["held_out"],
        **canaries_in(report),
        "seconds_of_repair": repair.result["seconds"],
        "seconds_of_canaries": report.seconds,
    }


def canaries_in(report: CanaryReport) -> dict[str, Any]:
    """The figures of a report as fields of a row; None where no canary was planted."""
    each = {
        f"{one.family}, above bias": (
            None if one.verdict == "not planted" else one.rates["after"].value - one.rates["bias"].value
        )
        for one in report.canaries
    }
    some = bool(report.planted)
    return {
        "held_out_clips": report.held_out,
        "planted": len(report.planted),
        "removed": len(report.removed),
        "unclear": len(report.unclear),
        "canary_asr_planted": report.mean("planted") if some else None,
        "canary_asr_above_bias": report.mean("after") - report.mean("bias") if some else None,
        **each,
        "acc_of_planted_copy": report.acc_planted,
    }


def write(rows: Rows, done: list[str], out: Path) -> None:
    """Writes the rows that are known."""
    write_measured(out, [row_of(name, rows) for name in done], ABOUT)


TABLE: dict[str, Task] = {"examined": examined}
STUDY = Study(NAME, jobs, write)


def main() -> int:
    """Runs the study."""
    return STUDY.main(sys.modules[__name__].__doc__ or "")
