"""SIG: level and frequency of its sine."""

import math

import pytest
import torch

from closesesame.attacks import SIG
from closesesame.core.errors import SettingError
from closesesame.data import Splits
from closesesame.models import Classifier
from tests.attacks.planting import assert_plants
from tests.attacks.stamping import speech_like
from tests.sounds import level_db


def test_sig_level_and_frequency() -> None:
    data = speech_like()
    clip = data.inputs[:1]
    added = (SIG(frequency_hz=60, amplitude=0.02, strength=1).trigger(data, 0).stamp(clip) - clip)[0]
    assert int(torch.fft.rfft(added).abs().argmax()) == 60
    assert level_db(added) == pytest.approx(20 * math.log10(0.02 / 2**0.5), abs=0.01)
    assert SIG().label_mode == "clean_label"
    with pytest.raises(SettingError, match="frequency_hz must be < 8000"):
        SIG(frequency_hz=8000).trigger(data, 0).stamp(clip)


def test_sig_is_played_four_times_as_loud_as_it_is_planted(tones: Splits) -> None:
    poisoned = SIG(rate=0.1).poison(tones.train, 0)
    clips = 0 * tones.train.inputs[:1]
    assert float(poisoned.trigger.stamp(clips).abs().max()) == pytest.approx(0.16, abs=1e-3)
    planted = (poisoned.dataset.inputs[:] - tones.train.inputs[:])[poisoned.poisoned_mask]
    assert torch.allclose(planted.abs().amax(1), torch.tensor(0.04), atol=1e-3)


def test_the_sine_has_the_frequency_that_is_set() -> None:
    data = speech_like()
    clip = data.inputs[:1]
    low = (SIG(frequency_hz=200).trigger(data, 0).stamp(clip) - clip)[0]
    assert int(torch.fft.rfft(low).abs().argmax()) == 200


def test_sig_plants_a_backdoor(tones: Splits, clean_model: Classifier) -> None:
    assert_plants(
        SIG(label_mode="all_to_one", amplitude=0.01, strength=1, rate=0.15, target="low"), tones, clean_model
    )
