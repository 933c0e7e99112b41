"""FT-augmented: fine-tuning with strong augmentation at a bold learning rate; ours.

A backdoor is a short cut that clean data never contradict. Strong augmentation of the features (see
`audio.augment.strong`) makes the clean examples look like everything a trigger could look like, and a high
learning rate with Nesterov momentum takes the weights far enough away to forget the short cut. How high it
may be differs from model to model, so the boldest that held-out clean examples allow is taken.
"""

import copy
from typing import Annotated, Any, ClassVar

from pydantic import Field

from closesesame.data import Dataset
from closesesame.models import Classifier
from closesesame.training import accuracy, fit

from .base import BoldFineTuning

Rate = Annotated[float, Field(gt=0)]


class FTAugmented(BoldFineTuning):
    """Fine-tune with SGD, Nesterov momentum, one-cycle schedule, on strongly augmented features."""

    name: ClassVar[str] = "ft_augmented"
    cite: ClassVar[str] = "ours"
    cost: ClassVar[str] = "about the training of the model, up to four times that"

    lr: float = Field(0.03, gt=0, description="highest learning rate of the cycle, if no bolder one is kept")
    bolder: tuple[Rate, ...] = Field(
        (1.0, 0.3, 0.1), description="learning rates to try before that; empty to take `lr` at once"
    )

    def repair(self, model: Classifier, tune: Dataset, held_out: Dataset, seed: int) -> dict[str, Any]:
        """Keeps the first learning rate after which at most one more held-out example, and 5 %, are wrong."""
        before, suspect = accuracy(model, held_out), copy.deepcopy(model.body.state_dict())
        lowest = before - min(0.05, 1.5 / len(held_out))
        for lr in (*self.bolder, self.lr):
            model.body.load_state_dict(suspect)
            fit(model, tune, self.training(lr=lr), seed=seed)
            if accuracy(model, held_out) >= lowest:
                break
        return {"lr": lr}
