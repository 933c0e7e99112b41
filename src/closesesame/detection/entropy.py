"""Entropy: poisoned clips are those that the model is most certain of.

Ying, Wu, "DLP: towards active defense against backdoor attacks with decoupled learning process",
Cybersecurity 6:9, 2023, arXiv:2406.13098, equation 5: the Shannon entropy of the model's answer, in bits. The
authors take the clips with the lowest entropies for poisoned, and those with the highest of each class for
clean; how many is not the score's matter here.

Ours differs: the paper looks after ten epochs of training, when a backdoor is learnt and the task is not.
This looks at the finished model, which is certain of nearly every clip that it was trained on, so it sees
less. The sum runs over all classes; the printed one counts one more than there are.
"""

import math
from typing import ClassVar, Literal

import torch
from torch import Tensor

from closesesame.core.types import Logits, PerUnit
from closesesame.data import Dataset
from closesesame.models import Classifier
from closesesame.training import predict

from .base import Detection


class Entropy(Detection):
    """Score minus the Shannon entropy of the suspect's answer to each training clip."""

    name: ClassVar[str] = "entropy"
    cite: ClassVar[str] = "arXiv:2406.13098"
    of: ClassVar[Literal["training clips", "inputs"]] = "training clips"

    def suspicion(self, model: Classifier, examples: Dataset, clean: Dataset, seed: int) -> Tensor:
        """In double precision, where entropies near 0 still differ."""
        del clean, seed
        return -bits(predict(model, examples))


def bits(logits: Logits) -> PerUnit:
    """Shannon entropy of the softmax of each row (batch,), in bits."""
    nats: Tensor = torch.special.entr(logits.double().softmax(1)).sum(1)
    return nats / math.log(2)
