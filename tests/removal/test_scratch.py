"""Scratch: fresh weights, trained and calibrated on the tuning examples."""

import copy

import pytest
import torch
from torch import Tensor, nn

from closesesame.core.errors import ModelError
from closesesame.core.seeding import isolated
from closesesame.data import Splits
from closesesame.models import Classifier
from closesesame.removal import (
    Scratch,
)
from closesesame.training import Training, accuracy, fit
from tests.conftest import SMALL
from tests.removal.rules import (
    part,
    same,
)
from tests.removal.tiny import asr, assert_same, moved, state, vectors, victim

pytestmark = pytest.mark.usefixtures("in_fp32")


def test_scratch_is_a_training_from_fresh_weights_on_the_tuning_examples(
    clean_model: Classifier, tones: Splits
) -> None:
    tune, held_out = tones.train.take(torch.arange(24)), tones.train.take(torch.arange(24, 36))
    quieter = held_out.with_inputs(held_out.inputs.replace(torch.arange(12), held_out.inputs[:] / 50))
    card = clean_model.card
    expected = SMALL.build(card.classes, card.input_shape, card.sample_rate, seed=9)
    expected.front_end.calibrate(tune)
    settings = Training(
        optimizer="sgd",
        nesterov=True,
        lr=0.1,
        steps=3,
        batch_size=12,
        weight_decay=5e-4,
        schedule="one_cycle",
        augmentation="strong",
    )
    fit(expected, tune, settings, seed=9)
    for held in (held_out, quieter):
        model = copy.deepcopy(clean_model)
        Scratch(steps=3, batch_size=12, max_accuracy_drop=1).repair(model, tune, held, 9)
        assert_same(model, expected)


def test_scratch_leaves_no_trigger_and_says_which_optimizer_it_kept() -> None:
    model, unseen = victim(), vectors(60, 1)
    before = state(model.body)
    chosen = Scratch(steps=60, augmentation="none").repair(model, vectors(60), vectors(30, 2), 0)
    assert chosen == {"optimizer": "sgd", "lr": 0.1}
    assert asr(model, unseen) < 0.5
    assert accuracy(model, unseen) > 0.85
    assert moved(model.body, before) == set(before)


def test_scratch_keeps_nothing_of_the_suspect(clean_model: Classifier, tones: Splits) -> None:
    clean = tones.train.sample(0.1, 0)
    other = copy.deepcopy(clean_model)
    with torch.no_grad():
        for value in other.parameters():
            value.mul_(3)
        dict(other.front_end.named_buffers())["mean"].add_(1)
    method = Scratch(steps=2)
    first, second = method.remove(clean_model, clean, 7).model, method.remove(other, clean, 7).model
    assert same(first, second)
    bare = Scratch(steps=0).remove(clean_model, clean, 7).model
    card = clean_model.card
    assert same(bare.body, SMALL.build(card.classes, card.input_shape, card.sample_rate, seed=7).body)


class Own(nn.Module):
    """Waveforms to logits, with what `spoil` puts in the way."""

    def __init__(self, spoil: str = "") -> None:
        super().__init__()
        self.filters = nn.Conv1d(1, 6, 64, stride=16)
        self.norm = nn.BatchNorm1d(6)
        self.last = nn.Linear(6, 4)
        self.shift = nn.Parameter(torch.zeros(4)) if spoil == "bare" else 0.0
        if spoil == "parametrised":
            nn.utils.parametrizations.weight_norm(self.last)

    def forward(self, wav: Tensor) -> Tensor:
        x = torch.relu(self.norm(self.filters(wav[:, None])))
        logits: Tensor = self.last(x.mean(2)) + self.shift
        return logits


def test_scratch_resets_a_foreign_module(tones: Splits) -> None:
    clean = tones.train.sample(0.1, 0)
    with isolated(0):
        one, two = Own(), Own()
    two.norm.running_mean = torch.full((6,), 9.0)
    method = Scratch(steps=0)
    first, second = method.remove(one, clean, 4).model, method.remove(two, clean, 4).model
    assert same(first, second)
    other = method.remove(one, clean, 5).model
    filters = [part(body, "filters", nn.Conv1d).weight for body in (first.body, one, other.body)]
    assert not torch.equal(filters[0], filters[1])
    assert not torch.equal(filters[0], filters[2])


@pytest.mark.parametrize(("spoil", "left"), [("bare", "'shift'"), ("parametrised", "original")])
def test_scratch_refuses_what_nothing_resets(tones: Splits, spoil: str, left: str) -> None:
    with pytest.raises(ModelError, match=f"no fresh weights can be made for .*{left}"):
        Scratch(steps=0).remove(Own(spoil), tones.train.sample(0.1, 0), 0)


def test_scratch_tries_adamw_where_sgd_costs_too_much_accuracy(
    clean_model: Classifier, tones: Splits
) -> None:
    clean = tones.train.sample(0.2, 0)
    after = Scratch(lr=1e4, adamw_lr=0.02, steps=60).remove(clean_model, clean, 2)
    assert after.chosen == {"optimizer": "adamw", "lr": 0.02}
    at_once = Scratch(optimizer="adamw", lr=0.02, max_accuracy_drop=1.0, steps=60).remove(
        clean_model, clean, 2
    )
    assert same(after.model.body, at_once.model.body)
