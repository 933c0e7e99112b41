"""Which layer feeds which norm, found by running the network.

A network's modules may be listed in any order, and an activation or a pooling may lie between a convolution
and its batch norm. So the network is run once, and what enters a layer is followed back along the graph that
autograd records.
"""

from collections.abc import Collection, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from .hooks import on_input, on_output

Convolution = nn.Conv1d | nn.Conv2d
Recurrent = nn.RNN | nn.LSTM | nn.GRU
Producer = nn.Conv1d | nn.Conv2d | nn.Linear | nn.RNN | nn.LSTM | nn.GRU
BatchNorm = nn.BatchNorm1d | nn.BatchNorm2d
Norm = nn.BatchNorm1d | nn.BatchNorm2d | nn.LayerNorm | nn.GroupNorm
Layer = Producer | Norm
Node = Any
"""An operation in the graph of autograd; torch gives it no type of its own."""

_CHANNELWISE: tuple[str, ...] = (
    *("Relu", "LeakyRelu", "Prelu", "Elu", "Gelu", "Silu", "Mish", "Hardtanh", "Hardswish", "Clamp"),
    *("Sigmoid", "Tanh", "Softplus", "MaxPool", "AvgPool", "AdaptiveAvgPool", "AdaptiveMaxPool"),
    *("Squeeze", "Unsqueeze", "Clone", "ToCopy"),
)
"""Operations, as autograd calls them, that keep channels apart; squeezing is how 1-D pooling is done."""


@dataclass(frozen=True)
class Call:
    """What a module put out."""

    name: str
    module: nn.Module
    node: Node
    shape: torch.Size


class Trace:
    """One run of a network in evaluation mode; the network is left as it was.

    Attributes:
        layers: the layers with channels that were called, by name, in order of their first call.
        heads: names of those whose channels are the logits.
        norm_of: the name of the norm that each producer alone feeds.
    """

    def __init__(self, network: nn.Module, example: Tensor) -> None:
        self._example = example.detach().clone().requires_grad_()
        self._calls: list[Call] = []
        self._fed: dict[str, tuple[Node, int]] = {}
        logits = self._run(network)
        self._end = logits.grad_fn
        modules = dict(network.named_modules())
        self.layers: dict[str, Layer] = {}
        for name in self._fed:
            module = modules[name]
            if has_channels(module):
                assert isinstance(module, Producer | Norm)
                self.layers[name] = module
        self._made = {call.node: call.name for call in self._calls if call.name in self.layers}
        self.heads = self._find_heads(logits.shape[-1])
        self.norm_of: dict[str, str] = {}
        for name, norm in self.layers.items():
            source = self._source(name) if isinstance(norm, Norm) else None
            if source is None or source in self.heads or not isinstance(self.layers[source], Producer):
                continue
            if _fits(self.layers[source], norm, self._fed[name][1]):
                self.norm_of.setdefault(source, name)

    def calls(self) -> list[Call]:
        """The last call of each module within the network, in the order in which they ended."""
        last: dict[str, Call] = {}
        for call in self._calls:
            last.pop(call.name, None)
            last[call.name] = call
        last.pop("", None)
        return list(last.values())

    def past(self, without: Node = None) -> set[Node]:
        """All operations that the logits came from, not looking through `without`."""
        return set(_walk(self._end, {without})) - {without}

    def start(self) -> Node:
        """Where the example enters the graph of autograd, or what came first where no gradient reaches it."""
        past = self.past()
        entry = next((node for node in past if getattr(node, "variable", None) is self._example), None)
        return entry or next((call.node for call in self.calls() if call.node in past), None)

    def _run(self, network: nn.Module) -> Tensor:
        def note_input(name: str, value: Tensor) -> None:
            # Read now: an operation in place would replace `grad_fn`.
            self._fed.setdefault(name, (value.grad_fn, value.ndim))

        def note_output(name: str, module: nn.Module, value: object) -> None:
            if isinstance(value, Tensor):
                self._calls.append(Call(name, module, value.grad_fn, value.shape))

        modes = {module: module.training for module in network.modules()}
        network.eval()
        try:
            with ExitStack() as hooks, torch.enable_grad():
                for name, module in network.named_modules():
                    if has_channels(module):
                        hooks.enter_context(on_input(module, partial(note_input, name)))
                    hooks.enter_context(on_output(module, partial(note_output, name, module)))
                logits: Tensor = network(self._example)
        finally:
            for module, mode in modes.items():
                module.training = mode
        return logits

    def _find_heads(self, classes: int) -> set[str]:
        nearest = {self._made[node] for node in _walk(self._end, self._made) if node in self._made}
        heads = {name for name in nearest if channel_count(self.layers[name]) == classes}
        for name in list(heads):  # a norm whose channels are the logits has a layer before it
            source = self._source(name) if isinstance(self.layers[name], Norm) else None
            heads |= set() if source is None else {source}
        return heads

    def _source(self, name: str) -> str | None:
        """The layer that a layer's input came from through operations that keep channels apart."""
        node = self._fed[name][0]
        while node is not None and node not in self._made:
            if not type(node).__name__.startswith(_CHANNELWISE):
                return None
            node = node.next_functions[0][0]
        return None if node is None else self._made[node]


def channel_count(module: nn.Module) -> int:
    """How many channels a layer makes or scales."""
    if isinstance(module, Recurrent):
        return module.hidden_size * (2 if module.bidirectional else 1)
    if isinstance(module, nn.LayerNorm):
        return module.normalized_shape[-1]
    for name in ("out_channels", "out_features", "num_features", "num_channels"):
        if hasattr(module, name):
            return int(getattr(module, name))
    raise AssertionError(module)


def has_channels(module: nn.Module) -> bool:
    """Whether a module makes channels, or scales each of them."""
    if isinstance(module, nn.LayerNorm):
        return module.weight is not None and len(module.normalized_shape) == 1
    if isinstance(module, nn.LSTM):
        return module.proj_size == 0
    return isinstance(module, Producer) or (isinstance(module, Norm) and module.weight is not None)


def _walk(node: Node, ends: Collection[Node]) -> Iterator[Node]:
    """All operations that a value came from, itself first; `ends` are not looked through."""
    seen: set[Node] = set()
    waiting = [node]
    while waiting:
        node = waiting.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        yield node
        if node not in ends:
            waiting += [before for before, _ in node.next_functions]


def counts_second(module: nn.Module) -> bool:
    """Whether a layer's channels are the second dimension, whatever follows; if not, they are the last."""
    return isinstance(module, Convolution | BatchNorm | nn.GroupNorm)


def _fits(producer: nn.Module, norm: nn.Module, ndim: int) -> bool:
    """Whether both count the same dimension of the value between them, which has `ndim`."""
    axes = [1 if counts_second(module) else ndim - 1 for module in (producer, norm)]
    return axes[0] == axes[1] and channel_count(producer) == channel_count(norm)
