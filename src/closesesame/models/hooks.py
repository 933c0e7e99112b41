"""Hooks on the modules of a network: watch or change what enters and what leaves them."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor, nn

ByChannel = Float[Tensor, "batch channel place"]
Act = Callable[[Tensor], Tensor | None]
"""Is given a tensor; a tensor that it returns takes its place, and gradients flow through the change."""


@contextmanager
def on_input(module: nn.Module, act: Act) -> Iterator[None]:
    """Within the block, `act` is called with what enters the module, run by run."""

    def hook(_: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...] | None:
        changed = act(inputs[0]) if inputs else None
        return None if changed is None else (changed, *inputs[1:])

    handle = module.register_forward_pre_hook(hook)
    try:
        yield
    finally:
        handle.remove()


@contextmanager
def on_output(module: nn.Module, act: Act) -> Iterator[None]:
    """Within the block, `act` is called with what leaves the module: of several tensors, with the first."""

    def hook(_: nn.Module, __: object, output: Any) -> Any:
        several = isinstance(output, tuple) and output  # recurrent layers put out their states as well
        changed = act(output[0] if several else output)
        return (changed, *output[1:]) if several and changed is not None else changed

    handle = module.register_forward_hook(hook)
    try:
        yield
    finally:
        handle.remove()


@contextmanager
def inputs_of(module: nn.Module) -> Iterator[list[Tensor]]:
    """Within the block, what enters the module is appended to the list given, run by run."""
    seen: list[Tensor] = []
    with on_input(module, seen.append):
        yield seen


@contextmanager
def outputs_of(module: nn.Module) -> Iterator[list[Tensor]]:
    """Within the block, what leaves the module is appended to the list given, run by run."""
    seen: list[Tensor] = []
    with on_output(module, seen.append):
        yield seen


@runtime_checkable
class Watchable(Protocol):
    """A module with channels: a layer's `Channels`, or a `Stage`."""

    @property
    def module(self) -> nn.Module:
        """What is watched."""

    @property
    def axis(self) -> int:
        """Which dimension counts the channels."""

    @property
    def watched_at_input(self) -> bool:
        """Whether what enters the module is watched, not what leaves it."""


@contextmanager
def watched(layers: Sequence[Watchable]) -> Iterator[list[ByChannel]]:
    """Within the block, each run of the network puts the values of all layers into the list given.

    Of a layer's channels these are the pre-activations: what its norm takes, or what a layer without norm
    puts out; of a stage, its output. They are in the order of `layers`.
    """
    seen: list[ByChannel] = [torch.empty(0, 0, 0)] * len(layers)

    def keep(number: int, value: Tensor) -> None:
        seen[number] = by_channel(value, layers[number].axis)

    with ExitStack() as hooks:
        for number, layer in enumerate(layers):
            on = on_input if layer.watched_at_input else on_output
            hooks.enter_context(on(layer.module, partial(keep, number)))
        yield seen


def by_channel(value: Tensor, axis: int) -> ByChannel:
    """Activations as (batch, channel, place), whatever they count last."""
    return value.movedim(axis, 1).flatten(2) if value.ndim > 2 else value[..., None]
