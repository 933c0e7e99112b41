"""Safe: train on all clips as if they were clean, and repair the model with the most ordinary of them. Ours.

Nothing is assumed of the attack or of the poisoning rate, and no clean clips are needed.
`training/ordinary.py` says which clips are ordinary, and how they are checked; with them the model is
repaired by self-distillation, as the removal `restore` does with clean clips. A repaired model tells which
clips are clean better than anything before, so it is repaired again with half of all clips, and at last with
nearly all. What the plain training learned is kept where it does not depend on a trigger, so it costs next to
no accuracy if there was no poison.
"""

from functools import partial
from typing import Any, ClassVar

from closesesame.data import Dataset
from closesesame.models import Architecture, Classifier
from closesesame.training import train
from closesesame.training.ordinary import OrdinaryRepair

from .base import RobustTraining, Watch


class Safe(RobustTraining, OrdinaryRepair):
    """Train plainly, repair with the clips that are learned neither first nor last, then with more."""

    name: ClassVar[str] = "safe"
    cite: ClassVar[str] = "ours"
    quick: ClassVar[dict[str, Any]] = {
        "training": {"epochs": 1},
        "slow_epochs": 1,
        "strong_epochs": 2,
        "check_steps": 2,
        "first_steps": 2,
        "repair_steps": 2,
        "views": 2,
        "splices": 4,
    }

    def learn(
        self,
        architecture: Architecture,
        untrusted: Dataset,
        clean: Dataset | None,
        seed: int,
        watch: Watch,
    ) -> tuple[Classifier, dict[str, Any]]:
        """Eight trainings: `training`, as `plain` does it, and those of `repair_with_ordinary`."""
        del clean
        look = partial(watch, "training")
        model = train(architecture, untrusted, self.training, seed=seed, after_epoch=look)
        return model, {**self.repair_with_ordinary(model, untrusted, self.training, seed, watch)}
