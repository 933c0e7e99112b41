"""Files, features, effects and augmentation against physics and hand-worked numbers."""

import math
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from closesesame.audio import augment, effects, files
from closesesame.audio.features import FLOOR, MFCC, LogMel, dct, mel_filters
from closesesame.core.errors import DataError


def sine(hz: float, rate: int = 16_000, seconds: float = 1.0) -> torch.Tensor:
    return torch.sin(2 * math.pi * hz * torch.arange(int(rate * seconds)) / rate)[None]


@pytest.mark.parametrize("suffix", ["wav", "flac", "ogg", "mp3"])
@pytest.mark.parametrize(("rate", "channels"), [(48_000, 2), (8_000, 1), (44_100, 3)])
def test_any_rate_format_and_channels_become_one_channel(
    tmp_path: Path, suffix: str, rate: int, channels: int
) -> None:
    if suffix == "mp3" and channels > 2:
        pytest.skip("MP3 has at most two channels")
    path = tmp_path / f"x.{suffix}"
    wave = 0.5 * np.sin(2 * np.pi * 1000 * np.arange(rate) / rate)
    subtype = "PCM_24" if suffix in {"wav", "flac"} else None
    soundfile.write(path, np.repeat(wave[:, None], channels, 1), rate, subtype=subtype)
    got = files.read(path, 16_000)
    assert got.dtype == np.float32
    assert abs(len(got) - 16_000) < 1200
    spectrum = np.abs(np.fft.rfft(got[2000:12_000] * np.hanning(10_000)))
    assert spectrum.argmax() * 1.6 == pytest.approx(1000, abs=2)
    assert np.abs(got[4000:12_000]).max() == pytest.approx(0.5, abs=0.03)


def test_channels_are_averaged(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "x.wav", np.array([[0.5, 0.25], [0.0, -0.5]]), 16_000)
    assert files.read(tmp_path / "x.wav", 16_000).tolist() == pytest.approx([0.375, -0.25], abs=1e-4)


def test_only_the_beginning_of_a_long_file_is_decoded(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "x.wav", np.zeros(16_000 * 5), 16_000)
    assert len(files.read(tmp_path / "x.wav", 16_000, seconds=0.25)) == 4000


def text_named_wav(path: Path) -> None:
    path.write_text("not a sound\n")


def no_bytes(path: Path) -> None:
    path.write_bytes(b"")


def header_without_samples(path: Path) -> None:
    soundfile.write(path, np.zeros(0), 16_000)


def half_a_flac(path: Path) -> None:
    noise = np.sin(np.arange(48_000) ** 1.5) * 0.3
    soundfile.write(path, noise, 16_000, format="FLAC")
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 4])


def nan_samples(path: Path) -> None:
    soundfile.write(path, np.array([0.0, np.nan, 0.1]), 16_000, subtype="FLOAT", format="WAV")


@pytest.mark.parametrize(
    ("damage", "word"),
    [
        (text_named_wav, "not readable audio"),
        (no_bytes, "not readable audio"),
        (header_without_samples, "is empty"),
        (half_a_flac, "truncated|not readable"),
        (nan_samples, "NaN"),
    ],
)
def test_a_damaged_file_is_named_with_a_remedy(tmp_path: Path, damage: object, word: str) -> None:
    path = tmp_path / ("x.flac" if damage is half_a_flac else "x.wav")
    damage(path)  # type: ignore[operator]
    with pytest.raises(DataError, match=word) as error:
        files.read(path, 16_000)
    assert str(path) in str(error.value)
    assert "remove it" in str(error.value)


def test_sixteen_bits_there_and_back(tmp_path: Path) -> None:
    wave = torch.tensor([0.0, 0.5, -1.0, 32_767 / 32_768])
    files.write(tmp_path / "x.flac", wave, 8_000)
    assert torch.equal(files.read_wave(tmp_path / "x.flac", 8_000)[0], wave)
    assert files.to_int16(np.array([1.0, -1.5], np.float32)).tolist() == [32_767, -32_768]


def test_a_mel_band_hears_its_own_tone() -> None:
    edges = torch.linspace(0, 2595 * math.log10(1 + 8000 / 700), 42)
    centres = 700 * (10 ** (edges[1:-1] / 2595) - 1)
    front = LogMel(16_000)
    for band in (5, 17, 33):
        maps = front(sine(float(centres[band])))
        assert maps.shape == (1, 40, 101)
        assert int(maps[0, :, 50].argmax()) == band


def test_log_mel_of_a_full_scale_sine_by_hand() -> None:
    # A sine of amplitude 1 under a Hann window of length L has a line of power (L / 4)^2.
    front = LogMel(16_000)
    bin_hz = 16_000 / front.fft
    maps = front.log_mel(sine(64 * bin_hz))
    expected = math.log(float((front.filters[:, 64] * (front.length / 4) ** 2).max()) + FLOOR)
    # Neighbouring bins of the main lobe add to the band as well.
    assert expected <= float(maps[0, :, 50].max()) <= expected + math.log(2.5)
    assert float(front.log_mel(torch.zeros(1, 16_000)).max()) == pytest.approx(math.log(FLOOR))


def test_mel_filters_are_triangles_of_height_one() -> None:
    filters = mel_filters(16_000, 8193, 40)
    assert filters.amax(1).min() > 0.98
    assert filters.min() == 0
    inside = filters.sum(0)[(filters.sum(0) > 0)][400:-400]
    assert inside.max() <= 1 + 1e-5


