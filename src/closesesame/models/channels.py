"""The channels of a network, found by running it: which layer makes them and which norm scales them.

A network's modules may be listed in any order, and an activation or a pooling may lie between a convolution
and its batch norm. So the network is run once, and each batch norm is matched with the layer its input really
came from, along the graph that autograd records.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from closesesame.core.errors import ModelError
from closesesame.core.types import PerUnit

from .base import Classifier

Convolution = nn.Conv1d | nn.Conv2d
Recurrent = nn.RNN | nn.LSTM | nn.GRU
Producer = nn.Conv1d | nn.Conv2d | nn.Linear | nn.RNN | nn.LSTM | nn.GRU
BatchNorm = nn.BatchNorm1d | nn.BatchNorm2d
Norm = nn.BatchNorm1d | nn.BatchNorm2d | nn.LayerNorm | nn.GroupNorm
ByChannel = Float[Tensor, "batch channel place"]
Output = Tensor | tuple[Any, ...]

_CHANNELWISE: tuple[str, ...] = (
    "Relu",
    "LeakyRelu",
    "Prelu",
    "Elu",
    "Gelu",
    "Silu",
    "Mish",
    "Hardtanh",
    "Hardswish",
    "Clamp",
)
_CHANNELWISE += ("Sigmoid", "Tanh", "Softplus", "MaxPool", "AvgPool", "AdaptiveAvgPool", "AdaptiveMaxPool")
_CHANNELWISE += ("Squeeze", "Unsqueeze", "Clone", "ToCopy")
"""Operations, as autograd calls them, that keep channels apart; squeezing is how 1-D pooling is done."""


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
    def thin(self, dead: Bool[Tensor, "channel weights"]) -> None:
        """Sets single weights to zero; `dead` is laid out as `rows`."""
        producer = self.producer
        assert producer is not None
        if not isinstance(producer, nn.RNN | nn.LSTM | nn.GRU):
            producer.weight.masked_fill_(dead.view(producer.weight.shape), 0)
            return
        size = producer.hidden_size
        for number, direction in enumerate(_directions(producer)):
            part = dead[number * size : (number + 1) * size]
            for kind in ("ih", "hh"):
                weight = getattr(producer, f"weight_{kind}_{direction}")
                by_unit = weight.view(-1, size, weight.shape[1]).transpose(0, 1)
                share = by_unit[0].numel()
                by_unit.masked_fill_(part[:, :share].view(by_unit.shape), 0)
                part = part[:, share:]

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


def channels_in(model: Classifier) -> list[Channels]:
    """The channels of a model's body, found on silence: what the values are does not matter."""
    return channels_of(model.body, _silence(model))


def head_in(model: Classifier) -> nn.Linear:
    """The linear layer of a model's body that makes the logits, found as the channels are.

    Raises:
        ModelError: if there is none, or more than one.
    """
    return head_of(model.body, _silence(model))


def channels_of(network: nn.Module, example: Tensor) -> list[Channels]:
    """Finds all channels of a network but its logits, in the order in which they are computed.

    Args:
        network: from `example` to logits; it is left as it was.
        example: a batch of inputs.

    Raises:
        ModelError: if it has no layer with channels beside the one that makes the logits.
    """
    run = _Run(network, example)
    found = []
    for name in run.order:
        module = run.modules[name]
        if name in run.producers:
            norm = run.modules[run.pairs[name]] if name in run.pairs else None
            found.append(Channels(name, module, norm, _size(module)))
        elif isinstance(module, Norm) and name not in run.pairs.values() and name not in run.heads:
            found.append(Channels(name, None, module, _size(module)))
    if not found:
        raise ModelError("this network has no channels: a convolution, linear or recurrent layer is needed")
    return found


def head_of(network: nn.Module, example: Tensor) -> nn.Linear:
    """As `head_in`, for a network from `example` to logits."""
    run = _Run(network, example)
    heads = [run.modules[name] for name in run.heads if isinstance(run.modules[name], Producer)]
    if len(heads) != 1 or not isinstance(heads[0], nn.Linear):
        raise ModelError("this method needs a model that ends in a linear layer; this one does not")
    return heads[0]


