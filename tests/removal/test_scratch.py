"""Scratch: fresh weights, trained and calibrated on the tuning examples."""

import copy

import pytest
import torch

from closesesame.data import Splits
from closesesame.models import Classifier
from closesesame.removal import Scratch
from closesesame.training import Training, accuracy, fit
from tests.conftest import SMALL
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
        Scratch(steps=3, batch_size=12, wreck=1).repair(model, tune, held, 9)
        assert_same(model, expected)


def test_scratch_leaves_no_trigger_and_says_which_optimizer_it_kept() -> None:
    model, unseen = victim(), vectors(60, 1)
    before = state(model.body)
    chosen = Scratch(steps=60, augmentation="none").repair(model, vectors(60), vectors(30, 2), 0)
    assert chosen == {"optimizer": "sgd", "lr": 0.1}
    assert asr(model, unseen) < 0.5
    assert accuracy(model, unseen) > 0.85
    assert moved(model.body, before) == set(before)