def test_dct_is_orthonormal_and_mfcc_is_the_dct_of_log_mel() -> None:
    rotation = dct(40, 40)
    assert torch.allclose(rotation @ rotation.T, torch.eye(40), atol=1e-5)
    wave = 0.1 * torch.randn(2, 16_000, generator=torch.Generator().manual_seed(0))
    maps = LogMel(16_000).log_mel(wave)
    expected = (maps.sum(1) / math.sqrt(40),)
    assert torch.allclose(MFCC(16_000)(wave)[:, 0], expected[0], atol=1e-3)


def test_calibration_scales_to_zero_mean_and_unit_deviation() -> None:
    wave = 0.1 * torch.randn(8, 8000, generator=torch.Generator().manual_seed(0))
    front = LogMel(16_000)
    front.calibrate(wave)
    maps = front(wave)
    assert float(maps.mean()) == pytest.approx(0, abs=1e-4)
    assert float(maps.std()) == pytest.approx(1, abs=1e-4)


@pytest.mark.parametrize("kind", [LogMel, MFCC])
def test_a_map_can_be_heard_again(kind: type[LogMel]) -> None:
    front = kind(16_000)
    wave = torch.cat([0.3 * sine(440)[:, :8000], 0.1 * sine(2000)[:, :8000]], 1)
    front.calibrate(wave)
    heard = front.sound(front(wave))
    assert heard.shape == (1, 16_000)
    before, after = front.log_mel(wave)[0], front.log_mel(heard)[0]
    loud = before > before.max() - math.log(100)  # within 20 dB of the loudest
    assert float((after - before)[loud].abs().median()) < math.log(2)
    for moment in (25, 75):
        assert int(after[:, moment].argmax()) == int(before[:, moment].argmax())


@pytest.mark.parametrize("semitones", [-5, 0, 5, 10])
def test_pitch_shift_moves_a_tone_and_keeps_length_and_level(semitones: int) -> None:
    got = effects.pitch_shift(0.5 * sine(440), semitones)
    assert got.shape == (1, 16_000)
    middle = got[0, 2000:14_000]
    spectrum = torch.fft.rfft(middle * torch.hann_window(12_000)).abs()
    assert float(spectrum.argmax()) * 16_000 / 12_000 == pytest.approx(440 * 2 ** (semitones / 12), rel=0.005)
    # A vocoder's bins lose step at the clip's edge, which costs up to 13 % here.
    assert 0.85 < float(middle.square().mean().sqrt()) / (0.5 / math.sqrt(2)) < 1.02


def test_resampling_keeps_the_band_and_drops_what_would_fold() -> None:
    kept = effects.resample_by(sine(1000), 0.5, 8000)
    assert torch.allclose(kept[0, 200:7800], sine(1000, rate=8000)[0, 200:7800], atol=2e-2)
    folded = effects.resample_by(sine(6000), 0.5, 8000)
    assert folded[0, 200:7800].abs().max() < 0.01


def test_mixing_at_a_signal_to_noise_ratio() -> None:
    clip, noise = 0.3 * sine(500), sine(2000)[0]
    added = effects.mix_at_snr(clip, noise, 10) - clip
    ratio = float(effects.rms(clip) / effects.rms(added))
    assert 20 * math.log10(ratio) == pytest.approx(10, abs=1e-3)
    assert torch.equal(effects.mix_at_snr(torch.zeros(1, 16_000), noise, 10), torch.zeros(1, 16_000))


@pytest.mark.parametrize("shape", [(6, 40, 51), (6, 8000)], ids=["maps", "waves"])
@pytest.mark.parametrize("name", ["light", "strong"])
def test_augmentation_repeats_by_seed_keeps_shape_and_input(name: str, shape: tuple[int, ...]) -> None:
    maps = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    kept, state = maps.clone(), torch.random.get_rng_state()
    change = augment.augmentation(name, maps)
    assert change is not None
    first, again, other = (change(maps, torch.Generator().manual_seed(s)) for s in (2, 2, 3))
    assert first.shape == maps.shape
    assert first.isfinite().all()
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert torch.equal(maps, kept)
    assert torch.equal(torch.random.get_rng_state(), state)


def test_there_is_no_augmentation_for_pictures() -> None:
    assert augment.augmentation("none", torch.zeros(2, 3, 8, 8)) is None
    with pytest.raises(DataError, match=r"features of shape \(2, 3, 8, 8\); set augmentation to 'none'"):
        augment.augmentation("light", torch.zeros(2, 3, 8, 8))


def test_strong_sound_changes_the_pitch_by_at_most_15_percent() -> None:
    clips = effects.tone(1000, 16_000, 16_000).repeat(40, 1)
    changed = augment.strong_sound(clips, torch.Generator().manual_seed(0))
    power = torch.fft.rfft(changed * torch.hann_window(16_000)).abs()[:, 600:1400]
    peaks = 600 + power.argmax(1)
    assert 840 <= int(peaks.min()) < 900
    assert 1100 < int(peaks.max()) <= 1160


@settings(max_examples=25, deadline=None)
@given(bands=st.integers(8, 64), frames=st.integers(3, 60), seed=st.integers(0, 99))
def test_augmentation_works_on_maps_of_any_size(bands: int, frames: int, seed: int) -> None:
    maps = torch.zeros(2, bands, frames)
    for change in (augment.light, augment.strong):
        assert change(maps, torch.Generator().manual_seed(seed)).shape == maps.shape
