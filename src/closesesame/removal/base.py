"""The contract of a removal: a model and a little clean data in, a repaired model out."""

import copy
import time
import warnings
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import Any, ClassVar, final

from pydantic import Field
from torch import nn

from closesesame.core.errors import DataError, DataWarning, DivergedError
from closesesame.core.evidence import Evidence
from closesesame.core.method import Method
from closesesame.core.settings import default
from closesesame.data import Dataset
from closesesame.models import Classifier
from closesesame.models.matching import as_classifier, data_for, few, no_examples
from closesesame.training import Training, accuracy
from closesesame.training.settings import Augmentation, Optimizer, Schedule


class Removal(Method, ABC):
    """A way to remove a backdoor from a trained model.

    It sees the model and clean examples: no trigger, no poison mask, no target label, no test set. What it
    must choose, it chooses on the held-out part of its clean examples, which it never trains on.
    """

    data_free: ClassVar[bool] = False
    """Whether it works without clean examples."""
    untrusted: ClassVar[bool] = False
    """Whether its examples are those of the untrusted training set, poison among them, not clean ones."""
    requires: ClassVar[str] = ""
    """What a model must have to be repaired, if not every model has it."""
    cost: ClassVar[str] = "less than training the model"
    """How long it takes, if longer than training the model took."""

    hold_out: float = Field(
        0.2, gt=0, lt=1, description="share of the clean set put aside to choose and check, by whole speakers"
    )

    @classmethod
    def claims_in_words(cls) -> dict[str, str]:
        """What it needs, and how long it takes."""
        data = "clean clips"
        if cls.untrusted:
            data = "the untrusted training set, poison among it, instead of clean clips"
        elif cls.data_free:
            data = "no clips at all"
        return {
            "needs": data + (f"; a model with {cls.requires}" if cls.requires else ""),
            "takes": cls.cost,
        }

    @final
    def remove(self, model: nn.Module, clean: Dataset | None, seed: int) -> "Repair":
        """Repairs a copy of the model.

        Args:
            model: the suspect; it is not changed. Any module from inputs to logits will do; see `adapt` for
                one that wants features.
            clean: examples known to be clean, of classes that the model knows, in any order; may be None for
                a method that is `data_free` if the model is one of ours.
            seed: of everything drawn.

        Raises:
            DataError: if the clean set is missing, or too small to hold anything out.
            ModelError: if the clean set does not fit the model, or the model lacks what the method needs.
            DivergedError: if the repaired weights are no numbers.

        Warns:
            DataWarning: if a class of the model has no clean example.
        """
        suspect = as_classifier(model, clean)
        clean = no_examples(suspect.card) if clean is None else data_for(suspect.card, clean)
        started = time.perf_counter()
        tune, held_out = self.divide(clean, seed)
        if not self.data_free and (len(held_out) < 1 or len(tune) < 2):
            raise DataError(
                f"{self.name} needs 4 clean examples or more, got {len(clean)}: it trains on most and checks "
                "on the rest"
            )
        missing = clean.missing() if len(clean) else ()
        if missing:
            warnings.warn(missing_sentence(missing, len(clean.classes)), DataWarning, stacklevel=2)
        repaired = copy.deepcopy(suspect).requires_grad_(True).eval()
        chosen = self.repair(repaired, tune, held_out, seed)
        if not all(value.float().isfinite().all() for value in repaired.state_dict().values()):
            raise DivergedError(
                f"{self.name} left weights that are NaN or infinite; lower its lr or its steps"
            )
        return Repair(
            model=repaired.eval(),
            missing=missing,
            unchecked=tuple(name for name in held_out.missing() if name not in missing),
            tuned_on=len(tune),
            held_out=len(held_out),
            acc_before=accuracy(suspect, held_out) if len(held_out) else None,
            acc_after=accuracy(repaired, held_out) if len(held_out) else None,
            seconds=time.perf_counter() - started,
            chosen=chosen,
        )

    @final
    def divide(self, clean: Dataset, seed: int) -> tuple[Dataset, Dataset]:
        """Divides a clean set as `remove` does with the same seed: (to train on, held out)."""
        return clean.hold_out(self.hold_out, seed) if len(clean) else (clean, clean)

    def evidence(self, model: Classifier, clean: Dataset, seed: int) -> Evidence | None:
        """Hook: what the method sees in a model, to be drawn; None if it has nothing to show.

        Args:
            model: the suspect; it is not changed.
            clean: examples known to be clean.
            seed: of everything drawn.
        """
        del model, clean, seed
        return None

    @abstractmethod
    def repair(self, model: Classifier, tune: Dataset, held_out: Dataset, seed: int) -> dict[str, Any]:
        """Hook: repairs `model` in place and returns what was chosen on the way, by name.

        Args:
            model: a copy of the suspect, in evaluation mode.
            tune: clean examples to train on; without rows if there are none and the method is data-free.
            held_out: clean examples to choose by.
            seed: of everything drawn.
        """


