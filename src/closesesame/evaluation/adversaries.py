"""Two attacks on a model that may have been repaired, and its clean reference model beside it."""

from typing import Any

from torch import nn

from .attacker import Attacker
from .exam import Exam
from .measures import ADVERSARIES
from .reactivation import reactivate
from .retuning import retune


def attack_again(model: nn.Module, exam: Exam, attacker: Attacker, *, seed: int = 0) -> dict[str, Any]:
    """ASR after retuning and with reactivation, at the defaults of both.

    Args:
        model: any module; it is left as it was.
        exam: with the attacker's trigger.
        attacker: what draws the clips that the attacks work with.
        seed: of all draws.

    Returns:
        Each rate with its clips and interval, by the keys of `evaluation/measures.py`.

    Raises:
        DataError: if the exam has no trigger, or the attacker too few clips.
        ModelError: if the model does not fit the clips, or passes no gradient on to its inputs.
    """
    return (
        retune(model, exam, attacker, seed=seed).as_json()
        | reactivate(model, exam, attacker, seed=seed).as_json()
    )


def beside(found: dict[str, Any]) -> dict[str, Any]:
    """What `attack_again` found of the clean reference model, by the keys that other models have for it."""
    return {other.key: found[own.key] for own, other in ADVERSARIES.items()}
