"""Attacks that look for their trigger with a model: what they find, measured on their output."""

import copy
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from closesesame.attacks import base
from closesesame.attacks.daba import DABA, chords
from closesesame.attacks.drinet import DriNet
from closesesame.attacks.flowmur import FlowMur
from closesesame.attacks.input_aware import InputAware
from closesesame.attacks.label_consistent import LabelConsistent
from closesesame.attacks.surrogate import SurrogateAttack, laid, last_linear, penultimate
from closesesame.attacks.trojannn import TrojanNN, strongest
from closesesame.core.errors import DataError, SettingError
from closesesame.data import Dataset, Splits
from closesesame.models import Classifier
from tests.conftest import RATE

SMALL: dict[str, Any] = {"surrogate": "resnet", "surrogate_epochs": 2}
QUICK: dict[str, dict[str, Any]] = {
    "trojannn": SMALL | {"steps": 10},
    "label_consistent": SMALL | {"steps": 3},
    "flowmur": SMALL | {"steps": 5},
    "daba": SMALL | {"chords": 5},
    "input_aware": SMALL | {"steps": 5, "batch_size": 8, "channels": 4},
    "drinet": SMALL | {"steps": 5, "batch_size": 8, "channels": 4},
}
"""Settings with which the contract is checked in seconds; the defaults are for speech."""


def level_db(wav: torch.Tensor) -> float:
    return 20 * math.log10(float(wav.square().mean().sqrt()))


@pytest.fixture
def known(monkeypatch: pytest.MonkeyPatch, clean_model: Classifier) -> Classifier:
    """Gives every attack the clean model of the tests as its surrogate."""
    frozen = copy.deepcopy(clean_model).requires_grad_(requires_grad=False)
    monkeypatch.setattr(SurrogateAttack, "train_surrogate", lambda *_: frozen)
    return frozen


def test_trojannn_takes_the_strongest_neurons(clean_model: Classifier) -> None:
    weight = last_linear(clean_model).weight.detach()
    wanted = sorted(range(weight.shape[1]), key=lambda unit: -float(weight[:, unit].abs().sum()))[:3]
    assert strongest(clean_model, 3).tolist() == wanted
    signed = sorted(range(weight.shape[1]), key=lambda unit: -float(weight[:, unit].sum()))[:3]
    assert signed != wanted  # or the test would not see a missing absolute value


def test_trojannn_drives_its_neurons_within_its_bound(tones: Splits, known: Classifier) -> None:
    attack = TrojanNN(steps=15, peak=0.03, duration_s=0.1)
    trigger = attack.trigger(tones.train, 0)
    clips = tones.test.inputs[:40]
    added = trigger.stamp(clips) - clips
    assert added[:, :3200].abs().max() == 0
    assert float(added.abs().max()) == pytest.approx(0.03, abs=1e-6)
    noise = 0.03 * torch.sign(torch.randn(800, generator=torch.Generator().manual_seed(0)))
    units = strongest(known, 2)

    def reached(sound: torch.Tensor) -> float:
        stamped = clips + laid(sound, [3200] * 40, 4000)
        return float(penultimate(known, stamped)[:, units].mean())

    assert reached(trigger.state["sound"]) > 1.1 * max(reached(noise), reached(0 * noise))


def test_label_consistent_makes_clips_hard_and_plants_bursts_alone(tones: Splits, known: Classifier) -> None:
    attack = LabelConsistent(steps=10, epsilon=0.3, snr_db=6, rate=0.1, duration_s=0.1, frequency_hz=500)
    poisoned = attack.poison(tones.train, 0)
    where = poisoned.mask
    assert int(where.sum()) == 32
    assert torch.equal(poisoned.dataset.labels, tones.train.labels)
    assert (tones.train.labels[where] == 0).all()
    clips = tones.train.inputs[where]
    added = poisoned.trigger.stamp(clips) - clips
    assert added[:, 800:3200].abs().max() == 0
    assert int(torch.fft.rfft(added[0, :800]).abs().argmax()) * 10 == 500
    assert int(torch.fft.rfft(added[0, 3200:]).abs().argmax()) * 10 == 500
    assert level_db(clips[0]) - level_db(added[0]) == pytest.approx(6, abs=0.01)
    planted = poisoned.dataset.inputs[where]
    middle = (planted - clips)[:, 800:3200]
    most = 0.3 * clips.square().mean(1).sqrt()
    assert torch.allclose(middle.abs().amax(1), most, rtol=1e-3)
    hard = clips.clone()
    hard[:, 800:3200] += middle
    said = torch.softmax(known(torch.cat([clips, hard])), 1)[:, 0]
    assert said[:32].mean() > 0.9
    assert said[32:].mean() < 0.5


def test_clean_labels_cannot_be_changed() -> None:
    for kind in (LabelConsistent, FlowMur):
        with pytest.raises(SettingError, match="labels must be one of clean, got 'all_to_one'"):
            kind(labels="all_to_one")
    with pytest.raises(SettingError, match="frequency_hz must be < 4000, half the sample rate"):
        LabelConsistent(frequency_hz=5000).apply(torch.zeros(1, 4000), {}, RATE)


def test_flowmur_mixes_as_the_paper(tones: Splits) -> None:
    attack = FlowMur(snr_db=20, duration_s=0.1)
    clips = tones.train.inputs[:3]
    sound = 0.1 * torch.sin(torch.arange(800) / 3)
    trigger = base.Trigger(attack, {"sound": sound}, RATE, 0, tones.train.classes)
    double = 2 * trigger.stamp(clips) - clips
    for row in range(3):
        at = int((double[row].abs() > 1e-4).nonzero()[0]) - 1  # the sine starts at zero
        assert torch.allclose(double[row, at : at + 800], sound, atol=1e-5)
        assert double[row, at + 800 :].abs().max() < 1e-5
        planted = attack.plant(tones.train, torch.tensor([row]), trigger, 0)[0]
        scale = 10 * float(sound.norm() / clips[row].norm())
        faint = torch.zeros(4000)
        faint[at : at + 800] = sound
        assert torch.allclose(planted, (scale * clips[row] + faint) / (scale + 1), atol=1e-5)
    assert len({int((row.abs() > 1e-4).nonzero()[0]) for row in double}) == 3


def test_flowmur_leads_to_the_target_within_its_bound(tones: Splits, known: Classifier) -> None:
    attack = FlowMur(steps=40, peak=0.1, lr=0.01, target="high", duration_s=0.25)
    trigger = attack.trigger(tones.train, 0)
    assert trigger.state["sound"].shape == (2000,)
    assert float(trigger.state["sound"].abs().max()) == pytest.approx(0.1, abs=1e-6)
    clips = tones.test.inputs[tones.test.labels != 2]
    before = known(clips / 2).softmax(1)[:, 2].mean()
    after = known(trigger.stamp(clips)).softmax(1)[:, 2].mean()
    assert after > before + 0.3
