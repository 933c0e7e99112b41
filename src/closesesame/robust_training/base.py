"""The contract of a robust training: untrusted data in, a trained model out."""

import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, ClassVar, final

from pydantic import Field, model_validator

from closesesame.core.errors import DataError, DivergedError, ModelError
from closesesame.core.method import Method
from closesesame.data import Dataset
from closesesame.models import Architecture, Classifier
from closesesame.models.matching import say_inputs
from closesesame.training import Training

Watch = Callable[[str, int, Classifier], None]
"""Told the stage, the number of its epoch from 1, and the model, which it leaves as it is."""


def unwatched(stage: str, epoch: int, model: Classifier) -> None:
    """Looks at nothing."""


class RobustTraining(Method, ABC):
    """A way to train a model without a backdoor on a training set that may be poisoned.

    It sees the untrusted set only, and clean examples if it says so: no trigger, no poison mask, no target
    label, no test set.
    """

    needs_clean: ClassVar[bool] = False
    """Whether it needs clean examples beside the untrusted ones."""
    quick: ClassVar[dict[str, Any]] = {"training": {"epochs": 1}}

    training: Training = Field(Training(), description="of the model: epochs, learning rate and so on")

    @model_validator(mode="after")
    def _watches_nothing(self) -> "RobustTraining":
        if self.training.patience is not None:
            raise ValueError(
                f"training.patience must be none: there are no trusted examples to watch, "
                f"got {self.training.patience}"
            )
        return self

    @classmethod
    def claims_in_words(cls) -> dict[str, str]:
        """What it needs."""
        return {"needs": "the untrusted set" + (" and clean clips" if cls.needs_clean else "")}

    def wants_clean(self) -> bool:
        """Whether it needs clean examples with these settings."""
        return self.needs_clean

    @final
    def train(
        self,
        architecture: Architecture,
        untrusted: Dataset,
        seed: int,
        *,
        clean: Dataset | None = None,
        watch: Watch = unwatched,
    ) -> "TrainedRobustly":
        """Trains a model from fresh weights.

        Args:
            architecture: what to build.
            untrusted: the training set, poison among it; it is not changed.
            seed: of everything drawn.
            clean: examples known to be clean, of classes of the untrusted set, in any order; not looked at by
                a method that does not need them.
            watch: called after each epoch; what it sees or measures, the method never learns.

        Raises:
            DataError: if the untrusted set holds fewer than two classes, or clean examples are missing.
            ModelError: if the clean examples have other classes, or another sample rate or length.
            DivergedError: if the training diverged.
        """
        wanted = self.wants_clean()
        if wanted and not clean:
            raise DataError(f"{self.name} needs clean examples beside the untrusted ones")
        known = _fitting(clean, untrusted) if wanted and clean else None
        started = time.perf_counter()
        model, chosen = self.learn(architecture, untrusted, known, seed, watch)
        if not all(value.float().isfinite().all() for value in model.state_dict().values()):
            raise DivergedError(f"{self.name} left weights that are NaN or infinite; lower training.lr")
        seconds = time.perf_counter() - started
        return TrainedRobustly(model.eval(), seconds, chosen, tuple(self.remarks(chosen)))

    def remarks(self, chosen: dict[str, Any]) -> list[str]:
        """Hook: what a user must know of a training, in sentences; nothing if not written.

        Args:
            chosen: what `learn` returned beside the model.
        """
        del chosen
        return []

    @abstractmethod
    def learn(
        self,
        architecture: Architecture,
        untrusted: Dataset,
        clean: Dataset | None,
        seed: int,
        watch: Watch,
    ) -> tuple[Classifier, dict[str, Any]]:
        """Hook: the trained model, on the device of `training`, and what was chosen on the way, by name.

        Args:
            architecture: what to build.
            untrusted: the training set.
            clean: clean examples with labels counted as in the untrusted set; None if the method needs none.
            seed: of everything drawn.
            watch: to be called after each epoch of each stage.
        """


@dataclass(frozen=True)
class TrainedRobustly:
    """A model that was trained on untrusted data.

    Attributes:
        model: the trained model.
        seconds: how long it took.
        chosen: what the method chose, such as how many examples it left out.
        remarks: what a user must know of it, in sentences.
    """

    model: Classifier
    seconds: float
    chosen: dict[str, Any] = field(default_factory=dict)
    remarks: tuple[str, ...] = ()


def _fitting(clean: Dataset, untrusted: Dataset) -> Dataset:
    """Clean examples with labels counted as in the untrusted set."""
    mine, theirs = ((data.input_shape, data.sample_rate) for data in (clean, untrusted))
    if mine != theirs:
        raise ModelError(
            f"the clean set holds {say_inputs(*mine)}, and the untrusted set {say_inputs(*theirs)}; "
            "load both with one sample rate and length"
        )
    return clean.with_classes(untrusted.classes)
