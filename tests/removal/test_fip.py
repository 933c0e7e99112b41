"""FIP: which of its two weights does what in the repair."""

import copy
import itertools

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from closesesame.core.seeding import generator
from closesesame.data import Dataset
from closesesame.models import Classifier
from closesesame.models.front_ends import Identity
from closesesame.removal import (
    FIP,
)
from closesesame.removal.fip import diagonal_fisher, trace_rule
from closesesame.training import Training, fit
from tests.removal.rules import (
    Net,
    exact,
    small_net,
)
from tests.removal.tiny import BARE, assert_same, body_of, moved, state, tiny, vectors

pytestmark = pytest.mark.usefixtures("in_fp32")


def repaired(steps: int, trace: float, keep: float, radius: float = 0.01) -> Classifier:
    model = tiny()
    method = FIP(
        trace_weight=trace, keep_weight=keep, radius=radius, steps=steps, lr=0.1, batch_size=24, **BARE
    )
    assert method.repair(model, vectors(24), vectors(4, 1), 2) == {}
    return model


def test_fip_weighs_the_trace_from_the_first_step_and_the_pull_from_the_second() -> None:
    plain, still = repaired(1, 0, 0), repaired(1, 0, 50)
    assert not moved(still, state(plain))  # no weight has moved yet, so nothing is pulled back
    assert moved(repaired(1, 0.5, 0), state(plain)) >= {"body.first.weight", "body.head.weight"}
    assert moved(repaired(2, 0, 50), state(repaired(2, 0, 0)))


def test_fip_pulls_back_by_importance_times_the_way() -> None:
    model = body_of(tiny())
    data, weights = vectors(24), list(model.parameters())
    old = [weight.detach().clone() for weight in weights]
    importance = [torch.zeros_like(weight) for weight in weights]
    for number in range(24):
        loss = F.cross_entropy(model(data.inputs[number : number + 1]), data.labels[number : number + 1])
        for total, gradient in zip(importance, torch.autograd.grad(loss, weights), strict=True):
            total.add_(gradient.square() / 24)
    model.train()
    for _ in range(2):
        gradients = torch.autograd.grad(F.cross_entropy(model(data.inputs[:]), data.labels), weights)
        with torch.no_grad():
            for weight, gradient, kept, first in zip(weights, gradients, importance, old, strict=True):
                weight.sub_(0.1 * (gradient + 3 * kept * (weight - first)))
    assert_same(repaired(2, 0, 3).body, model)


def test_fip_wires_both_weights_and_the_radius_into_the_rule() -> None:
    expected = tiny()
    rule = trace_rule(
        expected.body,
        diagonal_fisher(expected, vectors(24)),
        trace_weight=0.3,
        keep_weight=7.0,
        radius=0.2,
        rng=generator(2, "signs"),
    )
    settings = Training(optimizer="sgd", steps=3, lr=0.1, batch_size=24, precision="fp32", **BARE)
    fit(expected, vectors(24), settings, seed=2, gradient=rule)
    assert_same(repaired(3, 0.3, 7.0, 0.2), expected)
    for other in (repaired(3, 7.0, 0.3, 0.2), repaired(3, 0.3, 7.0, 1.0), repaired(3, 0.3, 0.0, 0.2)):
        assert moved(other, state(expected))


def trace(model: Classifier) -> float:
    return float(torch.stack([part.sum() for part in diagonal_fisher(model, vectors(24))]).sum())


def test_fip_finds_a_flatter_place_than_plain_fine_tuning() -> None:
    plain, flat = repaired(40, 0, 0), repaired(40, 0.3, 0)
    assert trace(flat) < 0.8 * trace(plain)
    assert all(bool(weight.isfinite().all()) for weight in flat.parameters())


def test_fip_takes_at_most_256_examples_to_see_which_weights_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = []

    def count(model: nn.Module, data: object) -> list[torch.Tensor]:
        del model
        sizes.append(len(data))  # type: ignore[arg-type]
        return [torch.zeros_like(weight) for weight in body_of(tiny()).parameters()]

    monkeypatch.setattr("closesesame.removal.fip.diagonal_fisher", count)
    for n in (20, 300):
        FIP(steps=0).repair(copy.deepcopy(tiny()), vectors(n), vectors(4, 1), 0)
    assert sizes == [20, 256]


def trace_by_hand(body: Net, x: Tensor, y: Tensor) -> Tensor:
    """The mean over examples of the squared norm of each one's gradient, differentiable."""
    total = torch.zeros((), dtype=x.dtype)
    for number in range(len(x)):
        loss = F.cross_entropy(body(x[number : number + 1]), y[number : number + 1])
        gradients = torch.autograd.grad(loss, list(body.parameters()), create_graph=True)
        total = total + sum(g.square().sum() for g in gradients) / len(x)
    return total


def test_fip_adds_the_gradient_of_the_trace_on_average() -> None:
    body, x, y = small_net(2)
    x, y = x[:2], y[:2]
    zeros = [torch.zeros_like(w) for w in body.parameters()]
    expected = torch.autograd.grad(
        F.cross_entropy(body(x), y) + 0.5 * trace_by_hand(body, x, y), body.first.weight
    )
    # Two examples have two kinds of signs, equal and opposite; the trace is the mean over both.
    found: dict[bool, Tensor] = {}
    for seed in itertools.count():
        rng = generator(seed)
        signs = 2 * torch.randint(2, (2, 1), generator=generator(seed)) - 1
        kind = bool(signs[0] == signs[1])
        if kind not in found:
            rule = trace_rule(body, zeros, 0.5, 0.0, 1e-6, rng)
            rule(body, exact(x, y))
            assert body.first.weight.grad is not None
            found[kind] = body.first.weight.grad.clone()
        if len(found) == 2:
            break
    assert torch.allclose((found[True] + found[False]) / 2, expected[0], atol=1e-5)
    plain = torch.autograd.grad(F.cross_entropy(body(x), y), body.first.weight)[0]
    assert (expected[0] - plain).abs().max() > 1e-2
    assert not torch.allclose(found[True], found[False], atol=1e-3)


def test_fip_pulls_weights_back_by_their_importance() -> None:
    body, x, y = small_net()
    importance = [torch.full_like(w, 2.0) for w in body.parameters()]
    rule = trace_rule(body, importance, 0.0, 5.0, 0.01, generator(0))
    with torch.no_grad():
        body.head.bias.add_(0.1)
    rule(body, exact(x, y))
    plain = torch.autograd.grad(F.cross_entropy(body(x), y), body.head.bias)[0]
    assert body.head.bias.grad is not None
    assert torch.allclose(body.head.bias.grad, plain + 5 * 2 * 0.1)


def test_fip_importance_adds_up_to_the_trace(clean_model: Classifier) -> None:
    body, x, y = small_net()
    body = body.float()
    model = Classifier(Identity(), body, clean_model.card)
    data = Dataset.of(x.float(), y, classes=list("abcd"))
    total = sum(float(part.sum()) for part in diagonal_fisher(model, data))
    assert total == pytest.approx(float(trace_by_hand(body, x.float(), y).detach()), rel=1e-4)
