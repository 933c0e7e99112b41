"""TSBD: what is unlearned, what is zeroed for it in the model as it was, and how that is tuned."""

import copy
from typing import Any

import pytest
import torch
from torch.nn import functional as F

from closesesame.data import Splits
from closesesame.models import Classifier
from closesesame.models.channels import channels_in
from closesesame.removal import TSBD
from closesesame.removal.tsbd import most_changed
from closesesame.training import Training, accuracy, fit
from closesesame.training.rules.gradient_norm import gradient_norm_rule
from tests.removal.tiny import BARE, assert_same, suspect, vectors

pytestmark = pytest.mark.usefixtures("in_fp32")

SETTINGS: dict[str, Any] = BARE | {"lr": 0.1, "batch_size": 40}
UNLEARN: dict[str, Any] = {"unlearning_lr": 0.2, "unlearning_steps": 6, "floor": 0.0}


def thinned() -> Classifier:
    """By hand: six steps up the loss of a copy, then zeros where its weights went furthest."""
    model, data = suspect(), vectors(40)
    copied = copy.deepcopy(model)
    for _ in range(6):
        loss = F.cross_entropy(copied(data.inputs[:]), data.labels)
        weights = list(copied.body.parameters())
        with torch.no_grad():
            for weight, slope in zip(weights, torch.autograd.grad(loss, weights), strict=True):
                weight.add_(0.2 * slope)
    pairs = list(zip(channels_in(model), channels_in(copied), strict=True))
    with torch.no_grad():
        changes = [(after.weight_rows() - before.weight_rows()).abs() for before, after in pairs]
    for (layer, _), dead in zip(pairs, most_changed(changes, neurons=0.4, weights=0.6), strict=True):
        layer.zero_weights(dead)
    return model


def test_what_moves_most_while_the_clean_loss_climbs_is_zeroed_in_the_model_as_it_was() -> None:
    model = suspect()
    chosen = TSBD(**SETTINGS, **UNLEARN, neurons=0.4, weights=0.6, steps=0).repair(
        model, vectors(40), vectors(8, 1), 0
    )
    assert_same(model, thinned())
    first = model.body.get_parameter("first.weight")
    assert chosen == {"unlearning_batches": 6, "zeroed_weights": int((first == 0).sum()), "of": 60}
    assert chosen["zeroed_weights"] == int(0.6 * int(0.4 * 12) * 5)


def test_it_is_tuned_by_the_rule_of_gnft_with_r_and_alpha_in_their_places() -> None:
    model, expected = suspect(), thinned()
    settings = SETTINGS | {"steps": 3}
    TSBD(**settings, **UNLEARN, neurons=0.4, weights=0.6, r=0.9, alpha=0.3).repair(
        model, vectors(40), vectors(8, 1), 0
    )
    rule = gradient_norm_rule(r=0.9, alpha=0.3, per_tensor=True)
    fit(expected, vectors(40), Training(**settings | {"optimizer": "sgd"}), seed=0, gradient=rule)
    assert_same(model, expected)


def test_unlearning_ends_at_the_floor() -> None:
    data = vectors(40)
    assert accuracy(suspect(), data) > 0.8
    batches = []
    for floor in (0.99, 0.5, 0.0):
        method = TSBD(**SETTINGS, **UNLEARN | {"floor": floor, "unlearning_steps": 40}, steps=0)
        batches.append(method.repair(suspect(), data, vectors(8, 1), 0)["unlearning_batches"])
    assert batches[0] < batches[1] < batches[2] <= 40


def test_tsbd_zeroes_what_changed_most_within_the_neurons_that_changed_most() -> None:
    changes = [
        torch.tensor([[0.0, 9.0, 0.0], [4.0, 3.0, 5.0]]),  # 9, 12
        torch.tensor([[8.0, 0.5], [1.0, 1.0], [2.0, 0.0]]),  # 8.5, 2, 2
    ]
    first, second = most_changed(changes, 0.4, 0.5)  # 2 neurons of 5, with 6 weights of which 3 go
    assert first.tolist() == [[False, True, False], [True, False, True]]
    assert not second.any()
    first, second = most_changed(changes, 0.6, 0.5)  # 3 neurons, 8 weights of which 4 go: 9, 8, 5, 4
    assert first.tolist() == [[False, True, False], [True, False, True]]
    assert second.tolist() == [[True, False], [False, False], [False, False]]
    assert not any(mask.any() for mask in most_changed(changes, 0.0, 0.5))
    assert all(mask.all() for mask in most_changed(changes, 1.0, 1.0))


def test_tsbd_zeroes_in_the_model_as_it_was(clean_model: Classifier, tones: Splits) -> None:
    clean = tones.train.sample(0.2, 0)
    repair = TSBD(steps=0, unlearning_steps=8, unlearning_lr=0.01).remove(clean_model, clean, 0)
    zeroed = 0
    for layer, before in zip(channels_in(repair.model), channels_in(clean_model), strict=True):
        now, then = layer.weight_rows(), before.weight_rows()
        assert torch.equal(now[now != 0], then[now != 0])
        zeroed += int(((now == 0) & (then != 0)).sum())
    assert zeroed == repair.chosen["zeroed_weights"] > 0
