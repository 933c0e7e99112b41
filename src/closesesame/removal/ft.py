"""FT: plain fine-tuning of all weights on clean data, what every other repair is measured against.

As in Wu et al., "BackdoorBench: A Comprehensive Benchmark of Backdoor Learning", NeurIPS 2022,
arXiv:2206.12654: SGD, learning rate 0.01, momentum 0.9, weight decay 5e-4 and a cosine schedule; 100 epochs
of 2,500 examples in batches of 256, which are 10 an epoch: 1,000 steps.

Ours differs: pictures are cropped and mirrored there, features are shifted and masked here; a clean set that
is smaller than a batch is one batch, so a step of ours may see fewer examples.
"""

from typing import Any, ClassVar

from closesesame.data import Dataset
from closesesame.models import Classifier
from closesesame.training import fit

from .base import FineTuning


class FT(FineTuning):
    """Fine-tune on the clean examples with cross-entropy and light augmentation."""

    name: ClassVar[str] = "ft"
    cite: ClassVar[str] = "arXiv:2206.12654"
    cost: ClassVar[str] = "1,000 batches, which may take longer than the training of the model"

    def repair(self, model: Classifier, tune: Dataset, held_out: Dataset, seed: int) -> dict[str, Any]:
        """One run, nothing to choose."""
        del held_out
        fit(model, tune, self.training(), seed=seed)
        return {}
