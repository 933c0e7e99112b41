"""FT-SAM: radius and smoothing arrive where they belong, and labels are smoothed as in the cited code."""

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from closesesame.core.seeding import isolated
from closesesame.removal import (
    FTSAM,
)
from closesesame.removal.ft_sam import sharpness_rule, smoothed_loss
from closesesame.training import Training, fit
from tests.removal.rules import (
    HESSIAN,
    START,
    Quadratic,
    batch_of,
    exact,
    small_net,
)
from tests.removal.tiny import BARE, assert_same, moved, state, tiny, vectors

pytestmark = pytest.mark.usefixtures("in_fp32")


def test_radius_and_smoothing_arrive() -> None:
    settings: dict[str, Any] = BARE | {"lr": 0.3, "steps": 4, "batch_size": 8}
    tune, start = vectors(20), tiny()
    model, expected, swapped = (copy.deepcopy(start) for _ in range(3))
    assert FTSAM(**settings, rho=0.8, label_smoothing=0.3).repair(model, tune, vectors(4, 1), 3) == {}
    training = Training(**settings | {"optimizer": "sgd"})
    fit(expected, tune, training, seed=3, gradient=sharpness_rule(rho=0.8, smoothing=0.3))
    fit(swapped, tune, training, seed=3, gradient=sharpness_rule(rho=0.3, smoothing=0.8))
    assert_same(model, expected)
    with pytest.raises(AssertionError):
        assert_same(model, swapped)


def test_a_tenth_of_the_label_goes_to_the_other_classes() -> None:
    body, x, y = nn.Linear(3, 5), torch.randn(7, 3), torch.arange(7) % 5
    wanted = torch.full((7, 5), 0.1 / 4).scatter(1, y[:, None], 0.9)
    found = smoothed_loss(body, batch_of(x, y), 0.1)
    assert float(found.detach()) == pytest.approx(float(F.cross_entropy(body(x), wanted).detach()), rel=1e-5)
    plain = smoothed_loss(body, batch_of(x, y), 0.0)
    assert float(plain.detach()) == pytest.approx(float(F.cross_entropy(body(x), y).detach()))


def test_only_the_tuning_examples_are_seen_and_the_length_is_the_published_one() -> None:
    one, two = tiny(), tiny()
    for model, seed in ((one, 1), (two, 2)):
        FTSAM(steps=2).repair(model, vectors(20), vectors(8, seed), 0)
    assert not moved(one, state(two))
    assert moved(one, state(tiny()))
    method = FTSAM()
    assert (method.rho, method.label_smoothing, method.steps, method.batch_size) == (2, 0.1, 1000, 256)


def test_ft_sam_takes_the_gradient_at_the_adaptive_worst_point() -> None:
    body = Quadratic()
    sharpness_rule(2.0, 0.0)(body, body.batch())
    assert torch.equal(body.weights(), START)
    # By hand: g = (1, -2.75, -0.5), |w| g = (1, -5.5, -0.25), of norm 5.5958; w^2 g = (1, -11, -0.125).
    worst = START + 2.0 * torch.tensor([1.0, -11.0, -0.125], dtype=torch.float64) / 31.3125**0.5
    assert torch.allclose(body.gradient(), HESSIAN @ worst, atol=1e-12)


def test_ft_sam_without_radius_is_smoothed_cross_entropy() -> None:
    body, x, y = small_net()
    sharpness_rule(0.0, 0.1)(body, exact(x, y))
    # BackdoorBench leaves 0.9 with the label and spreads 0.1 over the other three.
    wanted = torch.full((6, 4), 0.1 / 3, dtype=torch.float64).scatter(1, y[:, None], 0.9)
    expected = torch.autograd.grad(F.cross_entropy(body(x), wanted), body.head.weight)[0]
    assert body.head.weight.grad is not None
    assert torch.allclose(body.head.weight.grad, expected, atol=1e-7)


def test_ft_sam_updates_batch_norm_once_and_keeps_the_dropout_mask() -> None:
    body, x, y = small_net()
    body.train()
    masks: list[Tensor] = []
    body.drop.register_forward_hook(lambda _, __, out: masks.append(out == 0))
    entering = body.first(x).detach()
    with isolated(0):
        sharpness_rule(2.0, 0.1)(body, exact(x, y))
    assert body.norm.running_mean is not None
    assert torch.allclose(body.norm.running_mean, 0.1 * entering.mean(0))
    assert torch.equal(*masks)
