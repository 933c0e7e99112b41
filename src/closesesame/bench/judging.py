"""What the judge of each kind of artifact says of it, by the keys of `evaluation/measures.py`."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from closesesame.evaluation import Exam
from closesesame.evaluation.measures import ACC, ASR, RA, RA_REFERENCE
from closesesame.models import Classifier


@dataclass(frozen=True)
class Truth:
    """What is kept from all methods; each part is made when a judge asks for it.

    Attributes:
        make_exam: makes the test set with its triggered clips.
        load_suspect: loads the model that purifiers stand before.
        poisoned: ids of the poisoned training clips.
        target: name of the target label; None if the suspect was never poisoned.
    """

    make_exam: Callable[[], Exam]
    load_suspect: Callable[[], Classifier]
    poisoned: frozenset[str]
    target: str | None

    @cached_property
    def exam(self) -> Exam:
        """The test set and its triggered clips."""
        return self.make_exam()


def judged_by(kind: str, artifact: Any, truth: Truth) -> dict[str, Any]:
    """The figures of an artifact.

    Args:
        kind: of the artifact, see `families.KINDS`.
        artifact: what a method made.
        truth: what the judge knows.
    """
    return JUDGES[kind](artifact, truth)


def _judge_model(model: Classifier, truth: Truth) -> dict[str, Any]:
    scores = truth.exam.score(model)
    rates = {ACC: scores.acc, ASR: scores.asr, RA: scores.ra, RA_REFERENCE: scores.ra_reference}
    found: dict[str, Any] = {
        measure.key: None if rate is None else rate.value for measure, rate in rates.items()
    }
    return found | {
        "test_clips": scores.acc.of,
        "triggered_clips": None if scores.asr is None else scores.asr.of,
    }


JUDGES: dict[str, Callable[[Any, Truth], dict[str, Any]]] = {"model": _judge_model}
"""By kind of artifact."""
