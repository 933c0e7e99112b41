"""What removals share that prune units by their activity on clean examples, and tune what is left."""

import copy
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from closesesame.core.progress import Track
from closesesame.core.types import PerUnit
from closesesame.data import Dataset
from closesesame.models import Classifier
from closesesame.models.channels import head_in
from closesesame.models.hooks import on_input
from closesesame.training import Batch, Training, accuracy, backpropagate, fit, on_features, predict


@dataclass(frozen=True, eq=False)
class Units:
    """What enters the last linear layer of a model.

    Where a mean over the map stands in front of that layer, these are the channels of the last map. In a
    residual network several convolutions are added up in it, so none of them makes a channel alone.

    Attributes:
        layer: that layer.
        activity: mean absolute value of each unit over clean examples.
    """

    layer: nn.Linear
    activity: PerUnit

    @property
    def order(self) -> Tensor:
        """Their indices, the least active first."""
        return self.activity.argsort()

    @classmethod
    def of(cls, model: Classifier, clean: Dataset) -> "Units":
        """The units of a model, and how active they are.

        Raises:
            ModelError: if the model does not end in a linear layer.
        """
        head = head_in(model)
        return cls(head, mean_activation(model, head, clean))

    @torch.no_grad()
    def prune(self, index: Tensor) -> None:
        """Cuts the units at `index` (k,) off from the layer that they enter."""
        self.layer.weight[:, index] = 0


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
    model, held_out = on_features(model, held_out)
    allowed = accuracy(model, held_out) * (1 - tolerance)
    kept, pruned, order = copy.deepcopy(units.layer.state_dict()), 0, units.order
    for end in Track(ends, "pruning", len(ends)):
        units.prune(order[:end])
        if accuracy(model, held_out) < allowed:
            break
        kept, pruned = copy.deepcopy(units.layer.state_dict()), end
    units.layer.load_state_dict(kept)
    return pruned


def tune_without(
    model: Classifier, units: Units, dead: Tensor, tune: Dataset, training: Training, seed: int
) -> None:
    """Fine-tunes in place, while pruned units stay pruned.

    Args:
        model: with the units pruned.
        units: of it.
        dead: the indices of those that are pruned.
        tune: clean examples.
        training: the settings.
        seed: of everything drawn.
    """

    def rule(body: nn.Module, batch: Batch) -> Tensor:
        units.prune(dead)  # before each batch, since the last step has moved them
        return backpropagate(body, batch)

    fit(model, tune, training, seed=seed, gradient=rule)
    units.prune(dead)


def mean_activation(model: nn.Module, layer: nn.Linear, data: Dataset) -> PerUnit:
    """Mean absolute input of each unit of a layer over all examples."""
    sums: list[Tensor] = []
    counts: list[int] = []

    def add(value: Tensor) -> None:
        units = value.detach().float().abs().flatten(0, -2)
        sums.append(units.sum(0).cpu())
        counts.append(len(units))

    with on_input(layer, add):
        predict(model, data)
    return torch.stack(sums).sum(0) / sum(counts)
