"""Statistics of channels: running ones of batch norms, and those of pre-activations."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from closesesame.core.types import PerUnit
from closesesame.data import Dataset

from .base import Classifier
from .hooks import Watchable, watched

_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)


def freeze_statistics(body: nn.Module) -> None:
    """Batch norms use and keep the statistics they have, until the body is set to training again."""
    for module in body.modules():
        if isinstance(module, _NORMS):
            module.eval()


@torch.no_grad()
def renew_statistics(model: Classifier, data: Dataset) -> None:
    """Sets the running statistics of all batch norms to those of the data, as plain averages over batches."""
    norms = [m for m in model.body.modules() if isinstance(m, _NORMS) and m.track_running_stats]
    if not norms:
        return
    momenta = [norm.momentum for norm in norms]
    model.eval()
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None
        norm.train()
    try:
        for inputs, _ in data.batches(256):
            model.body(model.front_end(inputs.to(model.device)))
    finally:
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
        model.eval()


def running_statistics(norm: nn.BatchNorm1d | nn.BatchNorm2d) -> tuple[PerUnit, PerUnit]:
    """Mean and variance that a batch norm predicts with."""
    assert norm.running_mean is not None
    assert norm.running_var is not None
    return norm.running_mean, norm.running_var


class PreActivations(NamedTuple):
    """What the channels of one layer put out, over all examples and places.

    Attributes:
        mean: of each channel.
        variance: of each channel.
        maxima: the highest value of each example, per channel.
    """

    mean: PerUnit
    variance: PerUnit
    maxima: Float[Tensor, "example channel"]


@torch.no_grad()
def pre_activations(
    network: nn.Module, layers: Sequence[Watchable], batches: Iterable[Tensor]
) -> list[PreActivations]:
    """Runs the network, which is set to evaluation mode, and measures the pre-activations of each layer."""
    network.eval()
    sums: list[list[tuple[Tensor, Tensor, Tensor, int]]] = [[] for _ in layers]
    with watched(layers) as seen:
        for batch in batches:
            network(batch)
            for parts, values in zip(sums, seen, strict=True):
                x = values.double()  # the variance is a small difference of large numbers
                count = x.shape[0] * x.shape[2]
                parts.append((x.sum((0, 2)), x.square().sum((0, 2)), values.amax(2).float(), count))
    found = []
    for parts in sums:
        count = sum(part[3] for part in parts)
        mean = torch.stack([part[0] for part in parts]).sum(0) / count
        variance = torch.stack([part[1] for part in parts]).sum(0) / count - mean.square()
        maxima = torch.cat([part[2] for part in parts])
        found.append(PreActivations(mean.float(), variance.clamp(min=0).float(), maxima))
    return found


def gaussian_kl(mean: PerUnit, variance: PerUnit, other_mean: PerUnit, other_variance: PerUnit) -> PerUnit:
    """KL(N(mean, variance) || N(other_mean, other_variance)) of each channel; variances are 1e-8 or more."""
    v, other = variance.clamp(min=1e-8), other_variance.clamp(min=1e-8)
    return 0.5 * (other / v).log() + (v + (mean - other_mean).square()) / (2 * other) - 0.5


def histogram_entropy(values: Float[Tensor, "example channel"], bin_width: float) -> PerUnit:
    """Entropy in nats of each standardised channel, in bins that all channels share."""
    z = (values - values.mean(0)) / values.std(0).clamp(min=1e-8)
    entropies = []
    for channel in ((z - z.min()) / bin_width).long().T:
        share = channel.unique(return_counts=True)[1] / len(channel)
        entropies.append(-(share * share.log()).sum())
    return torch.stack(entropies)
