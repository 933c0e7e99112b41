"""What removals share that prune units by their activity on clean examples, and tune what is left."""

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from closesesame.core.errors import ModelError
from closesesame.core.progress import Track
from closesesame.core.types import PerUnit
from closesesame.data import Dataset
from closesesame.models import Classifier
from closesesame.models.channels import Channels, channels_in, head_in
from closesesame.models.hooks import on_input, on_output
from closesesame.training import Batch, Training, accuracy, backpropagate, fit, predict

Layer = Literal["head", "convolution"]
"""Whether what enters the last linear layer is pruned, or what the last convolution makes."""


@dataclass(frozen=True, eq=False)
class Units:
    """Units of one layer.

    Attributes:
        module: whose weights are changed when units are pruned.
        activity: mean of each unit over clean examples.
        prune: sets the units of these indices to zero.
    """

    module: nn.Module
    activity: PerUnit
    prune: Callable[[Tensor], None]

    @property
    def order(self) -> Tensor:
        """Their indices, the least active first."""
        return self.activity.argsort()

    @classmethod
    def of(cls, model: Classifier, layer: Layer, clean: Dataset) -> "Units":
        """The units of a layer, and how active they are.

        Raises:
            ModelError: if there is no such layer.
        """
        if layer == "head":
            head = head_in(model)
            return cls(head, mean_activation(model, head, clean), _prune_inputs(head))
        channels = last_convolution(model)
        return cls(channels.module, mean_output(model, channels, clean), channels.prune)


def prune_within(
    model: Classifier, units: Units, ends: Sequence[int], tolerance: float, held_out: Dataset
) -> int:
    """Prunes the least active units in steps, and keeps the last step within the tolerance.

    Args:
        model: changed in place.
        units: of it.
        ends: how many units are pruned after each step.
        tolerance: relative drop of the accuracy on `held_out` that is allowed.
        held_out: clean examples.

    Returns:
        How many units are pruned.
    """
    allowed = accuracy(model, held_out) * (1 - tolerance)
    kept, pruned, order = copy.deepcopy(units.module.state_dict()), 0, units.order
    for end in Track(ends, "pruning", len(ends)):
        units.prune(order[:end])
        if accuracy(model, held_out) < allowed:
            break
        kept, pruned = copy.deepcopy(units.module.state_dict()), end
    units.module.load_state_dict(kept)
    return pruned


def tune_without(
    model: Classifier,
    dead: Tensor,
    prune: Callable[[Tensor], None],
    tune: Dataset,
    training: Training,
    seed: int,
) -> None:
    """Fine-tunes in place, while pruned units stay pruned.

    Args:
        model: with the units pruned.
        dead: their indices.
        prune: sets them to zero.
        tune: clean examples.
        training: the settings.
        seed: of everything drawn.
    """

    def rule(body: nn.Module, batch: Batch) -> Tensor:
        prune(dead)  # before each batch, since the last step has moved them
        return backpropagate(body, batch)

    fit(model, tune, training, seed=seed, gradient=rule)
    prune(dead)


def last_convolution(model: Classifier) -> Channels:
    """The channels of the convolution that runs last, or of the layer that does if there is none.

    Raises:
        ModelError: if there is no layer before the logits.
    """
    layers = [layer for layer in channels_in(model) if layer.producer is not None]
    if not layers:
        raise ModelError("fine-pruning needs a layer before the logits; this model has none")
    convolutions = [layer for layer in layers if isinstance(layer.producer, nn.Conv1d | nn.Conv2d)]
    return (convolutions or layers)[-1]


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
