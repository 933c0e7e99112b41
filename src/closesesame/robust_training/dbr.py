"""D-BR: unlearn the clips whose features are most sensitive to transformations, relearn the least sensitive.

Chen, Wu, Wang, "Effective Backdoor Defense by Exploiting Sensitivity of Poisoned Samples", NeurIPS 2022, and
the authors' code. Clips are told apart as `common.distinguishing` says. A network that was trained on all
clips then unlearns the poisoned and relearns the clean ones in turn, for 20 rounds at 1e-4, which have as
many batches as epochs over 2,500 and 10,000 pictures.

Ours differs: pictures are rotated and sheared to tell them apart, features are strongly augmented here; the
authors keep the epoch with the best accuracy and ASR of the test set, here it is the last one; optimiser and
learning rate of the trainings are those of `training`; SGD of the unlearning and relearning begins without
momentum in each round; batch norms keep their statistics while it unlearns and relearns.
"""

from functools import partial
from typing import Any, ClassVar

from pydantic import Field

from closesesame.core.bounds import LearningRate, Steps
from closesesame.core.seeding import derive
from closesesame.data import Dataset
from closesesame.models import Architecture, Classifier
from closesesame.training import Training, fit, untrained

from .base import RobustTraining, Watch
from .common.distinguishing import Distinguishing, distinguish
from .common.unlearning import Unlearning, by_sgd, relearn, unlearn


class DBR(RobustTraining, Distinguishing):
    """Train on all clips, then unlearn the most sensitive and relearn the least sensitive in turn."""

    name: ClassVar[str] = "dbr"
    cite: ClassVar[str] = "NeurIPS 2022"
    quick: ClassVar[dict[str, Any]] = {
        "training": {"epochs": 1},
        "label_epochs": 1,
        "centre_epochs": 1,
        "rounds": 1,
        "unlearning_steps": 1,
        "relearning_steps": 1,
    }

    unlearning: Unlearning = Field("ascent", description="by gradient ascent, or by -log(1 - p)")
    rounds: int = Field(20, ge=0, le=10_000, description="of unlearning and relearning in turn")
    unlearning_steps: Steps = Field(20, description="batches of 128 to unlearn in a round")
    relearning_steps: Steps = Field(79, description="batches of 128 to relearn in a round")
    repair_lr: LearningRate = Field(1e-4, description="learning rate of both")

    def learn(
        self,
        architecture: Architecture,
        untrusted: Dataset,
        clean: Dataset | None,
        seed: int,
        watch: Watch,
    ) -> tuple[Classifier, dict[str, Any]]:
        """Two networks; the first is thrown away."""
        del clean
        told = distinguish(self, architecture, untrusted, self.training, seed=seed, watch=watch)
        poisoned, believed = untrusted.where(told.poisoned), untrusted.where(told.clean)
        model = untrained(architecture, untrusted, seed=seed, device=self.training.device)
        fit(model, untrusted, self.training, seed=seed, after_epoch=partial(watch, "training"))
        away, back = map(self._repair, (self.unlearning_steps, self.relearning_steps))
        for number in range(1, self.rounds + 1):
            own = derive(seed, "repair", number)
            unlearn(model, poisoned, self.unlearning, away, seed=own)
            relearn(model, believed, back, seed=own)
            watch("repair", number, model)
        return model, {"unlearned": len(poisoned), "relearned": len(believed)}

    def _repair(self, steps: int) -> Training:
        """Both parts of a round are augmented as the training is, as the authors do."""
        augmentation = self.training.augmentation
        return by_sgd(
            self.training, steps=steps, lr=self.repair_lr, weight_decay=5e-4, augmentation=augmentation
        )
