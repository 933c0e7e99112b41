"""Guitar pedals."""

import math

import pytest
import torch

from closesesame.audio import styles
from tests.sounds import RATE, db, noise, rms, sine


@pytest.mark.parametrize(("hz", "level_db"), [(1000, -6.02), (250, -24.61), (4000, -0.53)])
def test_the_ladder_falls_by_12_db_an_octave(hz: float, level_db: float) -> None:
    wav = sine(hz)
    out = styles.ladder_high_pass(wav[None], RATE, 1000)[0]
    assert db(rms(out[4000:12_000]) / rms(wav[4000:12_000])) == pytest.approx(level_db, abs=0.05)


def test_the_phaser_sweeps_its_notch() -> None:
    # Six all-passes turn by pi together where 12 atan(f / corner) = pi: 348.3 Hz of 1300, twice a second.
    wav = sine(1300 * math.tan(math.pi / 12))
    out = styles.phaser(wav[None], RATE)[0]
    gain = [db(rms(out[at - 120 : at + 120]) / rms(wav[at - 120 : at + 120])) for at in (8000, 4000)]
    assert gain[0] < -15
    assert gain[1] > -1  # the corner is at 5200 Hz


def test_a_reverberation_is_the_clip_and_a_tail_of_energy_one() -> None:
    click = torch.zeros(1, RATE)
    click[0, 100] = 0.5
    tail = torch.tensor([0.0, 3.0, 0.0, 4.0])
    out = styles.reverb(click, tail, dry=0.8, wet=0.2)[0]
    assert out[100:104].tolist() == pytest.approx([0.4, 0.06, 0, 0.08], abs=1e-6)


def test_chorus_and_phaser_mix_as_they_are_told() -> None:
    wav = noise()
    for mixed in (
        styles.phaser(wav, RATE, mix=0),
        styles.chorus(wav, RATE, rate_hz=1, delay_ms=5, sweep_ms=1, mix=0),
    ):
        assert torch.allclose(mixed, wav, atol=1e-5)
    delayed = styles.chorus(wav, RATE, rate_hz=1, delay_ms=5, sweep_ms=0, mix=0.75)
    assert torch.allclose(delayed[:, 80:], 0.25 * wav[:, 80:] + 0.75 * wav[:, :-80], atol=1e-5)
    assert torch.allclose(delayed[:, :80], 0.25 * wav[:, :80], atol=1e-5)
    # In a quarter of a second a sweep of 2 Hz is through half of its sine, one of 1 Hz at its top.
    click = torch.zeros(1, RATE)
    click[0, 3920] = 0.5
    swept = styles.chorus(click, RATE, rate_hz=2, delay_ms=5, sweep_ms=4, mix=1)[0]
    assert int(swept.argmax()) == pytest.approx(4000, abs=6)
    # All-passes alone keep every level.
    passed = styles.phaser(wav, RATE, mix=1, sweep_octaves=0)
    assert rms(passed[0]) == pytest.approx(rms(wav[0]), rel=0.02)
