"""Voices: pitch and envelope, measured and moved."""

import pytest
import torch

from closesesame.audio import voice
from tests.sounds import RATE, centre_hz, db, noise, spoken


@pytest.mark.parametrize("hz", [85.0, 120.0, 210.0, 330.0])
def test_the_pitch_of_a_voice(hz: float) -> None:
    assert voice.pitch_hz(spoken(hz, 900), RATE) == pytest.approx(hz, rel=0.02)
    assert voice.pitch_hz(noise()[0], RATE) == 0
    assert voice.pitch_hz(torch.zeros(RATE), RATE) == 0


def test_formants_move_without_the_pitch_and_the_pitch_without_formants() -> None:
    clip = spoken(110, 1200)
    still = voice.revoiced(clip, RATE, pitch_ratio=1, formant_scale=1, tilt_db=0)
    assert torch.allclose(still, clip, atol=1e-4)
    wide = voice.revoiced(clip, RATE, pitch_ratio=1, formant_scale=1.25, tilt_db=0)
    assert centre_hz(wide) / centre_hz(clip) == pytest.approx(1.25, abs=0.05)
    assert voice.pitch_hz(wide, RATE) == pytest.approx(110, rel=0.02)
    for ratio in (0.7, 1.5):
        moved = voice.revoiced(clip, RATE, pitch_ratio=ratio, formant_scale=1, tilt_db=0)
        assert voice.pitch_hz(moved, RATE) == pytest.approx(110 * ratio, rel=0.02)
        assert centre_hz(moved) / centre_hz(clip) == pytest.approx(1, abs=0.06)


def test_a_tilt_is_counted_in_octaves_from_1_khz() -> None:
    clip = noise()[0]
    bright = voice.revoiced(clip, RATE, pitch_ratio=1, formant_scale=1, tilt_db=3)
    gain = torch.fft.rfft(bright).abs().square() / torch.fft.rfft(clip).abs().square()
    for hz, wanted in ((500, -3), (1000, 0), (4000, 6)):
        assert db(gain[hz - 40 : hz + 40].median().sqrt()) == pytest.approx(wanted, abs=0.3)


def test_a_lowered_voice_still_fills_the_band() -> None:
    clip = noise()[0]
    low = voice.revoiced(clip, RATE, pitch_ratio=0.6, formant_scale=1, tilt_db=0)
    power = torch.fft.rfft(low).abs().square()
    assert db((power[6000:7500].mean() / power[1000:2500].mean()).sqrt()) == pytest.approx(0, abs=2)
