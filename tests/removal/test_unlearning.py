"""Removals by unlearning: their rules against cases worked by hand or by another way."""

import math

import pytest
import torch
from torch import Tensor, nn

from closesesame.optimisation.hypergradient import hypergradient, within
from closesesame.removal import IBAU
from closesesame.removal.common.universal import Unlearning

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


class Linear(nn.Module):
    """Features (batch, band, frame) to logits by one matrix on the mean over frames."""

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.head = nn.Linear(weight.shape[1], weight.shape[0], bias=False)
        self.head.weight.data = weight

    def forward(self, features: Tensor) -> Tensor:
        logits: Tensor = self.head(features.mean(2))
        return logits


def test_a_round_moves_first_the_perturbation_and_then_the_weights() -> None:
    # Two classes, features (1, 2, 2) with mean 1 and deviation 2, so delta has four numbers. With p = 1/2
    # the slope of CE has one direction, away from the class, and the step has a length of 2 deviations.
    body = Linear(torch.tensor([[1.0, 0.0], [0.0, 1.0]]))
    root = math.sqrt(3.0)
    features, labels = torch.tensor([[[1 + root, 1 - root], [1 + root, 1 - root]]]), torch.tensor([0])
    method = IBAU(ascent_steps=1, ascent_step=2.0, penalty=0.0, radius=None)
    rule = Unlearning(method, 1, torch.Generator().manual_seed(0))
    rule(body, lambda: torch.nn.functional.cross_entropy(body(features), labels))
    assert body.head.weight.grad is None
    assert rule.delta is not None
    assert rule.unit == pytest.approx(2.0)
    assert rule.delta.flatten().tolist() == pytest.approx([-1.0, -1.0, 1.0, 1.0])
    rule(body, lambda: torch.nn.functional.cross_entropy(body(features), labels))
    assert body.head.weight.grad is not None
    assert body.head.weight.grad[0, 1] < 0 < body.head.weight.grad[1, 1]
