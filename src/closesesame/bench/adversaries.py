"""What the job does that measures a model and then attacks it again, in grids with `adversaries = true`.

It stands apart from the other tasks because the code of these is part of the identity of every job.
"""

from closesesame.evaluation.adversaries import attack_again
from closesesame.evaluation.attacker import Attacker
from closesesame.models import load_model

from .cells import JudgeCell
from .queue.artifacts import ArtifactStore
from .queue.store import Job
from .queue.worker import Task
from .tasks import Result, as_planned, exam_of, judge, load_data


@as_planned
def judge_and_attack(job: Job, store: ArtifactStore) -> Result:
    """As `judge`; the attacker has the training part as it was before it was poisoned."""
    cell = JudgeCell.read(job.payload)
    found: Result = judge(job, store)
    exam = exam_of(cell, store)
    assert exam.trigger is not None
    model = load_model(store.artifact(cell.judged), cell.machine["device"])
    attacker = Attacker(exam.trigger, load_data(cell, store).train)
    figures = attack_again(model, exam, attacker, seed=cell.seed)
    return found | {key: figure["value"] for key, figure in figures.items()}


TABLE: dict[str, Task] = {task.__name__: task for task in (judge_and_attack,)}
"""The tasks of this module."""