class FineTuning(Removal, ABC):
    """A removal that trains on the clean examples: the settings of that training.

    The defaults are those of BackdoorBench, arXiv:2206.12654, and its length: 100 epochs over 2,500 examples
    in batches of 256 are 1,000 steps. A method takes as many steps as its authors take on their own data: as
    many epochs over a hundred clips would be a tenth of the training.
    """

    quick: ClassVar[dict[str, Any]] = {"steps": 2}

    optimizer: Optimizer = default(Training, "optimizer", "sgd", description="SGD with momentum, or AdamW")
    lr: float = default(Training, "lr", 0.01)
    steps: int = Field(1000, ge=0, le=1_000_000, description="batches in all")
    batch_size: int = default(Training, "batch_size", 256)
    momentum: float = default(Training, "momentum", 0.9)
    nesterov: bool = default(Training, "nesterov", False)
    weight_decay: float = default(Training, "weight_decay", 5e-4)
    schedule: Schedule = default(Training, "schedule", "cosine")
    augmentation: Augmentation = default(Training, "augmentation", "light")

    def training(self, **changes: object) -> Training:
        """The settings as one run, with some changed."""
        own = {name: getattr(self, name) for name in FineTuning.model_fields if name in Training.model_fields}
        return Training(**(own | changes))


@dataclass(frozen=True)
class Repair:
    """A repaired model, and what the repair knows of itself.

    Attributes:
        model: the repaired model; if the suspect was a module of your own, its `body` is that, repaired.
        tuned_on: clean examples used to repair.
        held_out: clean examples put aside.
        acc_before: clean accuracy of the suspect on the held-out examples, None if there are none.
        acc_after: clean accuracy of the repaired model on them. It does not show that a backdoor is gone.
        seconds: how long it took.
        chosen: what the method chose, such as how many units it pruned.
        missing: classes of the model without a clean example: the repair may cost all they had.
        unchecked: further classes without a held-out example, so nothing is known of their accuracy.
    """

    model: Classifier
    tuned_on: int
    held_out: int
    acc_before: float | None
    acc_after: float | None
    seconds: float
    chosen: dict[str, Any] = field(default_factory=dict)
    missing: tuple[str, ...] = ()
    unchecked: tuple[str, ...] = ()

    @property
    def harm(self) -> str | None:
        """A sentence if the repair cost more than chance: two or more of the held-out examples."""
        if self.lost < 2:
            return None
        return (
            f"The repair turned {self.lost} of {self.held_out} held-out clips wrong: do not use this model; "
            "try milder settings, another method or more clean clips."
        )

    @property
    def lost(self) -> int:
        """How many more of the held-out examples are wrong than before; below 0 if fewer are."""
        if self.acc_before is None or self.acc_after is None:
            return 0
        return round((self.acc_before - self.acc_after) * self.held_out)


def missing_sentence(missing: tuple[str, ...], classes: int) -> str:
    """What it means that classes have no clean example."""
    return (
        f"the clean set has no example of {len(missing)} of {classes} classes ({few(missing)}): a repair may "
        "make the model forget them, and nothing would show it; add some"
    )
