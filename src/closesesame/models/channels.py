"""The channels of a network: which layer makes them, which norm scales them, and how they are pruned."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from closesesame.core.errors import ModelError
from closesesame.core.types import PerUnit

from .base import Classifier
from .hooks import on_output
from .tracing import Norm, Producer, Recurrent, Trace, channel_count

Rows = Float[Tensor, "channel weights"]


@dataclass(frozen=True, eq=False)
class Channels:
    """The output channels of one layer.

    Attributes:
        name: of the layer within the network.
        producer: makes the channels; None for a norm that no single layer feeds.
        norm: scales them; None if there is none that the producer alone feeds.
        count: how many there are.
    """

    name: str
    producer: Producer | None
    norm: Norm | None
    count: int

    @property
    def module(self) -> nn.Module:
        """The module whose output is masked or pruned: the norm, or the producer."""
        found = self.norm if self.norm is not None else self.producer
        assert found is not None
        return found

    @property
    def axis(self) -> int:
        """Which dimension of the module's output counts the channels."""
        return -1 if isinstance(self.module, nn.Linear | nn.LayerNorm) else 1

    @property
    def watched_at_input(self) -> bool:
        """Whether the pre-activations are what enters the module, not what leaves it."""
        return self.norm is not None

    @property
    def statistics(self) -> nn.BatchNorm1d | nn.BatchNorm2d | None:
        """The batch norm with running mean and variance, if there is one."""
        norm = self.norm
        if isinstance(norm, nn.BatchNorm1d | nn.BatchNorm2d) and norm.track_running_stats:
            return norm
        return None

    def shift(self) -> PerUnit | None:
        """What the module adds to each channel, None if nothing."""
        bias = self.module.bias
        assert bias is None or isinstance(bias, Tensor)
        return bias

    def weight_rows(self) -> Rows:
        """The weights that make each channel: a kernel, a row, all gates of a unit.

        Raises:
            ModelError: if no layer makes them.
        """
        return self._producer_weight().flatten(1)

    @torch.no_grad()
    def zero_weights(self, chosen: Bool[Tensor, "channel weights"]) -> None:
        """Sets single weights to zero; `chosen` is laid out as `weight_rows`."""
        weight = self._producer_weight()
        weight.masked_fill_(chosen.view(weight.shape), 0)

    @torch.no_grad()
    def prune(self, index: Tensor, *, shift: bool = True) -> None:
        """Prunes the channels at `index` (k,) for good.

        Args:
            index: of the channels.
            shift: whether what is added to them goes as well; if not, they become constant.
        """
        weight, bias = self.module.weight, self.shift()
        assert isinstance(weight, Tensor)
        weight[index] = 0
        if shift and bias is not None:
            bias[index] = 0

    def _producer_weight(self) -> Tensor:
        if self.producer is None:
            raise ModelError(f"layer {self.name!r} has no weights of its own")
        weight = self.producer.weight
        assert isinstance(weight, Tensor)
        return weight


@dataclass(frozen=True, eq=False)
class RecurrentChannels(Channels):
    """The units of a recurrent layer, whose weights lie in several tensors, gate by gate."""

    producer: Recurrent

    @property
    def axis(self) -> int:
        """Units are counted last, by the layer and by a norm behind it."""
        return -1

    def shift(self) -> PerUnit | None:
        """What a norm adds; the biases of the gates add nothing to a unit's output."""
        return super().shift() if self.norm is not None else None

    def weight_rows(self) -> Rows:
        """All gates of each unit, one direction after the other."""
        rows = [[gate.flatten(1) for gate in self._by_unit(name, "weight")] for name in self._directions()]
        return torch.cat([torch.cat(row, 1) for row in rows])

    @torch.no_grad()
    def zero_weights(self, chosen: Bool[Tensor, "channel weights"]) -> None:
        """Sets single weights to zero; `chosen` is laid out as `weight_rows`."""
        for part, name in zip(chosen.split(self.producer.hidden_size), self._directions(), strict=True):
            gates = self._by_unit(name, "weight")
            sizes = [gate[0].numel() for gate in gates]
            for gate, mask in zip(gates, part.split(sizes, 1), strict=True):
                gate.masked_fill_(mask.view(gate.shape), 0)

    @torch.no_grad()
    def prune(self, index: Tensor, *, shift: bool = True) -> None:
        """Prunes units for good; with all gates at their middle and nothing proposed, a state stays zero."""
        if self.norm is not None:
            super().prune(index, shift=shift)
            return
        size = self.producer.hidden_size
        for number, name in enumerate(self._directions()):
            units = index[(index >= number * size) & (index < (number + 1) * size)] - number * size
            for gate in self._by_unit(name, "weight") + self._by_unit(name, "bias"):
                gate[units] = 0

    def _directions(self) -> list[str]:
        last = f"l{self.producer.num_layers - 1}"
        return [last, f"{last}_reverse"] if self.producer.bidirectional else [last]

    def _by_unit(self, direction: str, kind: str) -> list[Tensor]:
        """The weights or biases of a direction, from inputs and from states: views (unit, gate, ...)."""
        names = [f"{kind}_{source}_{direction}" for source in ("ih", "hh")]
        values = [getattr(self.producer, name) for name in names if hasattr(self.producer, name)]
        return [v.view(-1, self.producer.hidden_size, *v.shape[1:]).transpose(0, 1) for v in values]


