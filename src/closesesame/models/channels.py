"""The channels of a network, found by running it: which layer makes them and which norm scales them.

A network's modules may be listed in any order, and an activation or a pooling may lie between a convolution
and its batch norm. So the network is run once, and each batch norm is matched with the layer its input really
came from, along the graph that autograd records.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor, nn

from closesesame.core.errors import ModelError
from closesesame.core.types import PerUnit

Convolution = nn.Conv1d | nn.Conv2d
Recurrent = nn.RNN | nn.LSTM | nn.GRU
Producer = nn.Conv1d | nn.Conv2d | nn.Linear | nn.RNN | nn.LSTM | nn.GRU
BatchNorm = nn.BatchNorm1d | nn.BatchNorm2d
Norm = nn.BatchNorm1d | nn.BatchNorm2d | nn.LayerNorm | nn.GroupNorm
ByChannel = Float[Tensor, "batch channel place"]
Output = Tensor | tuple[Tensor, ...]

_CHANNELWISE: tuple[str, ...] = (
    "Relu",
    "LeakyRelu",
    "Prelu",
    "Elu",
    "Gelu",
    "Silu",
    "Hardtanh",
    "Hardswish",
    "Sigmoid",
    "Tanh",
)
_CHANNELWISE += ("Softplus", "MaxPool", "AvgPool", "AdaptiveAvgPool", "AdaptiveMaxPool", "Mish")


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
    def site(self) -> nn.Module:
        """The module whose output is masked or watched: the norm, or the producer."""
        found = self.norm if self.norm is not None else self.producer
        assert found is not None
        return found

    @property
    def axis(self) -> int:
        """Which dimension of the site's output counts the channels."""
        last = isinstance(self.site, nn.Linear | nn.LayerNorm | nn.RNN | nn.LSTM | nn.GRU)
        return -1 if last else 1

    @property
    def statistics(self) -> "nn.BatchNorm1d | nn.BatchNorm2d | None":
        """The batch norm with running mean and variance, if there is one."""
        norm = self.norm
        return (
            norm if isinstance(norm, nn.BatchNorm1d | nn.BatchNorm2d) and norm.track_running_stats else None
        )

    def shift(self) -> PerUnit | None:
        """What the site adds to each channel, None if nothing."""
        site = self.site
        return None if isinstance(site, nn.RNN | nn.LSTM | nn.GRU) else site.bias  # type: ignore[return-value]

    def rows(self) -> Float[Tensor, "channel weights"]:
        """The weights that make each channel: a kernel, a row, all gates of a unit.

        Raises:
            ModelError: if no layer makes them.
        """
        producer = self.producer
        if producer is None:
            raise ModelError(f"layer {self.name!r} has no weights of its own")
        if isinstance(producer, nn.RNN | nn.LSTM | nn.GRU):
            parts = []
            for direction in _directions(producer):
                gates = [getattr(producer, f"weight_{kind}_{direction}") for kind in ("ih", "hh")]
                gates = [w.reshape(-1, producer.hidden_size, w.shape[1]).transpose(0, 1) for w in gates]
                parts.append(torch.cat([w.flatten(1) for w in gates], 1))
            return torch.cat(parts)
        return producer.weight.flatten(1)

    @torch.no_grad()
    def silence(self, index: Tensor, *, shift: bool = True) -> None:
        """Prunes the channels at `index` (k,) for good.

        Args:
            index: of the channels.
            shift: whether what is added to them goes as well; if not, they become constant.
        """
        site = self.site
        if isinstance(site, nn.RNN | nn.LSTM | nn.GRU):
            # With all gates at their middle and nothing proposed, the state stays at zero.
            for number, direction in enumerate(_directions(site)):
                units = index - number * site.hidden_size
                units = units[(units >= 0) & (units < site.hidden_size)]
                for kind in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"):
                    value = getattr(site, f"{kind}_{direction}", None)
                    if value is not None:
                        value.view(-1, site.hidden_size, *value.shape[1:])[:, units] = 0
            return
        site.weight[index] = 0  # type: ignore[operator]
        bias = self.shift()
        if shift and bias is not None:
            bias[index] = 0


