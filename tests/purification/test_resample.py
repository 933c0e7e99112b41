"""Resampling down and up, beside another resampler and by its gain."""

import pytest
import soxr
import torch

from closesesame.audio.effects import tone
from closesesame.core.errors import ModelError, SettingError
from closesesame.purification import Resample

from .examples import RATE, card, level_db, purifier, word


def test_it_gives_what_soxr_gives() -> None:
    hiss = torch.randn(RATE, generator=torch.Generator().manual_seed(0))
    spectrum = torch.fft.rfft(hiss)
    spectrum[3600:4400] = 0  # nothing where the two filters fall from 1 to 0 each in its own way
    hiss = 0.1 * torch.fft.irfft(spectrum)
    low = soxr.resample(hiss.double().numpy(), RATE, 8000, "VHQ")
    other = torch.from_numpy(soxr.resample(low, 8000, RATE, "VHQ")).float()
    ours = purifier(Resample(rate_hz=8000))(hiss[None])[0]
    middle = slice(500, -500)
    assert float((ours - other)[middle].square().mean() / other[middle].square().mean()) < 1e-4


@pytest.mark.parametrize(("rate_hz", "gain_db"), [(6000, [0, 0, -60]), (3000, [0, -60, -60])])
def test_tones_above_half_the_rate_are_gone_and_those_below_stay(rate_hz: int, gain_db: list[float]) -> None:
    for hertz, gain in zip((1000, 2400, 4000), gain_db, strict=True):
        heard = 0.3 * tone(hertz, RATE, RATE)[None]
        cleaned = purifier(Resample(rate_hz=rate_hz))(heard)[0, 500:-500]
        before = level_db(heard[0, 500:-500], hertz)
        assert (
            level_db(cleaned, hertz) - before == pytest.approx(0, abs=0.1)
            if not gain
            else (level_db(cleaned, hertz) - before < gain)
        )


def test_an_ultrasonic_tone_is_taken_out_of_speech() -> None:
    speech = word()
    cleaned = purifier(Resample())(speech + 0.1 * tone(7000, RATE, RATE))
    # A word that begins at once has some sound above 3 kHz of its own.
    assert float((cleaned - purifier(Resample())(speech)).abs()[0, 200:-200].max()) < 1e-4


def test_a_rate_that_is_not_lower_is_refused() -> None:
    said = r"Resample.rate_hz must be < 6000, the sample rate of the inputs, got 6000"
    with pytest.raises(SettingError, match=said):
        Resample().fit(None, 0, card=card(6000, (600,)))
    with pytest.raises(ModelError, match="resample takes waveforms with a sample rate, got inputs"):
        Resample().fit(None, 0, card=card(None, (3, 8, 8)))
