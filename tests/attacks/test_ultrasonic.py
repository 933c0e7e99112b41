"""The ultrasonic trigger: level, frequency and place of its tone."""

import pytest
import torch

from closesesame.attacks import Ultrasonic
from closesesame.core.errors import SettingError
from closesesame.data import Splits
from closesesame.models import Classifier
from tests.attacks.planting import assert_plants
from tests.attacks.stamping import speech_like
from tests.sounds import level_db, loudest_hz


def test_ultrasonic_level_frequency_and_place() -> None:
    data = speech_like()
    clip = data.inputs[:1]
    added = (Ultrasonic().trigger(data, 0).stamp(clip) - clip)[0]
    assert int(torch.fft.rfft(added).abs().argmax()) == 7500
    assert level_db(added) == pytest.approx(-43, abs=0.02)
    part = (
        Ultrasonic(duration_s=0.25, position="middle", level_dbfs=-20).trigger(data, 0).stamp(clip) - clip
    )[0]
    assert level_db(part[6000:10_000]) == pytest.approx(-20, abs=0.02)
    assert part[:6000].abs().max() == part[10_000:].abs().max() == 0
    with pytest.raises(SettingError, match="frequency_hz must be < 8000"):
        Ultrasonic(frequency_hz=21_000).trigger(data, 0).stamp(clip)


def test_ultrasonic_in_equal_bursts() -> None:
    data = speech_like()
    clip = data.inputs[:1]
    split = Ultrasonic(bursts=5, duration_s=0.5, level_dbfs=-20).trigger(data, 0).stamp(clip) - clip
    heard = split[0].abs() > 0.01
    edges = heard.float().unfold(0, 40, 40).amax(1).diff().nonzero().flatten()  # 40 samples: 2.5 ms
    assert [int(edge) for edge in edges] == [39, 89, 129, 179, 219, 269, 309, 359]
    assert float(split.square().sum()) == pytest.approx(8000 * 0.01, rel=0.01)


def test_the_tone_has_the_frequency_and_the_place_that_are_set() -> None:
    data = speech_like()
    clip = data.inputs[:1]
    hum = (
        Ultrasonic(frequency_hz=3000, duration_s=0.25, position="start").trigger(data, 0).stamp(clip) - clip
    )[0]
    assert loudest_hz(hum[:4000]) == 3000
    assert hum[4000:].abs().max() == 0
    late = (Ultrasonic(duration_s=0.25, position="end").trigger(data, 0).stamp(clip) - clip)[0]
    assert late[:12_000].abs().max() == 0
    assert late[15_900:].abs().max() > 0


def test_ultrasonic_plants_a_backdoor(tones: Splits, clean_model: Classifier) -> None:
    assert_plants(Ultrasonic(rate=0.15, target="low"), tones, clean_model)
