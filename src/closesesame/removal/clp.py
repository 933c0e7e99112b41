"""CLP: channels that amplify far more than their peers are pruned, by their weights alone.

Zheng, Tang, Li, Liu, "Data-free Backdoor Removal based on Channel Lipschitzness", ECCV 2022,
arXiv:2208.03111; u 3 and the pruning of scale and shift are those of the authors' code.

Ours differs: linear and recurrent layers are judged as well, by the length of the weights of a unit; a norm
without running variance counts with its scale only; the layer that feeds a batch norm is found by running the
network, not by the order in which modules are listed.
"""

from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from closesesame.core.types import PerUnit
from closesesame.data import Dataset
from closesesame.models import Classifier
from closesesame.models.channels import Channels, channels_in

from .common.by_score import ByScore


class CLP(ByScore):
    """Prune channels whose Lipschitz bound is above mean + u * std of their layer."""

    name: ClassVar[str] = "clp"
    cite: ClassVar[str] = "arXiv:2208.03111"
    data_free: ClassVar[bool] = True

    def repair(self, model: Classifier, tune: Dataset, held_out: Dataset, seed: int) -> dict[str, Any]:
        """Needs no example."""
        del tune, held_out, seed
        layers = channels_in(model)
        return self.prune_outliers(layers, [lipschitz_bound(layer) for layer in layers], shift=True)


@torch.no_grad()
def lipschitz_bound(layer: Channels) -> PerUnit:
    """Largest singular value of what makes each channel, times the gain of its norm; NaN if no layer does."""
    producer, norm, statistics = layer.producer, layer.norm, layer.statistics
    if producer is None:
        return torch.full((layer.count,), torch.nan)
    bound: Tensor
    if isinstance(producer, nn.Conv1d | nn.Conv2d):
        bound = torch.linalg.matrix_norm(producer.weight.flatten(2), ord=2)  # of (in, places)
    else:
        bound = layer.weight_rows().norm(dim=1)
    if norm is not None:
        bound = bound * norm.weight.abs()
    if statistics is not None and statistics.running_var is not None:
        bound = bound / (statistics.running_var + statistics.eps).sqrt()
    return bound