def channels_in(model: Classifier) -> list[Channels]:
    """The channels of a model's body, found by a run on zeros: the values do not matter."""
    return channels_of(model.body, _zero_features(model))


def head_in(model: Classifier) -> nn.Linear:
    """The linear layer of a model's body that makes the logits, found as the channels are.

    Raises:
        ModelError: if there is none, or more than one.
    """
    return head_of(model.body, _zero_features(model))


def channels_of(network: nn.Module, example: Tensor) -> list[Channels]:
    """Finds all channels of a network but its logits, in the order in which they are computed.

    Args:
        network: from `example` to logits; it is left as it was.
        example: a batch of inputs.

    Raises:
        ModelError: if it has no layer with channels beside the one that makes the logits.
    """
    trace = Trace(network, example)
    found: list[Channels] = []
    for name, module in trace.layers.items():
        norm = trace.norm_of.get(name)
        if name in trace.heads or (isinstance(module, Norm) and name in trace.norm_of.values()):
            continue
        own = None if norm is None else trace.layers[norm]
        assert own is None or isinstance(own, Norm)
        if isinstance(module, Recurrent):
            found.append(RecurrentChannels(name, module, own, channel_count(module)))
        elif isinstance(module, Norm):
            found.append(Channels(name, None, module, channel_count(module)))
        else:
            found.append(Channels(name, module, own, channel_count(module)))
    if not found:
        raise ModelError("this network has no channels: a convolution, linear or recurrent layer is needed")
    return found


def head_of(network: nn.Module, example: Tensor) -> nn.Linear:
    """As `head_in`, for a network from `example` to logits."""
    trace = Trace(network, example)
    heads = [trace.layers[name] for name in trace.heads if not isinstance(trace.layers[name], Norm)]
    if len(heads) != 1 or not isinstance(heads[0], nn.Linear):
        raise ModelError("this method needs a model that ends in a linear layer; this one does not")
    return heads[0]


@contextmanager
def scaled(
    layers: Sequence[Channels], scales: Sequence[Tensor], shifts: Sequence[Tensor] | None = None
) -> Iterator[None]:
    """Within the block, each channel is multiplied by its scale, and what is added to it by its shift.

    Args:
        layers: whose channels.
        scales: (channel,) each; gradients flow into them.
        shifts: (channel,) each; 1 if None.
    """
    with ExitStack() as hooks:
        for number, layer in enumerate(layers):
            shift = None if shifts is None else shifts[number]
            hooks.enter_context(on_output(layer.module, partial(_rescaled, layer, scales[number], shift)))
        yield


@torch.no_grad()
def _zero_features(model: Classifier) -> Tensor:
    features: Tensor = model.front_end(torch.zeros(2, *model.card.input_shape, device=model.device))
    return features


def _rescaled(layer: Channels, scale: Tensor, shift: Tensor | None, value: Tensor) -> Tensor:
    bias = layer.shift()
    across = [1] * value.ndim
    across[layer.axis] = layer.count
    if bias is None:
        return value * scale.view(across)
    new_bias = bias if shift is None else bias * shift
    return (value - bias.view(across)) * scale.view(across) + new_bias.view(across)
