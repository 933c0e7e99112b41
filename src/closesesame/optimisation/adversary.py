"""Steps of an adversary: along the sign of a slope, and back into a ball."""

from collections.abc import Sequence

import torch
from torch import Tensor


def sign_step(loss: Tensor, variable: Tensor, size: float | Tensor) -> Tensor:
    """Returns `variable` moved by `size` along the sign of the slope of `loss`: up, or down if negative."""
    return sign_steps(loss, [variable], size)[0]


def sign_steps(loss: Tensor, variables: Sequence[Tensor], size: float | Tensor) -> list[Tensor]:
    """As `sign_step`, for several variables; one that does not matter to the loss stays."""
    slopes = torch.autograd.grad(loss, list(variables), materialize_grads=True)
    pairs = zip(variables, slopes, strict=True)
    return [variable.detach() + size * slope.sign() for variable, slope in pairs]


def within_ball(delta: Tensor, radius: float) -> Tensor:
    """Shortens each example's perturbation (batch, ...) to an L2 norm of at most `radius`."""
    norm = delta.flatten(1).norm(dim=1).clamp(min=1e-12)
    shrunk: Tensor = delta * (radius / norm).clamp(max=1).view(-1, *[1] * (delta.ndim - 1))
    return shrunk
