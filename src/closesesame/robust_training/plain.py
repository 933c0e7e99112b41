"""Plain training: no protection at all, the row that every robust training is compared with."""

from functools import partial
from typing import Any, ClassVar

from closesesame.data import Dataset
from closesesame.models import Architecture, Classifier
from closesesame.training import train

from .base import RobustTraining, Watch


class Plain(RobustTraining):
    """Train on all of the untrusted set as if it were clean, which gives the bare victim."""

    name: ClassVar[str] = "plain"
    cite: ClassVar[str] = "ours"
    quick: ClassVar[dict[str, Any]] = {"training": {"epochs": 1}}

    def learn(
        self,
        architecture: Architecture,
        untrusted: Dataset,
        clean: Dataset | None,
        seed: int,
        watch: Watch,
    ) -> tuple[Classifier, dict[str, Any]]:
        """As `closesesame.training.train`, bit by bit."""
        del clean
        look = partial(watch, "training")
        return train(architecture, untrusted, self.training, seed=seed, after_epoch=look), {}
