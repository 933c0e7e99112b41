"""FT: plain fine-tuning of all weights on clean data, what every other repair is measured against.

As in Wu et al., "BackdoorBench: A Comprehensive Benchmark of Backdoor Learning", NeurIPS 2022,
arXiv:2206.12654: SGD, learning rate 0.01, momentum 0.9, weight decay 5e-4, batches of 256, 100 epochs and a
cosine schedule.
"""

from typing import Any, ClassVar

from pydantic import Field

from closesesame.data import Dataset
from closesesame.models import Classifier
from closesesame.training import Training, fit

from .base import Removal


class FT(Removal):
    """Fine-tune on the clean examples with cross-entropy and light augmentation."""

    name: ClassVar[str] = "ft"
    cite: ClassVar[str] = "arXiv:2206.12654"

    lr: float = Field(0.01, gt=0, description="learning rate of SGD at the start")
    epochs: int = Field(100, ge=0, description="passes over the clean examples")
    batch_size: int = Field(256, ge=2, description="examples a batch")

    def repair(self, model: Classifier, tune: Dataset, held_out: Dataset, seed: int) -> dict[str, Any]:
        """One run, nothing to choose."""
        del held_out
        training = Training(
            optimizer="sgd",
            lr=self.lr,
            epochs=self.epochs,
            batch_size=self.batch_size,
            weight_decay=5e-4,
            schedule="cosine",
        )
        fit(model, tune, training, seed=seed)
        return {}
