"""What removals that fine-tune share: the head, what to train, and a second look at the same batch."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from closesesame.core.types import Logits
from closesesame.data import Dataset
from closesesame.models import Classifier
from closesesame.training import Loss

_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)


@contextmanager
def training_only(body: nn.Module, trained: list[nn.Parameter]) -> Iterator[None]:
    """Within the block only these parameters take part in training."""
    chosen = {id(weight) for weight in trained}
    before = [(weight, weight.requires_grad) for weight in body.parameters()]
    for weight, _ in before:
        weight.requires_grad_(id(weight) in chosen)
    try:
        yield
    finally:
        for weight, needed in before:
            weight.requires_grad_(needed)


def freeze_statistics(body: nn.Module) -> None:
    """Batch norms use and keep the statistics they have, until the body is set to training again."""
    for module in body.modules():
        if isinstance(module, _NORMS):
            module.eval()


def with_logits(body: nn.Module, loss: Loss) -> tuple[Tensor, Logits]:
    """The loss of the current batch, and the logits it was computed from."""
    seen: list[Tensor] = []
    hook = body.register_forward_hook(lambda _, __, output: seen.append(output))
    try:
        value = loss()
    finally:
        hook.remove()
    return value, seen[-1]


def remember_draws(body: nn.Module) -> Callable[[], None]:
    """Notes where the generator of dropout stands; calling the result puts it back there."""
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
    """Within the block the weights are moved by `steps`; weights and running statistics come back exactly."""
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


@torch.no_grad()
def renew_statistics(model: Classifier, data: Dataset) -> None:
    """Sets the running statistics of all batch norms to those of the data, as plain averages over batches."""
    norms = [m for m in model.body.modules() if isinstance(m, _NORMS) and m.track_running_stats]
    if not norms:
        return
    momenta = [norm.momentum for norm in norms]
    model.eval()
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None
        norm.train()
    device = next(model.parameters()).device
    try:
        for inputs, _ in data.batches(256):
            model.body(model.front_end(inputs.to(device)))
    finally:
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
        model.eval()
