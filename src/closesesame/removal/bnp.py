"""BNP: channels whose clean statistics contradict the batch norm's, which saw poisoned data, are pruned.

Zheng, Tang, Li, Liu, "Pre-activation Distributions Expose Backdoor Neurons", NeurIPS 2022 (the second of its
two rules; the first is `ep`). As in the authors' code a pruned channel loses its scale and keeps its shift,
so it becomes constant; BackdoorBench takes the shift as well.

Ours differs: all clean examples are looked at, not one batch of 500; variances are those of the whole set and
have the batch norm's epsilon added.
"""

from typing import Any, ClassVar

from closesesame.core.errors import ModelError
from closesesame.core.types import PerUnit
from closesesame.data import Dataset
from closesesame.models import Classifier
from closesesame.models.channels import Channels, channels_in
from closesesame.models.statistics import PreActivations, gaussian_kl, pre_activations, running_statistics

from .common.by_score import ByScore


class BNP(ByScore):
    """Prune channels whose divergence is above mean + u * std of their layer."""

    name: ClassVar[str] = "bnp"
    cite: ClassVar[str] = "NeurIPS 2022, Pre-activation Distributions Expose Backdoor Neurons"
    requires: ClassVar[str] = "batch norm"

    def repair(self, model: Classifier, tune: Dataset, held_out: Dataset, seed: int) -> dict[str, Any]:
        """Nothing is trained and nothing is chosen: `tune` is only looked at."""
        del held_out, seed
        layers = [layer for layer in channels_in(model) if layer.statistics is not None]
        if not layers:
            raise ModelError("bnp compares batch-norm statistics; this model has no batch norm")
        clean = pre_activations(model, layers, (x.to(model.device) for x, _ in tune.batches(256)))
        scores = [divergence(layer, found) for layer, found in zip(layers, clean, strict=True)]
        return self.prune_outliers(layers, scores, shift=False)


def divergence(layer: Channels, clean: PreActivations) -> PerUnit:
    """KL of what the norm takes on clean examples from what it took in training."""
    norm = layer.statistics
    assert norm is not None
    mean, variance = running_statistics(norm)
    return gaussian_kl(clean.mean, clean.variance + norm.eps, mean, variance + norm.eps)
