"""Spectral signatures: poisoned clips stand out along the direction in which features of a class vary most.

Tran, Li, Madry, "Spectral Signatures in Backdoor Attacks", NeurIPS 2018, arXiv:1811.00636, algorithm 1: the
features before the last layer are centred within each class, and a clip's score is the square of its part
along the first right singular vector. The authors drop the 1.5 epsilon n clips of each class with the highest
scores, where epsilon is the share of poison that they assume; how many to drop is not the score's matter
here, so epsilon is no setting.

Ours differs: scores are compared over all classes, and the features of a class whose clips lie far apart are
larger; so the scores of a class are divided by their mean if `standardised`, which is not the paper's.
"""

from typing import ClassVar, Literal

import torch
from jaxtyping import Float64
from pydantic import Field
from torch import Tensor

from closesesame.core.types import PerUnit
from closesesame.data import Dataset
from closesesame.models import Classifier
from closesesame.training.features import features_of

from .base import Detection


class SpectralSignatures(Detection):
    """Score the squared part of each clip's features along the main direction of its class."""

    name: ClassVar[str] = "spectral_signatures"
    cite: ClassVar[str] = "arXiv:1811.00636"
    of: ClassVar[Literal["training clips", "inputs"]] = "training clips"
    requires: ClassVar[str] = "features before a linear layer"

    standardised: bool = Field(False, description="divide the scores of a class by their mean")

    def suspicion(self, model: Classifier, examples: Dataset, clean: Dataset, seed: int) -> Tensor:
        """Each class by itself, as its given labels have it."""
        del clean, seed
        features = features_of(model, examples).double()
        scores = torch.zeros(len(examples), dtype=torch.float64)
        for label in examples.labels.unique():
            rows = (examples.labels == label).nonzero()[:, 0]
            found = signature(features[rows])
            scores[rows] = found / found.mean().clamp(min=1e-12) if self.standardised else found
        return scores


def signature(features: Float64[Tensor, "example unit"]) -> PerUnit:
    """Squared parts (example,) of centred features along their first right singular vector."""
    centred = features - features.mean(0)
    direction = torch.linalg.svd(centred, full_matrices=False).Vh[0]
    scores: Tensor = (centred @ direction).square()
    return scores