def channels_of(network: nn.Module, example: Tensor) -> list[Channels]:
    """Finds all channels of a network but its logits, in the order in which they are computed.

    Args:
        network: from `example` to logits; it is left as it was.
        example: a batch of inputs.

    Raises:
        ModelError: if it has no layer with channels beside the one that makes the logits.
    """
    made: dict[object, str] = {}
    fed: dict[str, object] = {}
    modules: dict[str, nn.Module] = {
        name: m for name, m in network.named_modules() if isinstance(m, Producer | Norm)
    }
    order: list[str] = []
    hooks = []
    for name, module in modules.items():
        hooks.append(module.register_forward_pre_hook(partial(_note_input, name, fed, order)))
        hooks.append(module.register_forward_hook(partial(_note_output, name, made)))
    modes = {module: module.training for module in network.modules()}
    network.eval()
    try:
        with torch.enable_grad():
            logits = network(example.detach().clone().requires_grad_())
    finally:
        for hook in hooks:
            hook.remove()
        for module, mode in modes.items():
            module.training = mode
    head = _source(logits.grad_fn, made)
    producers = {name for name in order if isinstance(modules[name], Producer) and name != head}
    pairs = {}
    for name in order:
        source = _source(fed[name], made) if isinstance(modules[name], Norm) else None
        if source in producers and _size(modules[source]) == _size(modules[name]):
            pairs[source] = name
    paired = set(pairs.values())
    found = []
    for name in dict.fromkeys(order):
        module = modules[name]
        if name in producers:
            norm = modules[pairs[name]] if name in pairs else None
            found.append(Channels(name, module, norm, _size(module)))  # type: ignore[arg-type]
        elif isinstance(module, Norm) and name not in paired and module.weight is not None:
            found.append(Channels(name, None, module, _size(module)))
    if not found:
        raise ModelError("this network has no channels: a convolution, linear or recurrent layer is needed")
    return found


@contextmanager
def scaled(
    layers: Sequence[Channels], scales: Sequence[Tensor], shifts: Sequence[Tensor] | None = None
) -> Iterator[None]:
    """Within the block each channel is multiplied by its scale, and what is added to it by its shift.

    Args:
        layers: whose channels.
        scales: (channel,) each; gradients flow into them.
        shifts: (channel,) each; 1 if None.
    """
    hooks = []
    for number, layer in enumerate(layers):
        shift = None if shifts is None else shifts[number]
        hooks.append(layer.site.register_forward_hook(partial(_rescale, layer, scales[number], shift)))
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


@contextmanager
def watched(layers: Sequence[Channels]) -> Iterator[list[ByChannel]]:
    """Within the block each run of the network puts the pre-activations of all layers into the list given.

    They are what a norm takes, or what a layer without norm puts out; in the order of `layers`.
    """
    seen: list[ByChannel] = [torch.empty(0, 0, 0)] * len(layers)
    hooks = []
    for number, layer in enumerate(layers):
        site, where = layer.site, (seen, number, layer.axis)
        if layer.norm is None:
            hooks.append(site.register_forward_hook(partial(_keep_output, *where)))
        else:
            hooks.append(site.register_forward_pre_hook(partial(_keep_input, *where)))
    try:
        yield seen
    finally:
        for hook in hooks:
            hook.remove()


def by_channel(value: Tensor, axis: int) -> ByChannel:
    """Activations as (batch, channel, place), whatever they count last."""
    return value.movedim(axis, 1).flatten(2) if value.ndim > 2 else value[..., None]


def _directions(module: Recurrent) -> list[str]:
    last = f"l{module.num_layers - 1}"
    return [last, f"{last}_reverse"] if module.bidirectional else [last]


def _size(module: nn.Module) -> int:
    if isinstance(module, nn.RNN | nn.LSTM | nn.GRU):
        return module.hidden_size * (2 if module.bidirectional else 1)
    if isinstance(module, nn.LayerNorm):
        return module.normalized_shape[-1]
    for name in ("out_channels", "out_features", "num_features", "num_channels"):
        if hasattr(module, name):
            return int(getattr(module, name))
    raise AssertionError(module)


def _source(node: object, made: dict[object, str]) -> str | None:
    """The layer that a value came from through operations that keep channels apart."""
    while node is not None and node not in made:
        kind = type(node).__name__
        if not kind.startswith(_CHANNELWISE):
            return None
        node = node.next_functions[0][0]  # type: ignore[attr-defined]
    return None if node is None else made[node]


def _note_input(
    name: str, fed: dict[str, object], order: list[str], _: nn.Module, inputs: tuple[Tensor, ...]
) -> None:
    fed[name] = inputs[0].grad_fn
    order.append(name)


def _note_output(name: str, made: dict[object, str], _: nn.Module, __: object, output: Output) -> None:
    made[_first(output).grad_fn] = name


def _rescale(
    layer: Channels, scale: Tensor, shift: Tensor | None, _: nn.Module, __: object, output: Output
) -> Output:
    value, bias = _first(output), layer.shift()
    across = [1] * value.ndim
    across[layer.axis] = layer.count
    if bias is None:
        value = value * scale.view(across)
    else:
        moved = bias if shift is None else bias * shift
        value = (value - bias.view(across)) * scale.view(across) + moved.view(across)
    return value if isinstance(output, Tensor) else (value, *output[1:])


def _keep_output(
    seen: list[ByChannel], number: int, axis: int, _: nn.Module, __: object, output: Output
) -> None:
    seen[number] = by_channel(_first(output), axis)


def _keep_input(
    seen: list[ByChannel], number: int, axis: int, _: nn.Module, inputs: tuple[Tensor, ...]
) -> None:
    seen[number] = by_channel(inputs[0], axis)


def _first(output: Output) -> Tensor:
    return output if isinstance(output, Tensor) else output[0]
