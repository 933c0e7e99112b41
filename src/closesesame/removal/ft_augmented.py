"""FT-augmented: fine-tuning with strong augmentation at a bold learning rate; ours.

A backdoor is a short cut that clean data never contradict. Strong augmentation of the features (see
`audio.augment.strong`) makes the clean examples look like everything a trigger could look like, and a high
learning rate with Nesterov momentum takes the weights far enough away to forget the short cut.
"""

from typing import Any, ClassVar

from closesesame.data import Dataset
from closesesame.models import Classifier
from closesesame.training import fit

from .base import BoldFineTuning


class FTAugmented(BoldFineTuning):
    """Fine-tune with SGD, Nesterov momentum, one-cycle schedule, on strongly augmented features."""

    name: ClassVar[str] = "ft_augmented"
    cite: ClassVar[str] = "ours"

    def repair(self, model: Classifier, tune: Dataset, held_out: Dataset, seed: int) -> dict[str, Any]:
        """One run, nothing to choose."""
        del held_out
        fit(model, tune, self.training(), seed=seed)
        return {}
