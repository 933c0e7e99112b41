"""What the judge of each kind of artifact says of it, by the keys of `evaluation/measures.py`."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from closesesame.detection import Suspicion
from closesesame.evaluation import Exam, Screening, Trial
from closesesame.inspection import Verdict
from closesesame.models import Classifier
from closesesame.purification import Purifier


@dataclass(frozen=True)
class Truth:
    """What is kept from all methods; each part is made when a judge asks for it.

    Attributes:
        make_exam: makes the test set with its triggered clips.
        load_suspect: loads the model that purifiers stand in front of.
        read_mask: reads which training clips are poisoned, by id.
        read_target: reads the name of the target label; None if there is none, or not one alone.
        backdoored: whether the suspect was trained on poison.
    """

    make_exam: Callable[[], Exam]
    load_suspect: Callable[[], Classifier]
    read_mask: Callable[[], Mapping[str, bool]]
    read_target: Callable[[], str | None]
    backdoored: bool

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
    return _values(scores.as_json()) | {
        "test_clips": scores.acc.of,
        "triggered_clips": None if scores.asr is None else scores.asr.of,
    }


def _judge_purifier(purifier: Purifier, truth: Truth) -> dict[str, Any]:
    return _judge_model(purifier.before(truth.load_suspect()), truth)


def _judge_suspicion(suspicion: Suspicion, truth: Truth) -> dict[str, Any]:
    return _values(Screening(truth.read_mask()).score(suspicion).as_json())


def _values(figures: Mapping[str, Any]) -> dict[str, Any]:
    """Figures without what they were measured on."""
    return {key: None if figure is None else figure["value"] for key, figure in figures.items()}


def _judge_verdict(verdict: Verdict, truth: Truth) -> dict[str, Any]:
    return dict(Trial(truth.read_target(), backdoored=truth.backdoored).score(verdict).as_json())


JUDGES: dict[str, Callable[[Any, Truth], dict[str, Any]]] = {
    "model": _judge_model,
    "purifier": _judge_purifier,
    "suspicion": _judge_suspicion,
    "verdict": _judge_verdict,
}
"""By kind of artifact."""
