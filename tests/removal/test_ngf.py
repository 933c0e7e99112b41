"""NGF: two steps of the repair, followed by hand with a dense Fisher matrix."""

import copy

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from closesesame.removal import NGF
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
