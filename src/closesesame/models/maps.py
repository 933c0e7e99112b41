"""The feature maps in front of a network's last pooling, whatever operation makes them."""

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from closesesame.core.types import PerUnit

Units = Tensor
Shape = torch.Size
Change = Callable[[Tensor], Tensor]


class Maps:
    """The feature maps in front of a network's last pooling: units that its logits depend on.

    The last value of a run that has two axes or more beside the batch is taken, whatever makes it: the output
    of the last residual block, all frames of a recurrent layer, all tokens of a transformer. What follows is
    the pooling, or flattening, and the layers behind it. A network without such a value is its own pooling:
    what enters it is taken.

    Args:
        body: a network, from features to logits; it is left as it was.
        example: features to run it on.
    """

    def __init__(self, body: nn.Module, example: Tensor) -> None:
        network = copy.deepcopy(body).eval().requires_grad_(False)
        counting = _Watch()
        with torch.no_grad(), counting.during(network):
            network(example)
        # Only values of its shape are counted: the state of a recurrent layer looks like a map to a batch of
        # as many examples as there are layers.
        shape = counting.shapes[-1] if counting.shapes else None
        self.at = counting.shapes.count(shape), shape
        found: list[Tensor] = []

        def keep(value: Tensor) -> Tensor:
            found.append(value.detach().requires_grad_())
            return found[0]

        with torch.enable_grad(), _Watch(self.at, keep).during(network):
            logits = network(example)
            # Whole numbers would cancel out: the sum of all logits need not depend on what each depends on.
            weights = torch.linspace(1, 2, logits.shape[1], device=logits.device).sqrt()
            slope = torch.autograd.grad((logits * weights).sum(), found[0])[0]
        self.used = (slope != 0).any(0)
        self.count = int(self.used.sum())

    @contextmanager
    def of(self, body: nn.Module) -> Iterator[list[Units]]:
        """Within the block, the units (batch, unit) of each run of `body` are appended to the list given."""
        seen: list[Units] = []

        def note(value: Tensor) -> Tensor:
            seen.append(value[:, self.used].float())
            return value

        with _Watch(self.at, note).during(body):
            yield seen

    @contextmanager
    def masked(self, body: nn.Module, mask: PerUnit) -> Iterator[None]:
        """Within the block, the units of each run of `body` are multiplied by the mask."""
        across = mask.new_zeros(self.used.shape).masked_scatter(self.used, mask)
        with _Watch(self.at, lambda value: value * across).during(body):
            yield


class _Watch(TorchFunctionMode):
    """Counts the maps of a run, and puts another in the place of one of them.

    Args:
        at: which of those of a shape, and the shape; number 0 is what enters the network.
        change: of that; only counts if None.
    """

    def __init__(self, at: tuple[int, Shape | None] = (0, None), change: Change | None = None) -> None:
        super().__init__()
        (self.number, self.shape), self.change, self.batch = at, change, 0
        self.shapes: list[Shape | None] = []

    @contextmanager
    def during(self, body: nn.Module) -> Iterator[None]:
        """Within the block, it watches what happens inside `body`, not what is done to its inputs before."""

        def start(_: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...] | None:
            self.shapes, self.batch = [], len(inputs[0])
            changed = (self.change(inputs[0]), *inputs[1:]) if self.change and self.number == 0 else None
            self.__enter__()  # type: ignore[no-untyped-call]
            return changed

        def stop(*_: object) -> None:
            self.__exit__(None, None, None)  # type: ignore[no-untyped-call]

        hooks = [body.register_forward_pre_hook(start), body.register_forward_hook(stop, always_call=True)]
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """The function's result, changed if it is the map that was asked for."""
        result = func(*args, **(kwargs or {}))
        first = result[0] if isinstance(result, tuple) and result else result
        if not isinstance(first, Tensor) or not self._is_map(first):
            return result
        shape = first.shape[1:]
        self.shapes.append(shape)
        if self.change is None or (shape, self.shapes.count(shape)) != (self.shape, self.number):
            return result
        changed = self.change(first)
        return changed if first is result else (changed, *result[1:])

    def _is_map(self, value: Tensor) -> bool:
        sizes = value.shape
        return len(sizes) > 2 and sizes[0] == self.batch and sum(size > 1 for size in sizes[1:]) > 1
