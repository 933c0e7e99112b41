"""FIP: which of its two weights does what in the repair."""

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from closesesame.core.seeding import generator
from closesesame.models import Classifier
from closesesame.removal import FIP
from closesesame.removal.fip import diagonal_fisher, trace_rule
from closesesame.training import Training, fit
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
