"""The gradient through an inner optimum, and the ball that the inner variable stays in.

The implicit gradient by fixed-point iteration is that of Grazzi, Franceschi, Pontil, Salzo, "On the Iteration
Complexity of Hypergradient Computation", ICML 2020, arXiv:2006.16218.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

Under = Callable[[Tensor], Tensor]
"""A perturbation in, the loss under it out."""


def hypergradient(
    inner: Under,
    outer: Under,
    delta: Tensor,
    weights: Sequence[Tensor],
    *,
    iterations: int,
    rate: float,
) -> tuple[list[Tensor | None], Tensor]:
    """The gradient of outer(delta*(w), w) in w, where delta* minimises the inner loss.

    With Phi(delta, w) = delta - rate * d inner / d delta it iterates v <- (dPhi/ddelta)' v + d outer / ddelta
    from v = 0, and returns d outer / dw + (dPhi/dw)' v.

    Args:
        inner: minimised by `delta`, for the current weights.
        outer: minimised by the weights.
        delta: where both are taken, near the inner minimum.
        weights: of the model.
        iterations: of the fixed point; the error shrinks with each.
        rate: of Phi; it must be below 2 / (largest curvature of the inner loss).

    Returns:
        The gradients, None for a weight that does not matter, and the outer loss.
    """
    delta = delta.detach().requires_grad_()
    value = outer(delta)
    first, *direct = torch.autograd.grad(value, [delta, *weights], allow_unused=True)
    pull = torch.zeros_like(delta) if first is None else first
    with sdpa_kernel(SDPBackend.MATH):  # the fast attention kernels cannot be differentiated twice
        slope = torch.autograd.grad(inner(delta), delta, create_graph=True)[0]
    v = torch.zeros_like(delta)
    for _ in range(iterations):
        v = v - rate * _product(slope, [delta], v)[0] + pull if v.any() else pull
    implicit = _product(slope, weights, v)
    total: list[Tensor | None] = [
        g if h is None else (-rate * h if g is None else g - rate * h)
        for g, h in zip(direct, implicit, strict=True)
    ]
    return total, value.detach()


def _product(slope: Tensor, variables: Sequence[Tensor], v: Tensor) -> list[Tensor]:
    """The rows of second derivatives, times v."""
    return list(torch.autograd.grad(slope, list(variables), v, retain_graph=True, materialize_grads=True))


def within(delta: Tensor, radius: float | None) -> Tensor:
    """Projects onto the L2 ball; no radius, no ball."""
    return delta if radius is None else delta * min(1.0, radius / max(float(delta.norm()), 1e-12))