class _Run:
    """One run of a network: which layers were called, in which order, and what fed the norms.

    Attributes:
        modules: all layers with channels, by name.
        order: those that were called, each once.
        heads: those whose channels are the logits.
        producers: those that make other channels.
        pairs: the norm that each producer feeds.
    """

    def __init__(self, network: nn.Module, example: Tensor) -> None:
        self.modules = {name: module for name, module in network.named_modules() if _has_channels(module)}
        made: dict[object, str] = {}
        fed: dict[str, tuple[object, int]] = {}
        logits = self._watch(network, example, made, fed)
        self.order = list(fed)
        self.heads = {
            name for name in _nearest(logits.grad_fn, made) if _size(self.modules[name]) == logits.shape[-1]
        }
        for name in list(self.heads):  # a norm whose channels are the logits has a layer before it
            source = _source(fed[name][0], made) if isinstance(self.modules[name], Norm) else None
            self.heads |= set() if source is None else {source}
        self.producers = {n for n in self.order if isinstance(self.modules[n], Producer)} - self.heads
        self.pairs: dict[str, str] = {}
        for name in self.order:
            norm = self.modules[name]
            source = _source(fed[name][0], made) if isinstance(norm, Norm) else None
            if source in self.producers and _fits(self.modules[source], norm, fed[name][1]):
                self.pairs.setdefault(source, name)

    def _watch(
        self, network: nn.Module, example: Tensor, made: dict[object, str], fed: dict[str, tuple[object, int]]
    ) -> Tensor:
        hooks = []
        for name, module in self.modules.items():
            hooks.append(module.register_forward_pre_hook(partial(_note_input, name, fed)))
            hooks.append(module.register_forward_hook(partial(_note_output, name, made)))
        modes = {module: module.training for module in network.modules()}
        network.eval()
        try:
            with torch.enable_grad():
                logits: Tensor = network(example.detach().clone().requires_grad_())
        finally:
            for hook in hooks:
                hook.remove()
            for module, mode in modes.items():
                module.training = mode
        return logits


@dataclass(frozen=True, eq=False)
class Stage:
    """The output of one stage of a network: a block after its addition, or a layer with what follows it.

    Attributes:
        name: of the module that puts it out.
        module: that module.
        axis: which dimension of its output counts the channels.
    """

    name: str
    module: nn.Module
    axis: int


def stages_of(network: nn.Module, example: Tensor) -> list[Stage]:
    """Finds where all that the logits know of an input passes through one output, stage after stage.

    A layer inside a residual branch is none, since the shortcut goes around it; the block is one. Of the
    outputs between two layers with weights the last counts, so that norm, activation and pooling belong to
    the layer before them. Only maps count: outputs of more than one place, beside batch and channels.

    Args:
        network: from `example` to logits; it is left as it was.
        example: a batch of inputs.
    """
    value = example.detach().clone().requires_grad_()
    logits, heard = _hear(network, value)
    past = _past(logits.grad_fn)
    begin = next((node for node in past if getattr(node, "variable", None) is value), None)
    begin = begin or next((output.node for output in heard if output.node in past), None)  # no gradient there
    found: list[Stage] = []
    layer: nn.Module | None = None
    last: _Output | None = None
    for output in heard:
        if isinstance(output.module, Producer):
            layer, last = output.module, None
        elif layer is not None and _has_channels(output.module):
            layer = output.module
        if layer is None or len(output.shape) < 3 or output.shape[0] != example.shape[0]:
            continue
        if (last is not None and output.node is last.node) or output.node not in past:
            continue
        axis = _channel_axis(layer, output.shape)
        is_map = output.shape.numel() > output.shape[0] * output.shape[axis]
        if is_map and begin not in _past(logits.grad_fn, without=output.node):
            found = found if last is None else found[:-1]
            found.append(Stage(output.name, output.module, axis))
            last = output
    return found


@contextmanager
def put_out(stages: Sequence[Stage]) -> Iterator[list[ByChannel]]:
    """Within the block each run of the network puts the outputs of all stages into the list given."""
    seen: list[ByChannel] = [torch.empty(0, 0, 0)] * len(stages)
    hooks = [
        stage.module.register_forward_hook(partial(_keep_output, seen, number, stage.axis))
        for number, stage in enumerate(stages)
    ]
    try:
        yield seen
    finally:
        for hook in hooks:
            hook.remove()


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


