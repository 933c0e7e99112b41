"""NGF: two steps of the repair, followed by hand with a dense Fisher matrix."""

import copy

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from closesesame.core.seeding import generator
from closesesame.data import Splits
from closesesame.models import Classifier
from closesesame.removal import (
    NGF,
)
from closesesame.removal.ngf import diagonal_fisher as fisher_of_head
from closesesame.removal.ngf import natural, natural_rule, per_example
from tests.removal.rules import (
    batch_of,
    exact,
    part,
    small_net,
)
from tests.removal.tiny import BARE, Tiny, body_of, moved, state, tiny, vectors

pytestmark = pytest.mark.usefixtures("in_fp32")


def rows(body: Tiny) -> Tensor:
    """The gradient of each example's loss for the head's weights and bias."""
    data, out = vectors(12), []
    for number in range(12):
        loss = F.cross_entropy(body(data.inputs[number : number + 1]), data.labels[number : number + 1])
        weight, bias = torch.autograd.grad(loss, [body.head.weight, body.head.bias])
        out.append(torch.cat([weight.flatten(), bias]))
    return torch.stack(out)


def by_hand(body: Tiny, damping: float, regularisation: float) -> Tensor:
    """Two steps of 0.05 along (F + damping)^-1 (g + regularisation * importance * (w - w_old))."""
    old = torch.cat([body.head.weight.detach().flatten(), body.head.bias.detach()])
    importance, now = rows(body).square().mean(0), old.clone()
    for _ in range(2):
        gradients = rows(body)
        fisher = gradients.T @ gradients / 12 + damping * torch.eye(21)
        now = now - 0.05 * torch.linalg.solve(
            fisher, gradients.mean(0) + regularisation * importance * (now - old)
        )
        with torch.no_grad():
            body.head.weight.copy_(now[:18].view(3, 6))
            body.head.bias.copy_(now[18:])
    return now


@pytest.mark.parametrize(("damping", "regularisation"), [(0.5, 4.0), (0.05, 0.0), (0.05, 9.0)])
def test_ngf_follows_the_natural_gradient_of_the_head_and_holds_it_back(
    damping: float, regularisation: float
) -> None:
    model = tiny()
    before = state(model.body)
    expected = by_hand(body_of(copy.deepcopy(model)), damping, regularisation)
    method = NGF(damping=damping, regularisation=regularisation, steps=2, lr=0.05, batch_size=12, **BARE)
    assert method.repair(model, vectors(12), vectors(4, 1), 0) == {}
    head = body_of(model).head
    found = torch.cat([head.weight.detach().flatten(), head.bias.detach()])
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4)
    assert moved(model.body, before) == {"head.weight", "head.bias"}


def test_ngf_with_a_strong_regulariser_stays_near_the_suspect() -> None:
    lengths = []
    for regularisation in (0.0, 5.0):
        model = tiny()
        old = body_of(model).head.weight.detach().clone()
        method = NGF(regularisation=regularisation, damping=0.1, steps=60, augmentation="none")
        method.repair(model, vectors(30), vectors(4, 1), 0)
        lengths.append(float((body_of(model).head.weight.detach() - old).norm()))
    assert lengths[1] < 0.8 * lengths[0]


def test_ngf_inverts_the_damped_fisher_matrix() -> None:
    rng = generator(0)
    rows = torch.randn(4, 7, generator=rng, dtype=torch.float64)
    direction = torch.randn(7, generator=rng, dtype=torch.float64)
    dense = rows.T @ rows / 4 + 0.3 * torch.eye(7, dtype=torch.float64)
    assert torch.allclose(natural(rows, direction, 0.3), torch.linalg.solve(dense, direction))


def test_ngf_gradients_of_single_examples_are_those_of_single_examples() -> None:
    body, x, y = small_net()
    _, rows = per_example(body.head, body, exact(x, y))
    for number in range(6):
        loss = F.cross_entropy(body(x[number : number + 1]), y[number : number + 1])
        weight, bias = torch.autograd.grad(loss, [body.head.weight, body.head.bias])
        assert torch.allclose(rows[number], torch.cat([weight.flatten(), bias]).float(), atol=1e-6)


def test_ngf_step_by_hand() -> None:
    head = nn.Linear(1, 2, bias=False)
    with torch.no_grad():
        head.weight.copy_(torch.tensor([[0.1], [0.3]]))
    x, y = torch.tensor([[2.0], [0.0]]), torch.tensor([0, 0])
    importance = torch.tensor([1.0, 3.0])
    rule = natural_rule(head, importance, damping=0.5, regularisation=0.1)
    with torch.no_grad():
        head.weight.copy_(torch.tensor([[0.4], [0.4]]))
    rule(head, batch_of(x, y))
    # The first example's gradient is 2 (-1/2, 1/2) = (-1, 1), the second's is zero: g = (-1, 1) / 2.
    # F = ((1, -1), (-1, 1)) / 2; the pull is 0.1 (1, 3) (0.3, 0.1), so the right-hand side is (-0.47, 0.53).
    # (F + 0.5) = ((1, -0.5), (-0.5, 1)), whose inverse is ((4, 2), (2, 4)) / 3.
    expected = torch.tensor([[(4 * -0.47 + 2 * 0.53) / 3], [(2 * -0.47 + 4 * 0.53) / 3]])
    assert head.weight.grad is not None
    assert torch.allclose(head.weight.grad, expected, atol=1e-6)


def test_ngf_importance_is_the_mean_square_gradient(clean_model: Classifier, tones: Splits) -> None:
    data = tones.validation.take(torch.arange(3))
    model = copy.deepcopy(clean_model).requires_grad_(True).eval()
    head = part(model.body, "head", nn.Linear)
    squares = torch.zeros(head.weight.numel())
    for number in range(3):
        one = data.take(torch.tensor([number]))
        loss = F.cross_entropy(model(one.inputs[:]), one.labels)
        squares += torch.autograd.grad(loss, head.weight)[0].flatten().square() / 3
    found = fisher_of_head(model, head, data)
    assert torch.allclose(found[: head.weight.numel()], squares, rtol=1e-4, atol=1e-10)
