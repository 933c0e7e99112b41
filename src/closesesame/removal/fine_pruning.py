"""Fine-pruning: units that clean data leave idle are pruned, then the rest is fine-tuned.

Liu, Dolan-Gavitt, Garg, "Fine-Pruning: Defending Against Backdooring Attacks on Deep Neural Networks", RAID
2018, arXiv:1805.12185; tolerance, steps of 1 % and the fine-tuning as in BackdoorBench, arXiv:2206.12654.

Ours differs: pruned are the units that enter the last linear layer, which for a network with pooling in front
of it are the channels of the last convolution, and which every network has; the tolerance is measured on
held-out clean examples, and the last step within it is kept.
"""

from typing import Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn

from closesesame.core.errors import ModelError
from closesesame.core.progress import Track
from closesesame.core.types import PerUnit
from closesesame.data import Dataset
from closesesame.models import Classifier
from closesesame.training import accuracy, fit, predict

from .base import FineTuning


class FinePruning(FineTuning):
    """Prune the least active units while held-out accuracy allows it, then fine-tune."""

    name: ClassVar[str] = "fine_pruning"
    cite: ClassVar[str] = "arXiv:1805.12185"

    tolerance: float = Field(
        0.1, ge=0, lt=1, description="relative drop of held-out accuracy that is allowed"
    )
    step: float = Field(0.01, gt=0, le=1, description="share of the units pruned at a time")

    def repair(self, model: Classifier, tune: Dataset, held_out: Dataset, seed: int) -> dict[str, Any]:
        """Chooses how many units to prune on `held_out`."""
        layer = last_linear(model)
        order = mean_activation(model, layer, tune).argsort()
        size = max(1, round(self.step * len(order)))
        allowed = accuracy(model, held_out) * (1 - self.tolerance)
        kept, pruned = layer.weight.detach().clone(), 0
        ends = range(size, len(order), size)
        for end in Track(ends, "pruning", len(ends)):
            with torch.no_grad():
                layer.weight[:, order[:end]] = 0
            if accuracy(model, held_out) < allowed:
                break
            kept, pruned = layer.weight.detach().clone(), end
        with torch.no_grad():
            layer.weight.copy_(kept)
        self._fine_tune(model, layer, order[:pruned], tune, seed)
        return {"pruned_units": pruned, "of": len(order)}

    def _fine_tune(self, model: Classifier, layer: nn.Linear, dead: Tensor, tune: Dataset, seed: int) -> None:
        alive = torch.ones_like(layer.weight)
        alive[:, dead] = 0
        handle = layer.weight.register_hook(lambda gradient: gradient * alive)  # type: ignore[no-untyped-call]
        fit(model, tune, self.training(), seed=seed)
        handle.remove()


def last_linear(model: nn.Module) -> nn.Linear:
    """The linear layer that is listed last, which makes the logits.

    Raises:
        ModelError: if there is none.
    """
    found = [module for module in model.modules() if isinstance(module, nn.Linear)]
    if not found:
        raise ModelError("fine_pruning needs a model that ends in a linear layer; this one has none")
    return found[-1]


def mean_activation(model: nn.Module, layer: nn.Linear, data: Dataset) -> PerUnit:
    """Mean absolute input of each unit of a layer over all examples."""
    sums, count = torch.zeros(layer.in_features), 0

    def listen(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        nonlocal count
        units = inputs[0].detach().float().abs().flatten(0, -2)
        sums.add_(units.sum(0).cpu())
        count += len(units)

    handle = layer.register_forward_pre_hook(listen)
    predict(model, data)
    handle.remove()
    return sums / count
