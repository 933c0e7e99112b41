"""EP: channels that answer in two ways, one for clean and one for poisoned data, are pruned.

Zheng, Tang, Li, Liu, "Pre-activation Distributions Expose Backdoor Neurons", NeurIPS 2022 (the first of its
two rules; the second is `bnp`). Standardised, a mixture of two bells has less entropy than one bell. To see
both the data must hold poison: as in the paper the examples are 500 of the untrusted training set (there at
10 % poison), not clean ones. So what is given as `clean` to `remove`, or with `--clean` on the command line,
must be clips of the set that the model was trained on. Their labels are not looked at.

Ours differs: layers without batch norm are judged as well; channels that never change are not.
"""

from typing import Any, ClassVar

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from closesesame.core.types import PerUnit
from closesesame.data import Dataset
from closesesame.models import Classifier
from closesesame.models.channels import Channels, channels_in, watched

from .base import Removal


class EP(Removal):
    """Prune channels whose entropy is below mean - u * std of their layer."""

    name: ClassVar[str] = "ep"
    cite: ClassVar[str] = "NeurIPS 2022, Pre-activation Distributions Expose Backdoor Neurons"
    untrusted: ClassVar[bool] = True

    u: float = Field(3, gt=0, le=100, description="standard deviations below the layer's mean")
    bin_width: float = Field(
        0.01,
        ge=1e-6,
        le=10,
        description="of the histogram, in standard deviations; 0.1 in BackdoorBench",
    )
    shift: bool = Field(
        False, description="whether what is added to a pruned channel goes as well, as in BackdoorBench"
    )

    def repair(self, model: Classifier, tune: Dataset, held_out: Dataset, seed: int) -> dict[str, Any]:
        """Nothing is trained and nothing is chosen: all examples are only looked at."""
        del seed
        layers, pruned = channels_in(model), 0
        parts = [peaks(model, layers, part) for part in (tune, held_out)]
        for layer, *found in zip(layers, *parts, strict=True):
            outliers = low_entropy(torch.cat(found), self.bin_width, self.u)
            layer.silence(outliers, shift=self.shift)
            pruned += len(outliers)
        return {"pruned_channels": pruned, "of": sum(layer.count for layer in layers)}


@torch.no_grad()
def peaks(model: Classifier, layers: list[Channels], data: Dataset) -> list[Float[Tensor, "_n _channel"]]:
    """The highest pre-activation of each channel over all places, for every example."""
    model.eval()
    device = next(model.parameters()).device
    found: list[list[Tensor]] = [[] for _ in layers]
    with watched(layers) as seen:
        for inputs, _ in data.batches(256):
            model(inputs.to(device))
            for kept, value in zip(found, seen, strict=True):
                kept.append(value.amax(2))
    return [torch.cat(kept) for kept in found]


def low_entropy(values: Float[Tensor, "n channel"], bin_width: float, u: float) -> Tensor:
    """Indices (k,) of the channels whose entropy lies u standard deviations below the mean."""
    alive = (values.std(0) > 1e-6 * values.abs().amax(0)).nonzero().flatten()
    if len(alive) < 2:
        return alive[:0]
    h = entropy(values[:, alive], bin_width)
    return alive[h < h.mean() - u * h.std()]


def entropy(values: Float[Tensor, "n channel"], bin_width: float) -> PerUnit:
    """Entropy of each standardised channel, over bins that all channels share; in nats."""
    z = (values - values.mean(0)) / values.std(0)
    place = ((z - z.min()) / bin_width).long()
    found = []
    for channel in place.T:
        _, counts = channel.unique(return_counts=True)
        share = counts / len(channel)
        found.append(-(share * share.log()).sum())
    return torch.stack(found)
