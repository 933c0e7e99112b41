"""Hooks on the modules of a network: watch or change what enters and what leaves them."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn

Output = Tensor | tuple[Any, ...]
Act = Callable[[Tensor], Tensor | None]
"""Is given a tensor; a tensor that it returns takes its place, and gradients flow through the change."""


@contextmanager
def on_input(module: nn.Module, act: Act) -> Iterator[None]:
    """Within the block, `act` is called with what enters the module, run by run."""

    def hook(_: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...] | None:
        changed = act(inputs[0])
        return None if changed is None else (changed, *inputs[1:])

    handle = module.register_forward_pre_hook(hook)
    try:
        yield
    finally:
        handle.remove()


@contextmanager
def on_output(module: nn.Module, act: Act) -> Iterator[None]:
    """Within the block, `act` is called with what leaves the module: of several tensors, with the first."""

    def hook(_: nn.Module, __: object, output: Output) -> Output | None:
        changed = act(first_of(output))
        return changed if changed is None or isinstance(output, Tensor) else (changed, *output[1:])

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


def first_of(output: Output) -> Tensor:
    """What a module puts out, or the first tensor of it: recurrent layers put out their states as well."""
    value: Tensor = output if isinstance(output, Tensor) else output[0]
    return value
