"""Weights and clips that follow from a formula, so that other code can be given the same."""

import torch

from closesesame.core.types import Wave
from closesesame.enhancement import Enhancer


@torch.no_grad()
def patterned(network: Enhancer) -> Enhancer:
    """Fills the weights and the batch-norm statistics of a network with a sine, tensor by tensor."""
    for number, (name, tensor) in enumerate(network.state_dict().items()):
        if tensor.is_floating_point():
            wave = torch.sin(1.7 * torch.arange(tensor.numel(), dtype=torch.float64) + number)
            fan_in = tensor[0].numel() if tensor.ndim > 1 else 4
            scaled = 1 + 0.3 * wave if name.endswith("running_var") else wave / fan_in**0.5
            tensor.copy_(scaled.view_as(tensor))
    return network.eval()


def chirps(length: int, count: int = 2) -> Wave:
    """Tones that rise, each from another frequency."""
    time = torch.arange(length, dtype=torch.float64) / 16_000
    start = 300 * torch.arange(1, count + 1, dtype=torch.float64)[:, None]
    return (0.2 * torch.sin(6.2831853 * (start * time + 2_000 * time**2))).float()


def hiss(length: int, count: int = 2, seed: int = 0) -> Wave:
    """White noise."""
    return 0.1 * torch.randn(count, length, generator=torch.Generator().manual_seed(seed))
