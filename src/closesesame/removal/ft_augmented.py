"""FT-augmented: fine-tuning with strong augmentation at a bold learning rate; ours.

A backdoor is a short cut that clean data never contradict. Strong augmentation of the features (see
`audio.augment.strong`) makes the clean examples look like everything a trigger could look like, and a high
learning rate takes the weights far enough away to forget the short cut. SGD goes furthest where batch norm
bears it, and wrecks other networks; there AdamW goes far enough, and too far for what was learnt from more
examples than these, so the weights return part of the way to where they began: Wortsman et al., "Robust
fine-tuning of zero-shot models", CVPR 2022, arXiv:2109.01903.
"""

from typing import Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor

from closesesame.data import Dataset
from closesesame.models import Classifier
from closesesame.training import accuracy, fit

from .base import BoldFineTuning

State = dict[str, Tensor]


class FTAugmented(BoldFineTuning):
    """Fine-tune on strongly augmented features with SGD and Nesterov momentum, or if need be with AdamW."""

    name: ClassVar[str] = "ft_augmented"
    cite: ClassVar[str] = "ours"
    cost: ClassVar[str] = "about the training of the model, up to twice that"

    lr: float = Field(1.0, gt=0, description="highest learning rate")
    wreck: float = Field(
        0.1,
        ge=0,
        le=1,
        description="share of held-out examples that may turn wrong before AdamW is tried",
    )
    adamw_lr: float = Field(0.005, gt=0, description="highest learning rate of AdamW, if it is tried")
    adamw_share: float = Field(0.75, gt=0, le=1, description="share of the way of AdamW that is kept")

    def repair(self, model: Classifier, tune: Dataset, held_out: Dataset, seed: int) -> dict[str, Any]:
        """Takes the weights of AdamW if the first ones are a wreck, and those are right more often."""
        start, before = _state(model), accuracy(model, held_out)
        fit(model, tune, self.training(), seed=seed)
        first, acc = _state(model), accuracy(model, held_out)
        chosen = {"optimizer": self.optimizer, "lr": self.lr}
        if acc >= before - self.wreck:
            return chosen
        model.body.load_state_dict(start)
        fit(model, tune, self.training(optimizer="adamw", lr=self.adamw_lr), seed=seed)
        model.body.load_state_dict(between(start, _state(model), self.adamw_share))
        if accuracy(model, held_out) > acc:
            return {"optimizer": "adamw", "lr": self.adamw_lr}
        model.body.load_state_dict(first)
        return chosen


def between(start: State, end: State, share: float) -> State:
    """The weights at a share of the way; statistics of batch norms go along, counters stand at the end."""
    return {
        name: torch.lerp(value, end[name], share) if value.is_floating_point() else end[name]
        for name, value in start.items()
    }


def _state(model: Classifier) -> State:
    return {name: value.clone() for name, value in model.body.state_dict().items()}
