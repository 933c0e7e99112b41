"""The contract of a removal: a model and a little clean data in, a repaired model out."""

import copy
import time
import warnings
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import Any, ClassVar, final

import torch
from pydantic import Field
from torch import Tensor, nn

from closesesame.core.errors import DataError, DataWarning, DivergedError, ModelError
from closesesame.core.settings import default
from closesesame.data import Dataset
from closesesame.data.hold_out import HoldsOut
from closesesame.models import Classifier
from closesesame.models.frozen import frozen_weights, make_trainable
from closesesame.models.matching import (
    Answers,
    as_classifier,
    check_inputs,
    data_for,
    no_examples,
    say_missing,
)
from closesesame.training import Training, accuracy
from closesesame.training.settings import Augmentation, Optimizer, Schedule


class Removal(HoldsOut, ABC):
    """A way to remove a backdoor from a trained model.

    It sees the model and clean examples: no trigger, no poison mask, no target label, no test set. What it
    must choose, it chooses on the held-out part of its clean examples, which it never trains on.
    """

    untrusted: ClassVar[bool] = False
    """Whether its examples are those of the untrusted training set, poison among them, not clean ones."""
    requires: ClassVar[str] = ""
    """What a model must have to be repaired, if not every model has it."""
    cost: ClassVar[str] = "less than training the model"
    """How long it takes, if longer than training the model took."""

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
    def remove(
        self, model: nn.Module, clean: Dataset | None, seed: int, *, audio: Dataset | None = None
    ) -> "Repair":
        """Repairs a copy of the model.

        Args:
            model: the suspect; it is not changed. Any module from inputs to logits will do; see `adapt` for
                one that wants features.
            clean: examples known to be clean, of classes that the model knows, in any order; may be None for
                a method that is `data_free` if the model is one of ours.
            seed: of everything drawn.
            audio: unlabelled examples, for a method that learns from such; their labels are not looked at.

        Raises:
            DataError: if the clean set is missing, or too small to hold anything out; if there are unlabelled
                examples and the method does not learn from such.
            ModelError: if the clean set does not fit the model, or the model lacks what the method needs.
            DivergedError: if the repaired weights are no numbers.

        Warns:
            DataWarning: if a class of the model has no clean example.
        """
        suspect = as_classifier(model, clean)
        clean = no_examples(suspect.card) if clean is None else data_for(suspect.card, clean)
        started = time.perf_counter()
        tune, held_out = self.divided(clean, seed)
        missing = clean.missing() if len(clean) else ()
        if missing:
            warnings.warn(missing_sentence(missing, len(clean.classes)), DataWarning, stacklevel=2)
        repaired = copy.deepcopy(suspect).eval()
        self.make_trainable(repaired)
        if audio is None:
            chosen = self.repair(repaired, tune, held_out, seed)
        else:
            check_inputs(suspect.card, audio)
            chosen = self.repair_with_audio(repaired, tune, held_out, audio, seed)
        if not all(value.float().isfinite().all() for value in repaired.state_dict().values()):
            raise DivergedError(
                f"{self.name} left weights that are NaN or infinite; lower its lr or its steps"
            )
        remarks = self.remarks(chosen)
        before, after = suspect.state_dict(), repaired.state_dict()
        if before.keys() == after.keys() and all(torch.equal(before[name], after[name]) for name in after):
            remarks.append("nothing was changed: the repaired model is the suspect")
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
            remarks=tuple(remarks),
        )

    def make_trainable(self, model: Classifier) -> None:
        """Hook: makes all weights of the body trainable that can be, but for frozen ones.

        The front end stays as it is: nothing in it is learned by a repair, an enhancer's weights neither.

        Args:
            model: a copy of the suspect.
        """
        make_trainable(model.body)

    def remarks(self, chosen: dict[str, Any]) -> list[str]:
        """Hook: what a user must know of a repair, in sentences; nothing if not written.

        Args:
            chosen: what `repair` returned.
        """
        del chosen
        return []

    @abstractmethod
    def repair(self, model: Classifier, tune: Dataset, held_out: Dataset, seed: int) -> dict[str, Any]:
        """Hook: repairs `model` in place and returns what was chosen on the way, by name.

        Args:
            model: a copy of the suspect, in evaluation mode.
            tune: clean examples to train on; without rows if there are none and the method is data-free.
            held_out: clean examples to choose by.
            seed: of everything drawn.
        """

    def repair_with_audio(
        self, model: Classifier, tune: Dataset, held_out: Dataset, audio: Dataset, seed: int
    ) -> dict[str, Any]:
        """Hook: as `repair`, with unlabelled examples beside the clean ones.

        Raises:
            DataError: if the method does not learn from such.
        """
        del model, tune, held_out, audio, seed
        raise DataError(f"{self.name} does not learn from unlabelled audio; leave it out")


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

    def make_trainable(self, model: Classifier) -> None:
        """The same, and refuses a model that cannot be trained."""
        super().make_trainable(model)
        refuse_untrainable(model)

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
        remarks: what a user must know of it, in sentences, such as that nothing was changed.
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
    remarks: tuple[str, ...] = ()

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


def refuse_untrainable(model: Classifier) -> None:
    """Refuses a model that no training reaches: it has no weights, or whole numbers, or holds gradients back.

    Args:
        model: of which the body's weights are made trainable, where they can be.

    Raises:
        ModelError: if it is one.
    """
    examples = torch.zeros(2, *model.card.input_shape, device=model.device)
    with torch.enable_grad():
        logits = Answers(None, len(model.card.classes), ()).ask(model, examples)
    reached, frozen = isinstance(logits, Tensor) and logits.requires_grad, frozen_weights(model.body)
    trained = (weight for name, weight in model.body.named_parameters() if name not in frozen)
    if not reached or not all(weight.requires_grad for weight in trained):
        raise ModelError(
            "the model cannot be repaired by training, since no gradient reaches its weights; put a purifier "
            "in front of it ('sesame purify', then --purifier)"
        )


def missing_sentence(missing: tuple[str, ...], classes: int) -> str:
    """What it means for a removal that classes have no clean example."""
    return say_missing(missing, classes, "a repair may make the model forget them, and nothing would show it")
