"""BNP: channels whose clean statistics contradict the batch norm's, which saw poisoned data, are pruned.

Zheng, Tang, Li, Liu, "Pre-activation Distributions Expose Backdoor Neurons", NeurIPS 2022 (the second of its
two rules; the first is `ep`). As in the authors' code a pruned channel loses its scale and keeps its shift,
so it becomes constant; BackdoorBench takes the shift as well.

Ours differs: all clean examples are looked at, not one batch of 500; variances are those of the whole set and
have the batch norm's epsilon added.
"""

from typing import Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor

from closesesame.core.errors import ModelError
from closesesame.core.types import PerUnit
from closesesame.data import Dataset
from closesesame.models import Classifier
from closesesame.models.channels import Channels, channels_in, watched

from .base import Removal


class BNP(Removal):
    """Prune channels whose divergence is above mean + u * std of their layer."""

    name: ClassVar[str] = "bnp"
    cite: ClassVar[str] = "NeurIPS 2022, Pre-activation Distributions Expose Backdoor Neurons"
    requires: ClassVar[str] = "batch norm"

    u: float = Field(3, gt=0, le=100, description="standard deviations above the layer's mean")

    def repair(self, model: Classifier, tune: Dataset, held_out: Dataset, seed: int) -> dict[str, Any]:
        """Nothing is trained and nothing is chosen: `tune` is only looked at."""
        del held_out, seed
        layers = [layer for layer in channels_in(model) if layer.statistics is not None]
        if not layers:
            raise ModelError("bnp compares batch-norm statistics; this model has no batch norm")
        pruned = 0
        for layer, (mean, variance) in zip(layers, clean_statistics(model, layers, tune), strict=True):
            norm = layer.statistics
            assert norm is not None
            assert norm.running_mean is not None
            assert norm.running_var is not None
            kl = divergence(mean, variance + norm.eps, norm.running_mean, norm.running_var + norm.eps)
            if layer.count > 1:
                outliers = (kl > kl.mean() + self.u * kl.std()).nonzero().flatten()
                layer.silence(outliers, shift=False)
                pruned += len(outliers)
        return {"pruned_channels": pruned, "of": sum(layer.count for layer in layers)}


def divergence(mean1: PerUnit, variance1: PerUnit, mean2: PerUnit, variance2: PerUnit) -> PerUnit:
    """KL(N(mean1, variance1) || N(mean2, variance2))."""
    return (variance2 / variance1).log() / 2 + (variance1 + (mean1 - mean2) ** 2) / (2 * variance2) - 0.5


@torch.no_grad()
def clean_statistics(model: Classifier, layers: list[Channels], data: Dataset) -> list[tuple[Tensor, Tensor]]:
    """Mean and variance (channel,) of what each batch norm takes, over all examples and places."""
    model.eval()
    device = next(model.parameters()).device
    sums = [torch.zeros(3, layer.count, dtype=torch.float64, device=device) for layer in layers]
    with watched(layers) as seen:
        for inputs, _ in data.batches(256):
            model(inputs.to(device))
            for number, value in enumerate(seen):
                x = value.double().transpose(0, 1).flatten(1)
                count = torch.full_like(x[:, 0], x.shape[1])
                sums[number] += torch.stack([count, x.sum(1), x.square().sum(1)])
    found = []
    for n, first, second in sums:
        mean = first / n
        found.append((mean.float(), (second / n - mean**2).clamp(min=0).float()))
    return found
