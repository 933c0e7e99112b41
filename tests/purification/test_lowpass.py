"""The low-pass filter, by hand and by its gain."""

import math

import pytest
import torch

from closesesame.attacks import Ultrasonic
from closesesame.core.errors import ModelError, SettingError
from closesesame.data import Splits
from closesesame.evaluation import Exam
from closesesame.purification import Lowpass
from closesesame.purification.lowpass import kernel
from closesesame.training import train
from tests.conftest import QUICK, SMALL

from .examples import card


def test_three_taps_by_hand() -> None:
    # Cutoff at a quarter of the rate: 1/2 in the middle and sin(pi/2) / pi beside it, times Hamming's 0.08.
    side = 0.08 / math.pi
    total = 0.5 + 2 * side
    wanted = [side / total, 0.5 / total, side / total]
    assert kernel(2_000, 3, 8_000).tolist() == pytest.approx(wanted, abs=1e-7)


@pytest.mark.parametrize("rate", [11_025, 16_000, 48_000])
def test_tones_below_the_cutoff_pass_in_their_place_and_tones_above_do_not(rate: int) -> None:
    taps = 101 if rate < 20_000 else 301
    purifier = Lowpass(taps=taps).fit(None, 0, card=card(rate, (rate,)))
    time = torch.arange(rate) / rate
    for hertz, gain, slack in ((1_000, 1.0, 0.005), (4_000, 0.5, 0.01), (5_000, 0.0, 0.005)):
        tone = 0.5 * torch.sin(6.2831853 * hertz * time)[None]
        middle = slice(taps, -taps)  # the ends hear the silence around the clip
        assert purifier(tone)[0, middle].tolist() == pytest.approx(
            (gain * tone[0, middle]).tolist(), abs=slack
        )


def test_a_cutoff_that_no_tone_can_pass_is_refused() -> None:
    with pytest.raises(
        SettingError, match=r"Lowpass.cutoff_hz must be < 4000, half the sample rate, got 4000"
    ):
        Lowpass().fit(None, 0, card=card(8_000, (800,)))
    with pytest.raises(SettingError, match="taps must be odd, got 100"):
        Lowpass(taps=100)
    for wrong in (card(None, (3, 8, 8)), card(8_000, (2, 800))):
        with pytest.raises(ModelError, match="lowpass takes waveforms with a sample rate, got inputs"):
            Lowpass(cutoff_hz=3_000).fit(None, 0, card=wrong)


def test_it_shuts_out_a_trigger_above_the_speech(tones: Splits) -> None:
    poisoned = Ultrasonic(rate=0.15, target="low", level_dbfs=-30).poison(tones.train, 0)
    victim = train(SMALL, poisoned.dataset, QUICK.model_copy(update={"epochs": 10}), seed=0)
    exam = Exam(tones.test, poisoned.trigger)
    before = exam.score(victim)
    after = exam.score(Lowpass(cutoff_hz=3_000).fit(tones.validation, 0).before(victim))
    assert before.asr is not None
    assert after.asr is not None
    assert before.asr.value > 0.8
    assert after.asr.value < 0.2
    assert after.acc.value > before.acc.value - 0.1
