"""What gradient rules share: which weights take part, and a second pass from other weights."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn


@contextmanager
def training_only(body: nn.Module, trained: list[nn.Parameter]) -> Iterator[None]:
    """Within the block, only these parameters are trained."""
    chosen = {id(weight) for weight in trained}
    before = [(weight, weight.requires_grad) for weight in body.parameters()]
    for weight, _ in before:
        weight.requires_grad_(id(weight) in chosen)
    try:
        yield
    finally:
        for weight, needed in before:
            weight.requires_grad_(needed)


def remember_draws(body: nn.Module) -> Callable[[], None]:
    """Notes the state of the generator that dropout draws from; calling the result restores it."""
    device = next(body.parameters()).device
    state = torch.random.get_rng_state()
    on_device = torch.cuda.get_rng_state(device) if device.type == "cuda" else None

    def put_back() -> None:
        torch.random.set_rng_state(state)
        if on_device is not None:
            torch.cuda.set_rng_state(on_device, device)

    return put_back


@contextmanager
def elsewhere(body: nn.Module, weights: list[nn.Parameter], steps: list[Tensor | None]) -> Iterator[None]:
    """Within the block, `steps` are added to the weights; weights and buffers are restored exactly."""
    kept = [weight.detach().clone() for weight in weights]
    statistics = [buffer.clone() for buffer in body.buffers()]
    with torch.no_grad():
        for weight, step in zip(weights, steps, strict=True):
            if step is not None:
                weight.add_(step)
    try:
        yield
    finally:
        with torch.no_grad():
            for weight, value in zip(weights, kept, strict=True):
                weight.copy_(value)
            for buffer, old in zip(body.buffers(), statistics, strict=True):
                buffer.copy_(old)
