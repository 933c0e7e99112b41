"""FT-SAM: radius and smoothing arrive where they belong, and labels are smoothed as in the cited code."""

import copy
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from closesesame.removal import FTSAM
from closesesame.removal.ft_sam import sharpness_rule, smoothed
from closesesame.training import Training, fit
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
    found = smoothed(body, lambda: F.cross_entropy(body(x), y), 0.1)
    assert float(found.detach()) == pytest.approx(float(F.cross_entropy(body(x), wanted).detach()), rel=1e-5)
    plain = smoothed(body, lambda: F.cross_entropy(body(x), y), 0.0)
    assert float(plain.detach()) == pytest.approx(float(F.cross_entropy(body(x), y).detach()))


def test_only_the_tuning_examples_are_seen_and_the_length_is_the_published_one() -> None:
    one, two = tiny(), tiny()
    for model, seed in ((one, 1), (two, 2)):
        FTSAM(steps=2).repair(model, vectors(20), vectors(8, seed), 0)
    assert not moved(one, state(two))
    assert moved(one, state(tiny()))
    method = FTSAM()
    assert (method.rho, method.label_smoothing, method.steps, method.batch_size) == (2, 0.1, 1000, 256)
