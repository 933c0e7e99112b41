"""What enters a module: watched, or changed."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from torch import Tensor, nn

Change = Callable[[Tensor], Tensor]


@contextmanager
def entering(body: nn.Module, change: Change) -> Iterator[None]:
    """Within the block, what enters `body` is changed first; gradients flow through the change."""
    hook = body.register_forward_pre_hook(lambda _, inputs: (change(inputs[0]), *inputs[1:]))
    try:
        yield
    finally:
        hook.remove()


@contextmanager
def noted(module: nn.Module) -> Iterator[list[Tensor]]:
    """Within the block, what enters the module is appended to the list given, run by run."""
    seen: list[Tensor] = []

    def look(value: Tensor) -> Tensor:
        seen.append(value)
        return value

    with entering(module, look):
        yield seen
