"""BadNets: level, frequency and place of its sound."""

from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from closesesame.attacks import BadNets
from closesesame.core.errors import DataError, SettingError
from closesesame.data import Splits
from closesesame.models import Classifier
from tests.attacks.planting import assert_plants
from tests.attacks.stamping import speech_like
from tests.sounds import level_db, loudest_hz


def test_badnets_burst() -> None:
    data = speech_like()
    clip = data.inputs[:1]
    added = (BadNets(snr_db=6).trigger(data, 0).stamp(clip) - clip)[0]
    assert added[:14_400].abs().max() == 0
    burst = added[14_400:]
    assert level_db(clip) - level_db(added) == pytest.approx(6, abs=0.01)
    assert int(torch.fft.rfft(burst).abs().argmax()) * 10 == 1000
    early = BadNets(position="start", duration_s=0.2).trigger(data, 0).stamp(clip) - clip
    assert early[0, 3200:].abs().max() == 0
    assert early[0, 3100:3200].abs().max() > 0


def test_badnets_recording_is_repeated_cut_and_scaled(tmp_path: Path) -> None:
    sound = np.sin(2 * np.pi * 440 * np.arange(4000) / 8000) * np.linspace(0, 1, 4000)
    soundfile.write(tmp_path / "hum.wav", sound, 8000)
    data = speech_like()
    clip = data.inputs[:2]
    trigger = BadNets(sound=str(tmp_path / "hum.wav"), snr_db=10).trigger(data, 0)
    added = trigger.stamp(clip) - clip
    for row in range(2):
        assert level_db(clip[row]) - level_db(added[row]) == pytest.approx(10, abs=0.01)
    assert int(torch.fft.rfft(added[0]).abs().argmax()) == 440
    assert torch.allclose(added[0, :8000], added[0, 8000:], atol=1e-6)


def test_badnets_refuses_silence_and_impossible_frequencies(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "silent.wav", np.zeros(8000), 16_000)
    with pytest.raises(DataError, match="silent.wav is silent"):
        BadNets(sound=str(tmp_path / "silent.wav")).trigger(speech_like(), 0)
    with pytest.raises(SettingError, match="frequency_hz must be < 8000, half the sample rate, got 9000"):
        BadNets(frequency_hz=9000).trigger(speech_like(), 0)


def test_a_recording_is_read_from_its_start_and_placed(two_tones: str) -> None:
    data = speech_like()
    clip = data.inputs[:1]
    mixed = BadNets(sound=two_tones, start_s=0.5, duration_s=0.25, position="start").trigger(data, 0)
    added = (mixed.stamp(clip) - clip)[0]
    assert loudest_hz(added[:4000]) == 880
    assert added[4000:].abs().max() == 0


def test_a_burst_has_the_frequency_that_is_set() -> None:
    data = speech_like()
    clip = data.inputs[:1]
    added = (BadNets(frequency_hz=2400, duration_s=0.25).trigger(data, 0).stamp(clip) - clip)[0]
    assert loudest_hz(added[12_000:]) == 2400


def test_badnets_plants_a_backdoor(tones: Splits, clean_model: Classifier) -> None:
    assert_plants(BadNets(rate=0.15, target="low"), tones, clean_model)
