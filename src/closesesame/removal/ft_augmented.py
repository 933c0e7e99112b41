"""FT-augmented: fine-tuning with strong augmentation at a bold learning rate; ours.

A backdoor is a short cut that clean data never contradict. Strong augmentation of the features (see
`audio.augment.strong`) makes the clean examples look like everything a trigger could look like, and a high
learning rate with Nesterov momentum takes the weights far enough away to forget the short cut.
"""

from typing import Any, ClassVar, Literal

from pydantic import Field

from closesesame.data import Dataset
from closesesame.models import Classifier
from closesesame.training import fit

from .base import FineTuning


class FTAugmented(FineTuning):
    """Fine-tune with SGD, Nesterov momentum, one-cycle schedule, on strongly augmented features."""

    name: ClassVar[str] = "ft_augmented"
    cite: ClassVar[str] = "ours"

    lr: float = Field(0.1, gt=0, description="highest learning rate of the cycle")
    steps: int | None = Field(360, ge=0, description="batches in all, instead of `epochs`")
    batch_size: int = Field(96, ge=2, description="examples a batch; at most the whole set")
    nesterov: bool = Field(True, description="Nesterov momentum")
    schedule: Literal["one_cycle", "cosine", "constant"] = Field(
        "one_cycle", description="of the learning rate"
    )
    augmentation: Literal["none", "light", "strong"] = Field("strong", description="of the features")

    def repair(self, model: Classifier, tune: Dataset, held_out: Dataset, seed: int) -> dict[str, Any]:
        """One run, nothing to choose."""
        del held_out
        fit(model, tune, self.training(), seed=seed)
        return {}
