"""Activation clustering: the clips of a poisoned class form two clusters, and the smaller one is poisoned.

Chen, Carvalho, Baracaldo, Ludwig, Edwards, Lee, Molloy, Srivastava, "Detecting Backdoor Attacks on Deep
Neural Networks by Activation Clustering", 2018, arXiv:1811.03728. The features before the last layer are
reduced to ten independent components within each class, and 2-means divides its clips. A class is poisoned
if its smaller cluster is small, or if its silhouette, which says how far apart the clusters are, is high.

Ours differs: clips are ranked. The score is the place of a clip between the two means, from -1 at that of the
larger cluster to 1 at that of the smaller one, times the mean silhouette, times 1 - 2 * the share of the
smaller cluster, which is 0 if both are as large. Whitened principal components are taken for independent
ones: these are the same, turned, and neither 2-means nor the silhouette changes when points are turned.
"""

from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from closesesame.core.types import PerUnit
from closesesame.data import Dataset
from closesesame.models import Classifier
from closesesame.training.clusters import Points, reduced, side, silhouette, two_means
from closesesame.training.features import features_of

from .base import Detection


class ActivationClustering(Detection):
    """Score how near each clip is to the smaller of two clusters of its class, if these are far apart."""

    name: ClassVar[str] = "activation_clustering"
    cite: ClassVar[str] = "arXiv:1811.03728"
    of: ClassVar[Literal["training clips", "inputs"]] = "training clips"
    requires: ClassVar[str] = "features before a linear layer"

    components: int = Field(10, ge=1, le=1000, description="that the features of a class are reduced to")
    reduction: Literal["ica", "pca"] = Field(
        "ica", description="to independent components, all of variance 1, or to principal ones"
    )

    def suspicion(self, model: Classifier, examples: Dataset, clean: Dataset, seed: int) -> Tensor:
        """Each class by itself, as its given labels have it."""
        del clean, seed
        features = features_of(model, examples).double()
        scores = torch.zeros(len(examples), dtype=torch.float64)
        for label in examples.labels.unique():
            rows = (examples.labels == label).nonzero()[:, 0]
            points = reduced(features[rows], self.components, whiten=self.reduction == "ica")
            scores[rows] = self.of_class(points)
        return scores

    def of_class(self, points: Points) -> PerUnit:
        """The scores (point,) of the clips of one class."""
        small = two_means(points)
        if not small.any():
            return torch.zeros(len(points), dtype=torch.float64)
        weight = silhouette(points, small) * (1 - 2 * small.double().mean())
        return weight * side(points, small)
