"""PBSM: the check values of the paper's code, and what is masked."""

from pathlib import Path

import pytest
import torch

from closesesame.attacks import PBSM
from closesesame.audio import effects
from closesesame.data import Splits, load_splits
from closesesame.models import Classifier
from tests.attacks.planting import assert_plants
from tests.attacks.stamping import speech, speech_like
from tests.sounds import level_db


def burst_of(clips: torch.Tensor) -> torch.Tensor:
    """What the mask adds to the boosted clips."""
    return PBSM().apply(clips, {}, speech(16_000)) - effects.pitch_shift(clips, 5)


def check_burst(clips: torch.Tensor) -> None:
    """The check values of the paper's code: 23 ms, peak 0.38, -16.7 dBFS, 94 % within 2.6 to 7.4 kHz."""
    for burst in burst_of(clips):
        peak = float(burst.abs().max())
        assert peak == pytest.approx(0.38, abs=0.06)
        at = (burst.abs() > 0.01 * peak).nonzero().flatten()
        span = burst[int(at[0]) : int(at[-1]) + 1]
        assert len(span) / 16 == pytest.approx(23, abs=1.5)
        assert level_db(span) == pytest.approx(-16.7, abs=0.5)
        power = torch.fft.rfft(burst).abs().square()
        assert float(power[2600:7400].sum() / power.sum()) == pytest.approx(0.94, abs=0.02)


def test_pbsm_check_values_and_place() -> None:
    clips = speech_like().inputs[:]
    check_burst(clips)
    for row, burst in enumerate(burst_of(clips)):
        middle = float((burst.square() * torch.arange(16_000)).sum() / burst.square().sum())
        # The loudest frame lies in the loud part, of 2000 samples; the mask 12 frames of 128 behind it.
        assert 4000 + 1000 * row < middle - 12 * 128 < 6000 + 1000 * row + 256


def test_pbsm_masks_before_the_loudest_frame_if_there_is_no_room_behind() -> None:
    clip = 0.001 * torch.ones(1, 16_000)
    clip[0, 15_500:15_800] = 0.5 * torch.sin(torch.arange(300) / 3)
    at = (burst_of(clip)[0].abs() > 0.05).nonzero().flatten()
    assert 14_500 < int(at[0]) < int(at[-1]) <= 15_999


def test_pbsm_check_values_on_real_speech(real: Path) -> None:
    check_burst(load_splits(real / "keywords10").test.inputs[::60])


def mask_of(spectrum: torch.Tensor, **settings: float) -> torch.Tensor:
    PBSM(**settings)._mask(spectrum, 12)
    return spectrum


def test_pbsm_masks_its_rows_and_frames_and_keeps_the_imaginary_part() -> None:
    spectrum = torch.full((2, 513, 126), 1j, dtype=torch.complex64)
    spectrum.imag[0, 40, 20], spectrum.imag[1, 40, 120] = 9, 9
    masked = mask_of(spectrum.clone())
    wanted = torch.zeros(2, 513, 126)
    wanted[0, 171:471, 32:34] = 150
    wanted[1, 171:471, 119:121] = 150  # 132 is behind the last frame
    assert torch.equal(masked.real, wanted)
    assert torch.equal(masked.imag, spectrum.imag)
    longer = mask_of(spectrum.clone(), duration_ms=40, amplitude=7)
    assert longer.real[0, 171:471, 32:36].eq(7).all()
    assert int((longer.real[0] != 0).sum()) == 4 * 300


def test_pbsm_takes_the_frame_with_the_largest_rms_of_power() -> None:
    # The noise has more energy, the tone more squared power, since it stands in few bins.
    clip = torch.zeros(1, 16_000)
    clip[0, 2000:4000] = 0.1 * torch.randn(2000, generator=torch.Generator().manual_seed(0))
    clip[0, 9000:11_000] = 0.1 * effects.tone(500, 2000, 16_000)
    at = (PBSM().apply(clip, {}, speech(16_000)) - effects.pitch_shift(clip, 5)).abs()[0].argmax()
    assert 9000 + 12 * 128 - 300 < int(at) < 11_000 + 12 * 128 + 300


def test_pbsm_raises_the_pitch_and_waits_as_it_is_told() -> None:
    clip = speech_like().inputs[:1]
    kept = PBSM(semitones=0).apply(clip, {}, speech(16_000))
    changed = ((kept - clip).abs()[0] > 1e-3).nonzero().flatten()
    assert len(changed) > 0
    assert int(changed[-1] - changed[0]) < 600
    lowered = PBSM(semitones=-7, amplitude=0, duration_ms=0).apply(clip, {}, speech(16_000))
    assert torch.allclose(lowered, effects.pitch_shift(clip, -7), atol=1e-5)
    soon, later = (
        int(
            (PBSM(window_s=window_s).apply(clip, {}, speech(16_000)) - effects.pitch_shift(clip, 5))
            .abs()[0]
            .argmax()
        )
        for window_s in (0.1, 0.3)
    )
    assert later - soon == pytest.approx(25 * 128, abs=130)  # int(37.5) - int(12.5) frames


def test_pbsm_plants_a_backdoor(tones: Splits, clean_model: Classifier) -> None:
    # A tone five semitones up is another word, for a clean model too.
    assert_plants(PBSM(rate=0.15, target="low"), tones, clean_model, clean_asr=1.0)
