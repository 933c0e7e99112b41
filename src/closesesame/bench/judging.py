"""The kinds of artifacts: how each is kept, and its figures by the keys of `evaluation/measures.py`."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from closesesame.detection import Suspicion, load_suspicion
from closesesame.evaluation import Exam, Screening, Trial
from closesesame.inspection import Verdict, load_verdict
from closesesame.models import Classifier, load_model, save_model
from closesesame.purification import Purifier
from closesesame.purification.files import load_purifier


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


def _judge_model(model: Classifier, truth: Truth) -> dict[str, Any]:
    scores = truth.exam.score(model)
    return values_of(scores.as_json()) | {
        "test_clips": scores.acc.of,
        "triggered_clips": None if scores.asr is None else scores.asr.of,
    }


def _judge_purifier(purifier: Purifier, truth: Truth) -> dict[str, Any]:
    return _judge_model(purifier.before(truth.load_suspect()), truth)


def _judge_suspicion(suspicion: Suspicion, truth: Truth) -> dict[str, Any]:
    poisoned = truth.read_mask()
    return values_of(Screening(poisoned).score(suspicion).as_json()) | {
        "clean_clips": sum(not bad for bad in poisoned.values())
    }


def values_of(figures: Mapping[str, Any]) -> dict[str, Any]:
    """Figures without what they were measured on."""
    return {key: None if figure is None else figure["value"] for key, figure in figures.items()}


def _judge_verdict(verdict: Verdict, truth: Truth) -> dict[str, Any]:
    return dict(Trial(truth.read_target(), backdoored=truth.backdoored).score(verdict).as_json())


@dataclass(frozen=True)
class Kind:
    """A kind of artifact.

    Attributes:
        save: writes one into a folder.
        load: reads one from its folder onto a device.
        judge: the figures of one.
        modules: the code of its judge, and of what reads it where that is no part of every job.
    """

    save: Callable[[Any, Path], object]
    load: Callable[[Path, str], Any]
    judge: Callable[[Any, Truth], dict[str, Any]]
    modules: tuple[str, ...]


EXAM = "closesesame.evaluation.exam"
KINDS = {
    "model": Kind(save_model, load_model, _judge_model, (EXAM,)),
    "purifier": Kind(Purifier.save, load_purifier, _judge_purifier, (EXAM, "closesesame.purification.files")),
    "suspicion": Kind(
        Suspicion.save,
        lambda folder, _: load_suspicion(folder),
        _judge_suspicion,
        ("closesesame.evaluation.screening",),
    ),
    "verdict": Kind(
        Verdict.save,
        lambda folder, _: load_verdict(folder),
        _judge_verdict,
        ("closesesame.evaluation.trial",),
    ),
}
"""Kinds of artifacts by name."""
