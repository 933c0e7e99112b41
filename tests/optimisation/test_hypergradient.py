"""The gradient through an inner optimum, against one that is written out."""

import pytest
import torch
from torch import Tensor

from closesesame.optimisation.hypergradient import hypergradient, within

CURVATURE = torch.tensor([[3.0, 1.0], [1.0, 2.0]], dtype=torch.float64)


CROSS = torch.tensor([[1.0, -2.0, 0.5], [0.0, 1.0, 4.0]], dtype=torch.float64)


AIM = torch.tensor([1.0, -1.0], dtype=torch.float64)


WEIGHTS = torch.tensor([0.5, -1.0, 2.0], dtype=torch.float64)


def _bilevel(iterations: int, rate: float = 0.1) -> Tensor:
    """Inner d'Hd/2 + d'Cw, so delta* = -H^-1 C w; outer |d - a|^2 / 2 + |w|^2 / 2."""
    w = WEIGHTS.clone().requires_grad_()
    best = -torch.linalg.solve(CURVATURE, CROSS @ w.detach())
    (gradient,), value = hypergradient(
        lambda d: d @ CURVATURE @ d / 2 + d @ CROSS @ w,
        lambda d: (d - AIM).square().sum() / 2 + w.square().sum() / 2,
        best,
        [w],
        iterations=iterations,
        rate=rate,
    )
    assert float(value) == pytest.approx(float((best - AIM).square().sum() / 2 + 5.25 / 2))
    assert gradient is not None
    return gradient


def test_the_hypergradient_is_that_of_the_solved_inner_problem() -> None:
    # Differentiate outer(delta*(w), w) with delta* written out.
    w = WEIGHTS.clone().requires_grad_()
    solved = -torch.linalg.solve(CURVATURE, CROSS @ w)
    true = torch.autograd.grad((solved - AIM).square().sum() / 2 + w.square().sum() / 2, w)[0]
    assert torch.allclose(_bilevel(200), true, atol=1e-9)
    assert not torch.allclose(_bilevel(0), true, atol=0.5)  # the direct gradient alone is another


def test_five_iterations_are_the_first_five_terms_of_its_series() -> None:
    best = -torch.linalg.solve(CURVATURE, CROSS @ WEIGHTS)
    step = torch.eye(2, dtype=torch.float64) - 0.1 * CURVATURE
    v = sum(torch.linalg.matrix_power(step, k) @ (best - AIM) for k in range(5))
    assert isinstance(v, Tensor)
    assert torch.allclose(_bilevel(5), WEIGHTS - 0.1 * CROSS.T @ v, atol=1e-12)


def test_the_ball_shortens_what_is_too_long_and_nothing_else() -> None:
    assert within(torch.tensor([3.0, 4.0]), 2.5).tolist() == [1.5, 2.0]
    assert within(torch.tensor([3.0, 4.0]), 6.0).tolist() == [3.0, 4.0]
    assert within(torch.tensor([3.0, 4.0]), None).tolist() == [3.0, 4.0]
    assert within(torch.zeros(2), 1.0).tolist() == [0.0, 0.0]
