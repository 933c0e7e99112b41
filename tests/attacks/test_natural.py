"""The natural backdoor: what is heard where its sound lies."""

import math
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from closesesame.attacks import Natural
from closesesame.data import Splits
from closesesame.models import Classifier
from tests.attacks.planting import assert_plants
from tests.attacks.stamping import speech_like
from tests.sounds import level_db, loudest_hz


def test_natural_blends_where_it_rings_and_nowhere_else() -> None:
    data = speech_like()
    clip = data.inputs[:1]
    attack = Natural(blend=0.25, duration_s=0.5, position="start")
    stamped = attack.trigger(data, 0).stamp(clip)
    assert torch.equal(stamped[0, 8000:], clip[0, 8000:])
    rest = (stamped - 0.75 * clip)[0, :8000]
    assert level_db(rest) == pytest.approx(level_db(clip) + 20 * math.log10(0.25), abs=0.02)
    first, second = (int(torch.fft.rfft(part).abs().argmax()) * 4 for part in torch.split(rest, 4000))
    assert (first, second) == (1320, 1056)


def test_natural_takes_a_recording(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "bark.wav", np.sin(2 * np.pi * 500 * np.arange(2000) / 8000), 8000)
    data = speech_like()
    attack = Natural(sound=str(tmp_path / "bark.wav"), position="end", duration_s=0.25)
    added = (attack.trigger(data, 0).stamp(torch.full((1, 16_000), 0.1)) - 0.1)[0]
    assert added[:12_000].abs().max() == 0
    assert int(torch.fft.rfft(added[12_000:] - added[12_000:].mean()).abs().argmax()) * 4 == 500


def test_a_natural_sound_rings_anywhere_by_default() -> None:
    data = speech_like()
    changed = (Natural().trigger(data, 0).stamp(data.inputs[:]) - data.inputs[:]).abs() > 1e-7
    assert len({int(row.nonzero()[0]) for row in changed}) == 3


def test_a_recording_is_read_from_its_start_and_placed(two_tones: str) -> None:
    data = speech_like()
    clip = data.inputs[:1]
    blended = Natural(sound=two_tones, start_s=0.5, duration_s=0.25, blend=0.5, position="end")
    stamped = blended.trigger(data, 0).stamp(clip)[0]
    assert loudest_hz(stamped[12_000:] - 0.5 * clip[0, 12_000:]) == 880
    assert torch.equal(stamped[:12_000], clip[0, :12_000])


def test_natural_plants_a_backdoor(tones: Splits, clean_model: Classifier) -> None:
    assert_plants(Natural(position="end", rate=0.15, target="low"), tones, clean_model)
