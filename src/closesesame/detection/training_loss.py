"""Training loss: poisoned clips are those that the model fits best.

Li, Lyu, Koren, Lyu, Li, Ma, "Anti-Backdoor Learning: Training Clean Models on Poisoned Data", NeurIPS 2021,
arXiv:2110.11571, which isolates the examples with the lowest losses. Ours differs: the paper looks after a
few epochs of a training that keeps the losses of all other examples from falling, when poisoned examples are
learned and clean ones are not. This looks at the finished model and changes no training, so it sees less.
"""

from typing import ClassVar, Literal

from torch import Tensor
from torch.nn import functional as F

from closesesame.data import Dataset
from closesesame.models import Classifier
from closesesame.training import predict

from .base import Detection


class TrainingLoss(Detection):
    """Score minus the cross-entropy of the suspect on each training clip under its given label."""

    name: ClassVar[str] = "training_loss"
    cite: ClassVar[str] = "arXiv:2110.11571"
    of: ClassVar[Literal["training clips", "inputs"]] = "training clips"

    def suspicion(self, model: Classifier, examples: Dataset, clean: Dataset, seed: int) -> Tensor:
        """In double precision, where losses near 0 still differ."""
        del clean, seed
        return -F.cross_entropy(predict(model, examples).double(), examples.labels, reduction="none")