@torch.no_grad()
def _silence(model: Classifier) -> Tensor:
    device = next((p.device for p in model.parameters()), torch.device("cpu"))
    features: Tensor = model.front_end(torch.zeros(2, *model.card.input_shape, device=device))
    return features


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


def _has_channels(module: nn.Module) -> bool:
    if isinstance(module, nn.LayerNorm):
        return module.weight is not None and len(module.normalized_shape) == 1
    if isinstance(module, nn.LSTM):
        return module.proj_size == 0
    return isinstance(module, Producer) or (isinstance(module, Norm) and module.weight is not None)


def _fits(producer: nn.Module, norm: nn.Module, ndim: int) -> bool:
    """Whether both count the same dimension of the value between them, which has `ndim`."""
    axes = [
        1 if isinstance(m, Convolution | BatchNorm | nn.GroupNorm) else ndim - 1 for m in (producer, norm)
    ]
    return axes[0] == axes[1] and _size(producer) == _size(norm)


def _source(node: object, made: dict[object, str]) -> str | None:
    """The layer that a value came from through operations that keep channels apart."""
    while node is not None and node not in made:
        if not type(node).__name__.startswith(_CHANNELWISE):
            return None
        node = node.next_functions[0][0]  # type: ignore[attr-defined]
    return None if node is None else made[node]


def _nearest(node: object, made: dict[object, str]) -> set[str]:
    """The layers that a value came from, whatever was done to it since."""
    found, open_, seen = set(), [node], set()
    while open_:
        node = open_.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if node in made:
            found.add(made[node])
        else:
            open_ += [before for before, _ in node.next_functions]  # type: ignore[attr-defined]
    return found


@dataclass(frozen=True)
class _Output:
    name: str
    module: nn.Module
    node: object
    shape: torch.Size


def _hear(network: nn.Module, value: Tensor) -> tuple[Tensor, list[_Output]]:
    """Runs the network; returns the logits and what its modules put out, in the order in which they ended."""
    heard: dict[str, _Output] = {}

    def note(name: str, module: nn.Module, _: object, output: object) -> None:
        first = output[0] if isinstance(output, tuple) and output else output
        if isinstance(first, Tensor):
            heard.pop(name, None)
            heard[name] = _Output(name, module, first.grad_fn, first.shape)

    hooks = [m.register_forward_hook(partial(note, name)) for name, m in network.named_modules() if name]
    modes = {module: module.training for module in network.modules()}
    network.eval()
    try:
        with torch.enable_grad():
            logits: Tensor = network(value)
    finally:
        for hook in hooks:
            hook.remove()
        for module, mode in modes.items():
            module.training = mode
    return logits, list(heard.values())


def _past(node: object, without: object = None) -> dict[object, None]:
    """All that a value came from along the graph of autograd, itself first, not looking through `without`."""
    found: dict[object, None] = {}
    open_ = [node]
    while open_:
        node = open_.pop()
        if node is None or node in found or node is without:
            continue
        found[node] = None
        open_ += [before for before, _ in node.next_functions]  # type: ignore[attr-defined]
    return found


def _channel_axis(layer: nn.Module, shape: torch.Size) -> int:
    """The dimension of an output that counts the channels of the last layer before it."""
    wanted = 1 if isinstance(layer, Convolution | BatchNorm | nn.GroupNorm) else len(shape) - 1
    other = 1 if wanted != 1 else len(shape) - 1
    return other if shape[wanted] != _size(layer) == shape[other] else wanted


def _note_input(
    name: str, fed: dict[str, tuple[object, int]], _: nn.Module, inputs: tuple[Tensor, ...]
) -> None:
    # Read at once: what works in place gives the tensor another past.
    fed.setdefault(name, (inputs[0].grad_fn, inputs[0].ndim))


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
    seen: list[Tensor], number: int, axis: int, _: nn.Module, __: object, output: Output
) -> None:
    seen[number] = by_channel(_first(output), axis)


def _keep_input(seen: list[Tensor], number: int, axis: int, _: nn.Module, inputs: tuple[Tensor, ...]) -> None:
    seen[number] = by_channel(inputs[0], axis)


def _first(output: Output) -> Tensor:
    value: Tensor = output if isinstance(output, Tensor) else output[0]
    return value
