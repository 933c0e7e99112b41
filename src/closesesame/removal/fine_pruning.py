"""Fine-pruning: units that clean data leave idle are pruned, then the rest is fine-tuned.

Liu, Dolan-Gavitt, Garg, "Fine-Pruning: Defending Against Backdooring Attacks on Deep Neural Networks", RAID
2018, arXiv:1805.12185; tolerance, steps of 1 % and the fine-tuning as in BackdoorBench, arXiv:2206.12654: 100
epochs of 2,500 examples in batches of 256, which are 10 an epoch: 1,000 steps.

Ours differs: pruned are the units that enter the last linear layer, which for a network with pooling in front
of it are the channels of the last convolution; or, if asked, the channels of the last convolution itself (of
the last layer before the logits, where there is none). The tolerance is measured on held-out clean examples,
not on the test set, and the last step within it is kept, not the first beyond it; pruned units stay pruned
while the rest is fine-tuned.
"""

import copy
from collections.abc import Callable
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from closesesame.core.errors import ModelError
from closesesame.core.progress import Track
from closesesame.core.types import PerUnit
from closesesame.data import Dataset
from closesesame.models import Classifier
from closesesame.models.channels import Channels, channels_in, head_in
from closesesame.models.hooks import on_input, on_output
from closesesame.training import Batch, accuracy, backpropagate, fit, predict

from .base import FineTuning


class FinePruning(FineTuning):
    """Prune the least active units while held-out accuracy allows it, then fine-tune."""

    name: ClassVar[str] = "fine_pruning"
    cite: ClassVar[str] = "arXiv:1805.12185"
    cost: ClassVar[str] = "about plain fine-tuning"

    tolerance: float = Field(
        0.1, ge=0, lt=1, description="relative drop of held-out accuracy that is allowed"
    )
    step: float = Field(0.01, gt=0, le=1, description="share of the units pruned at a time")
    layer: Literal["head", "convolution"] = Field(
        "head", description="prune what enters the last linear layer, or what the last convolution makes"
    )

    def repair(self, model: Classifier, tune: Dataset, held_out: Dataset, seed: int) -> dict[str, Any]:
        """Chooses how many units to prune on `held_out`."""
        if self.layer == "head":
            head = head_in(model)
            module: nn.Module = head
            order, prune = mean_activation(model, head, tune).argsort(), _prune_inputs(head)
        else:
            channels = last_convolution(model)
            module, prune = channels.module, channels.prune
            order = mean_output(model, channels, tune).argsort()
        pruned = self._prune(model, module, order, prune, held_out)
        dead = order[:pruned]

        def rule(body: nn.Module, batch: Batch) -> Tensor:
            prune(dead)  # again and again: the last step has moved them
            return backpropagate(body, batch)

        fit(model, tune, self.training(), seed=seed, gradient=rule)
        prune(dead)
        return {"pruned_units": pruned, "of": len(order)}

    def _prune(
        self,
        model: Classifier,
        module: nn.Module,
        order: Tensor,
        prune: Callable[[Tensor], None],
        held_out: Dataset,
    ) -> int:
        """Prunes in steps; leaves the model at the last one within the tolerance, and says how many went."""
        size = max(1, round(self.step * len(order)))
        allowed = accuracy(model, held_out) * (1 - self.tolerance)
        kept, pruned = copy.deepcopy(module.state_dict()), 0
        ends = range(size, len(order), size)
        for end in Track(ends, "pruning", len(ends)):
            prune(order[:end])
            if accuracy(model, held_out) < allowed:
                break
            kept, pruned = copy.deepcopy(module.state_dict()), end
        module.load_state_dict(kept)
        return pruned


def last_convolution(model: Classifier) -> Channels:
    """The channels of the convolution that runs last, or of the layer that does if there is none."""
    made = [layer for layer in channels_in(model) if layer.producer is not None]
    if not made:
        raise ModelError("fine_pruning needs a layer before the logits; this model has none")
    convolutions = [layer for layer in made if isinstance(layer.producer, nn.Conv1d | nn.Conv2d)]
    return (convolutions or made)[-1]


def mean_activation(model: nn.Module, layer: nn.Linear, data: Dataset) -> PerUnit:
    """Mean absolute input of each unit of a layer over all examples."""
    total = _Mean(-1)
    with on_input(layer, lambda value: total.add(value.abs())):
        predict(model, data)
    return total.value()


def mean_output(model: nn.Module, channels: Channels, data: Dataset) -> PerUnit:
    """Mean of the positive part of each channel, which is what a rectifier lets through."""
    total = _Mean(channels.axis)
    with on_output(channels.module, lambda value: total.add(value.relu())):
        predict(model, data)
    return total.value()


class _Mean:
    """A mean over everything but one axis, batch by batch."""

    def __init__(self, axis: int) -> None:
        self._axis = axis
        self._sums: Tensor | float = 0.0
        self._count = 0

    def add(self, value: Tensor) -> None:
        units = value.detach().float().movedim(self._axis, -1).flatten(0, -2)
        self._sums = self._sums + units.sum(0).cpu()
        self._count += len(units)

    def value(self) -> PerUnit:
        return torch.as_tensor(self._sums / self._count)


def _prune_inputs(layer: nn.Linear) -> Callable[[Tensor], None]:
    @torch.no_grad()
    def prune(index: Tensor) -> None:
        layer.weight[:, index] = 0

    return prune
