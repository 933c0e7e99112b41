"""The contract of a removal: a model and a little clean data in, a repaired model out."""

import copy
import time
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import Any, ClassVar, final

from pydantic import Field

from closesesame.core.errors import DataError, ModelError
from closesesame.core.method import Method
from closesesame.data import Dataset
from closesesame.models import Classifier
from closesesame.training import accuracy


class Removal(Method, ABC):
    """A way to take a backdoor out of a trained model.

    It sees the model and clean examples: no trigger, no poison mask, no target label, no test set. What it
    must choose, it chooses on the held-out part of its clean examples, which it never trains on.
    """

    data_free: ClassVar[bool] = False
    """Whether it works without clean examples."""

    hold_out: float = Field(
        0.2, gt=0, lt=1, description="share of the clean set put aside to choose and check"
    )

    @final
    def remove(self, model: Classifier, clean: Dataset, seed: int) -> "Repair":
        """Repairs a copy of the model.

        Args:
            model: the suspect; it is not changed.
            clean: examples known to be clean, of the model's classes and shape.
            seed: of everything drawn.

        Raises:
            DataError: if the clean set is too small to hold anything out.
            ModelError: if the clean set does not fit the model.
        """
        _check_fit(model, clean)
        started = time.perf_counter()
        tune, held_out = clean.split(self.hold_out, seed)
        if len(held_out) < 1 or len(tune) < 2:
            raise DataError(f"{self.name} needs 4 clean examples or more, got {len(clean)}; record some")
        repaired = copy.deepcopy(model).requires_grad_(True)
        chosen = self.repair(repaired, tune, held_out, seed)
        return Repair(
            model=repaired.eval(),
            tuned_on=len(tune),
            held_out=len(held_out),
            acc_before=accuracy(model, held_out),
            acc_after=accuracy(repaired, held_out),
            seconds=time.perf_counter() - started,
            chosen=chosen,
        )

    @abstractmethod
    def repair(self, model: Classifier, tune: Dataset, held_out: Dataset, seed: int) -> dict[str, Any]:
        """Hook: repairs `model` in place and returns what was chosen on the way, by name.

        Args:
            model: a copy of the suspect.
            tune: clean examples to train on.
            held_out: clean examples to choose by.
            seed: of everything drawn.
        """


@dataclass(frozen=True)
class Repair:
    """A repaired model, and what the repair knows of itself.

    Attributes:
        model: the repaired model.
        tuned_on: clean examples used to repair.
        held_out: clean examples put aside.
        acc_before: clean accuracy of the suspect on the held-out examples.
        acc_after: clean accuracy of the repaired model on them. It does not show that a backdoor is gone.
        seconds: how long it took.
        chosen: what the method chose, such as how many units it pruned.
    """

    model: Classifier
    tuned_on: int
    held_out: int
    acc_before: float
    acc_after: float
    seconds: float
    chosen: dict[str, Any] = field(default_factory=dict)


def _check_fit(model: Classifier, clean: Dataset) -> None:
    card = model.card
    if (clean.input_shape, clean.sample_rate) != (card.input_shape, card.sample_rate):
        raise ModelError(
            f"the model takes {card.input_shape} at {card.sample_rate} Hz, the clean set holds "
            f"{clean.input_shape} at {clean.sample_rate} Hz; load it with the model's rate and duration"
        )
    if clean.classes != card.classes:
        raise ModelError(f"the model knows {list(card.classes)}, the clean set {list(clean.classes)}")
