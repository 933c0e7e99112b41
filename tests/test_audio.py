"""Files, features, effects and augmentation against physics and hand-worked numbers."""

import math
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from closesesame.audio import augment, effects, files, placement
from closesesame.audio.features import mel_filters
from closesesame.core.errors import DataError


def sine(hz: float, rate: int = 16_000, seconds: float = 1.0) -> torch.Tensor:
    return torch.sin(2 * math.pi * hz * torch.arange(int(rate * seconds)) / rate)[None]


@pytest.mark.parametrize(
    ("suffix", "rate", "channels"),
    [
        *product(("wav", "flac", "ogg", "mp3"), (48_000,), (2,)),
        *product(("wav", "flac", "ogg", "mp3"), (8_000,), (1,)),
        *product(("wav", "flac", "ogg"), (44_100,), (3,)),  # MP3 has two channels at most
    ],
)
def test_any_rate_format_and_channels_become_one_channel(
    tmp_path: Path, suffix: str, rate: int, channels: int
) -> None:
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


def test_mel_filters_are_triangles_of_height_one() -> None:
    filters = mel_filters(16_000, 8193, 40)
    assert filters.amax(1).min() > 0.98
    assert filters.min() == 0
    inside = filters.sum(0)[(filters.sum(0) > 0)][400:-400]
    assert inside.max() <= 1 + 1e-5


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
    # A network that learns what to add, of a silent clip nothing, gets no broken gradient from it.
    nothing = torch.zeros(1, 16_000, requires_grad=True)
    effects.mix_at_snr(torch.zeros(1, 16_000), nothing, 10).sum().backward()
    assert nothing.grad is not None
    assert nothing.grad.isfinite().all()


@pytest.mark.parametrize(
    ("change", "shape"),
    [
        (augment.light, (6, 40, 51)),
        (augment.strong, (6, 40, 51)),
        (augment.varied, (6, 40, 51)),
        (augment.crowded, (6, 40, 51)),
        (augment.exchanged, (6, 40, 51)),
        (augment.light_sound, (6, 8000)),
        (augment.strong_sound, (6, 8000)),
        (augment.varied_sound, (6, 8000)),
        (augment.crowded_sound, (6, 8000)),
        (augment.exchanged, (6, 8000)),
    ],
)
def test_augmentation_repeats_by_seed_keeps_shape_and_input(
    change: augment.Augmentation, shape: tuple[int, ...]
) -> None:
    maps = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    kept, state = maps.clone(), torch.random.get_rng_state()
    first, again, other = (change(maps, torch.Generator().manual_seed(s)) for s in (2, 2, 3))
    assert first.shape == maps.shape
    assert first.isfinite().all()
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert torch.equal(maps, kept)
    assert torch.equal(torch.random.get_rng_state(), state)


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
    for change in (augment.light, augment.strong, augment.varied, augment.crowded, augment.exchanged):
        assert change(maps, torch.Generator().manual_seed(seed)).shape == maps.shape


def only(monkeypatch: pytest.MonkeyPatch, part: str) -> None:
    """Leaves of the augmentations of maps one part alone."""
    for name in ("_shift", "_mask", "_warp", "_low_pass", "_noise_floor", "_coloured_noise", "_background"):
        if name != part:
            monkeypatch.setattr(augment, name, lambda maps, *_, **__: maps)
    for name in ("_tilt", "_field"):
        if name != part:
            monkeypatch.setattr(augment, name, lambda maps, *_, **__: 0 * maps)


def many(maps: torch.Tensor, change: augment.Augmentation, n: int = 400) -> torch.Tensor:
    """One map, changed n times."""
    return change(maps.expand(n, -1, -1).contiguous(), torch.Generator().manual_seed(0))


def ramp(bands: int = 40, frames: int = 50) -> torch.Tensor:
    """Band plus a thousandth of the frame."""
    return torch.arange(bands)[:, None] + torch.arange(frames) / 1000


@pytest.mark.parametrize(
    ("change", "bands", "frames"),
    [(augment.light, 8, 7), (augment.strong, 10, 12), (augment.varied, 5, 6)],
    ids=["light", "strong", "varied"],
)
def test_masks_cover_up_to_their_share_of_both_axes(
    change: augment.Augmentation, bands: int, frames: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    only(monkeypatch, "_mask")
    gone = many(torch.ones(40, 50), change) == 0
    rows, columns = gone.all(2).sum(1), gone.all(1).sum(1)
    assert sorted(set(rows.tolist())) == list(range(bands + 1))
    assert sorted(set(columns.tolist())) == list(range(frames + 1))
    assert gone.all(2).any(0).all()  # anywhere
    assert gone.all(1).any(0).all()
    covered = rows * 50 + columns * 40 - rows * columns
    assert torch.equal(gone.sum((1, 2)), covered)


def test_light_shifts_by_up_to_a_tenth_in_both_directions(monkeypatch: pytest.MonkeyPatch) -> None:
    only(monkeypatch, "_shift")
    maps = ramp()
    moved = many(maps, augment.light)
    by = ((maps[0, 25] - moved[:, 0, 25]) * 1000).round()
    assert sorted(set(by.tolist())) == list(range(-5, 6))
    assert torch.equal(moved[:, 3].floor(), torch.full((400, 50), 3.0))
    later = moved[by == 5][0]
    assert torch.allclose(later[:, :6], maps[:, :1].expand(-1, 6))  # the edge is repeated
    assert torch.allclose(later[:, 5:], maps[:, :45])


def test_strong_warps_both_axes(monkeypatch: pytest.MonkeyPatch) -> None:
    only(monkeypatch, "_warp")
    along_bands = many(torch.arange(40.0)[:, None].repeat(1, 50), augment.strong)
    along_frames = many(torch.arange(50.0).repeat(40, 1), augment.strong)
    for read, size in ((along_bands[:, :, 25], 40), (along_frames[:, 20], 50)):
        low, high = read[:, size // 2 - 5], read[:, size // 2 + 4]
        speed, centre = (high - low) / 9, (high + low) / 2 - (size - 1) / 2
        assert 0.849 < float(speed.min()) < 0.87
        assert 1.13 < float(speed.max()) < 1.151
        # Half of the axis is 1, so a shift of 0.15 is 7.5 % of the whole.
        assert -0.0751 < float(centre.min()) / size < -0.073
        assert 0.073 < float(centre.max()) / size < 0.0751


def test_strong_tilts(monkeypatch: pytest.MonkeyPatch) -> None:
    only(monkeypatch, "_tilt")
    tilted = many(torch.zeros(41, 20), augment.strong)
    assert torch.equal(tilted, tilted[:, :, :1].expand_as(tilted))
    level, slope = tilted[:, 20, 0], (tilted[:, 40, 0] - tilted[:, 0, 0]) / 2
    assert torch.allclose(tilted[:, 30, 0], level + slope / 2, atol=1e-6)
    for part in (level, slope):
        assert -0.5 <= float(part.min()) < -0.48
        assert 0.48 < float(part.max()) <= 0.5
    assert abs(float(torch.corrcoef(torch.stack([level, slope]))[0, 1])) < 0.15


def test_strong_adds_a_smooth_field(monkeypatch: pytest.MonkeyPatch) -> None:
    only(monkeypatch, "_field")
    fields = many(torch.zeros(40, 60), augment.strong)
    assert float(fields.mean()) == pytest.approx(0, abs=0.02)
    size = fields.std((1, 2))
    assert float(size.min()) < 0.03
    assert 0.5 < float(size.max()) < 1.2
    for axis in (1, 2):
        assert float(fields.diff(dim=axis).abs().mean() / fields.abs().mean()) < 0.25
        assert float(fields.std(axis).mean()) > 0.05  # it varies along both axes


def test_strong_cuts_the_top_of_half_of_the_maps(monkeypatch: pytest.MonkeyPatch) -> None:
    only(monkeypatch, "_low_pass")
    maps = torch.ones(40, 20)
    maps[0, 0] = -3
    low = many(maps, augment.strong) == -3
    cut = low[:, 1:].all(2)
    assert float(cut.any(1).float().mean()) == pytest.approx(0.5, abs=0.08)
    kept = 39 - cut.sum(1)[cut.any(1)]
    assert int(kept.min()) in {19, 20}
    assert int(kept.max()) >= 37
    assert cut[:, -1][cut.any(1)].all()  # from the top on


def test_strong_fills_half_of_the_maps_with_a_noise_floor(monkeypatch: pytest.MonkeyPatch) -> None:
    only(monkeypatch, "_noise_floor")
    maps = torch.full((40, 50), -9.0)
    maps[0] = 9
    filled = many(maps, augment.strong)
    assert (filled[:, 0] == 9).all()
    hit = (filled[:, 1:] > -9).all((1, 2))
    assert float(hit.float().mean()) == pytest.approx(0.5, abs=0.08)
    assert (filled[~hit, 1:] == -9).all()
    floor = filled[hit, 1:].flatten(1)
    assert float(floor.std(1).mean()) == pytest.approx(0.4, abs=0.01)
    assert -1.05 < float(floor.mean(1).min()) < -0.9
    assert 0.5 < float(floor.mean(1).max()) < 0.65


def sounds(n: int = 300) -> torch.Tensor:
    return 0.1 * effects.tone(1000, 2000, 8000).repeat(n, 1)


def test_light_sound_shifts_and_silences(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = torch.Generator().manual_seed(0)
    silent = (augment.light_sound(torch.ones(300, 2000), rng) == 0).sum(1)
    assert 0 <= int(silent.min()) < 10
    assert 270 < int(silent.max()) <= 2000 // 7
    monkeypatch.setattr(augment, "_mask", lambda maps, *_, **__: maps)
    clicks = torch.zeros(300, 2000)
    clicks[:, 1000] = 1
    at = augment.light_sound(clicks, rng).argmax(1)
    assert 800 <= int(at.min()) < 815
    assert 1185 < int(at.max()) <= 1200


def test_strong_sound_moves_adds_noise_and_sets_the_gain(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(augment, "_mask", lambda maps, *_, **__: maps)
    monkeypatch.setattr(augment, "_filtered", lambda wav, _: wav)
    rng = torch.Generator().manual_seed(0)
    hum = 0.1 * effects.tone(100, 2000, 8000).repeat(300, 1)
    heard = augment.strong_sound(hum, rng)
    power = torch.fft.rfft(heard[:, 600:1400] * torch.hann_window(800)).abs().square()
    beside = power[:, 200:].mean(1) / power.mean(1)  # 2 kHz and above
    noisy = beside > 1e-5
    assert float(noisy.float().mean()) == pytest.approx(0.5, abs=0.08)
    snr_db = -10 * beside[noisy].log10()
    assert float(snr_db.min()) < 6
    assert 36 < float(snr_db.max()) < 45
    # Without noise the level is that of the gain: +-10 dB of the loud half.
    level_db = 20 * (heard[~noisy, 700:1300].square().mean(1).sqrt() / (0.1 / math.sqrt(2))).log10()
    assert -10.2 < float(level_db.min()) < -9
    assert 9 < float(level_db.max()) < 10.2
    clicks = torch.zeros(300, 2000)
    clicks[:, 1000] = 1
    at = augment.strong_sound(clicks, rng).abs().argmax(1)
    assert 640 < int(at.min()) < 720  # 0.15 of the clip, at the highest speed 0.15 / 0.85
    assert 1280 < int(at.max()) < 1360


def test_strong_sound_filters_and_silences(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = torch.Generator().manual_seed(0)
    with monkeypatch.context() as patched:
        patched.setattr(augment, "_mask", lambda maps, *_, **__: maps)
        patched.setattr(augment, "_filtered", lambda wav, _: 0 * wav + 1)
        filtered = augment.strong_sound(sounds(), rng)
    assert torch.allclose(filtered, filtered[:, :1].expand_as(filtered))  # what comes behind is the gain
    monkeypatch.setattr(augment, "_filtered", lambda wav, _: 0 * wav + 1)
    silent = (augment.strong_sound(sounds(), rng) == 0).sum(1)
    assert 0 <= int(silent.min()) < 15
    assert 480 < int(silent.max()) <= 500


def test_the_filter_of_strong_sound_is_smooth_and_cuts_half_of_the_clips() -> None:
    click = torch.zeros(400, 2000)
    click[:, 0] = 1
    gain = torch.fft.rfft(augment._filtered(click, torch.Generator().manual_seed(0))).abs()
    cut = gain[:, -1] < 1e-4
    assert float(cut.float().mean()) == pytest.approx(0.5, abs=0.08)
    kept = (gain > 1e-4).sum(1)[cut] / 1001
    assert 0.4 <= float(kept.min()) < 0.43
    assert 0.95 < float(kept.max()) <= 1
    level_db = 20 * gain[:, :400].log10()
    assert float(level_db.std(0).mean()) == pytest.approx(4.3, abs=0.5)  # 5 dB at the knots, less between
    assert float(level_db.mean()) == pytest.approx(0, abs=0.5)
    assert float(level_db.diff(dim=1).abs().max()) < 0.2


def test_the_mel_scale_is_even_in_mel_and_not_in_hertz() -> None:
    filters = mel_filters(16_000, 8193, 40)
    centres = filters.argmax(1) * 8000 / 8192
    mel = 2595 * torch.log10(1 + centres / 700)
    assert torch.allclose(mel.diff(), torch.tensor(2595 * math.log10(1 + 8000 / 700) / 41), atol=2)


def test_tones_loops_places_and_levels_by_hand() -> None:
    assert effects.tone(1000, 5, 4000).tolist() == pytest.approx([0, 1, 0, -1, 0], abs=1e-6)
    sound = torch.tensor([1.0, 2, 3])
    assert effects.looped(sound, 7).tolist() == [1, 2, 3, 1, 2, 3, 1]
    assert placement.placed(sound, [0, 3], 4).tolist() == [[1, 2, 3, 0], [0, 0, 0, 1]]
    assert effects.amplitude_ratio(20) == pytest.approx(10)
    assert effects.levelled(sound[None], 2 * sound[None]).tolist() == [pytest.approx([2, 4, 6])]
    assert effects.levelled(0 * sound[None], sound[None]).abs().max() == 0


@pytest.mark.parametrize("factor", [0.5, 1.6])
def test_stretching_keeps_the_pitch_and_moves_what_happens(factor: float) -> None:
    wave = torch.cat([sine(500)[:, :8000], sine(1500)[:, :8000]], 1)
    out = effects.stretch(wave, factor)[0]
    assert len(out) == 16_000 * factor
    border = round(8000 * factor)
    for part, hz in (
        (out[border // 4 : border * 3 // 4], 500),
        (out[border + border // 4 : -border // 4], 1500),
    ):
        spectrum = torch.fft.rfft(part * torch.hann_window(len(part)), 1 << 16).abs()
        assert float(spectrum.argmax()) * 16_000 / (1 << 16) == pytest.approx(hz, rel=0.01)


def test_a_higher_rate_keeps_the_samples_in_between() -> None:
    out = effects.resample_by(sine(1000, rate=8000), 2.0, 16_000)
    assert torch.allclose(out[0, 200:15_800], sine(1000)[0, 200:15_800], atol=2e-2)
    assert float(out[0, 500:15_500].abs().max()) == pytest.approx(1, abs=0.02)


def test_a_sample_of_any_size_is_cut_to_16_bits() -> None:
    loud = np.array([3e38, -3e38, 1.5, -1.5, 0.5, -1.0], dtype=np.float32)
    assert files.to_int16(loud).tolist() == [32_767, -32_768, 32_767, -32_768, 16_384, -32_768]


def test_a_name_with_a_null_byte_is_one_sentence() -> None:
    with pytest.raises(DataError, match="is not readable audio"):
        files.read(Path("a\0b.wav"), 8000)


def test_varied_warps_half_of_the_maps_and_shifts_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    only(monkeypatch, "")
    monkeypatch.setattr(augment, "_warp", lambda maps, *_, **__: maps + 100)
    monkeypatch.setattr(augment, "_shift", lambda maps, _, most: maps - most)
    seen = many(torch.zeros(40, 50), augment.varied)[:, 0, 0]
    assert set(seen.tolist()) == {100, -5}  # a tenth of the frames
    assert float((seen == 100).float().mean()) == pytest.approx(0.5, abs=0.08)


def test_varied_fills_a_quarter_of_the_maps_with_a_noise_floor(monkeypatch: pytest.MonkeyPatch) -> None:
    only(monkeypatch, "_noise_floor")
    filled = many(torch.full((40, 50), -9.0), augment.varied)
    assert float((filled > -9).all(2).all(1).float().mean()) == pytest.approx(0.25, abs=0.07)


def test_varied_puts_noise_of_a_colour_that_swells_over_half_of_the_maps(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    only(monkeypatch, "_coloured_noise")
    maps = torch.full((40, 50), -9.0)
    maps[0] = 9
    heard = many(maps, augment.varied)
    assert (heard[:, 0] == 9).all()  # the louder of the two is heard
    hit = (heard[:, 1:] > -9).all((1, 2))
    assert float(hit.float().mean()) == pytest.approx(0.5, abs=0.08)
    assert (heard[~hit, 1:] == -9).all()
    noise = heard[hit, 1:]
    level = noise.mean((1, 2))
    assert float(level.mean()) == pytest.approx(-0.25, abs=0.15)  # between -1.5 and 1, and the colour's own
    colour, swell = noise.mean(2), noise.mean(1)
    assert 0.3 < float(colour.std(1).mean()) < 0.6  # five values with spread 0.7, joined by lines
    assert 0.12 < float(swell.std(1).mean()) < 0.25
    for smooth in (colour, swell):
        assert float(smooth.diff(dim=1).abs().mean()) < 0.4 * float(smooth.std(1).mean())
    rest = noise - colour[:, :, None] - swell[:, None] + level[:, None, None]
    assert float(rest.std()) == pytest.approx(0.4, abs=0.02)


def test_varied_puts_another_example_reversed_and_softer_behind_three_tenths(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    only(monkeypatch, "_background")
    maps = torch.zeros(2, 8, 50)
    maps[0] = 5 + torch.arange(50) / 10
    heard = torch.stack([augment.varied(maps, torch.Generator().manual_seed(n)) for n in range(400)])
    assert (heard[:, 0] >= maps[0]).all()
    behind = heard[:, 1]
    hit = behind.flatten(1).any(1)
    assert float(hit.float().mean()) == pytest.approx(0.15, abs=0.05)  # half of 0.3: or it is itself
    softer = maps[0].flip(1) - behind[hit]
    assert torch.allclose(softer, softer[:, :1, :1].expand_as(softer), atol=1e-5)
    assert 0.3 <= float(softer.min()) < 0.4
    assert 1.4 < float(softer.max()) <= 1.5


def test_varied_sound_moves_half_and_lets_another_be_heard(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = torch.Generator().manual_seed(0)
    with monkeypatch.context() as patched:
        patched.setattr(augment, "_disturbed", lambda wav, _, most: wav + most)
        patched.setattr(augment, "_moved", lambda wav, _: wav + 10_000)
        patched.setattr(augment, "_shift", lambda maps, _, most: maps - most)
        alone = augment.varied_sound(torch.zeros(1, 2000).expand(1, -1), rng)
        assert alone.shape == (1, 2000)
        seen = augment.varied_sound(torch.zeros(400, 2000), rng)
    # Silences of an eighth, shifts of a tenth: 250 - 200, or 250 + 10,000; behind it up to 0.71 of another.
    base = torch.where(seen[:, 0] > 10_000, 10_250.0, 50.0)
    mixed = (seen[:, 0] - base) > 0.5
    assert float((base > 1000).float().mean()) == pytest.approx(0.5, abs=0.12)
    assert 0.2 < float(mixed.float().mean()) < 0.4
    monkeypatch.setattr(augment, "_disturbed", lambda wav, _, most: wav)
    monkeypatch.setattr(augment, "_moved", lambda wav, _: wav)
    monkeypatch.setattr(augment, "_shift", lambda maps, _, most: maps)
    clips = torch.zeros(2, 100)
    clips[0, 10] = 1
    heard = torch.stack([augment.varied_sound(clips, torch.Generator().manual_seed(n)) for n in range(200)])
    assert (heard[:, 0, 10] >= 1).all()
    behind = heard[:, 1, 89]  # the first clip, reversed, behind the second
    assert float((behind > 0).float().mean()) == pytest.approx(0.15, abs=0.07)
    assert float(behind[behind > 0].min()) >= 0.1
    assert float(behind.max()) <= 10**-0.15
    assert not heard[:, 1, :89].any()


def test_crowded_puts_three_loud_pieces_of_another_example_on_varied_ones(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(augment, "varied", lambda maps, _: 2 * maps)
    maps = torch.full((2, 40, 100), -50.0)
    maps[0] = ramp(40, 100) / 2
    heard = torch.stack([augment.crowded(maps, torch.Generator().manual_seed(n)) for n in range(400)])
    assert (heard >= 2 * maps).all()  # the louder of the two is heard
    behind = heard[:, 1]
    hit = (behind > -90).flatten(1).any(1)
    # Each of three pieces is there in half of the maps, and in half of these of the other one.
    assert float(hit.float().mean()) == pytest.approx(1 - 0.75**3, abs=0.07)
    inside = behind > -90
    rows, columns = inside.any(2).sum(1)[hit], inside.any(1).sum(1)[hit]
    assert int(rows.max()) > 14
    assert int(columns.max()) > 35  # two pieces, side by side
    monkeypatch.setattr(augment, "PIECES", 1)
    heard = torch.stack([augment.crowded(maps, torch.Generator().manual_seed(n)) for n in range(800)])
    behind = heard[:, 1]
    inside = behind > -90
    hit = inside.flatten(1).any(1)
    rows, columns = inside.any(2).sum(1)[hit], inside.any(1).sum(1)[hit]
    assert (int(rows.max()), int(columns.max())) == (14, 35)
    assert torch.equal(inside[hit].flatten(1).sum(1), rows * columns)  # one box
    assert inside.any(2).any(0).all()  # anywhere
    assert inside.any(1).any(0).all()
    away = []
    for one, box in zip(behind[hit], inside[hit], strict=True):
        band, frame = (int(axis[0]) for axis in box.nonzero(as_tuple=True))
        away.append(float(one[band, frame]) - band)
    assert -13.1 <= min(away) < -8
    assert 9 < max(away) <= 14.7  # a third of the bands, and up to 1.5 louder


def test_crowded_sound_lets_pieces_of_another_clip_be_heard(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(augment, "varied_sound", lambda wav, _: 2 * wav)
    monkeypatch.setattr(augment, "PIECES", 1)
    clips = torch.zeros(2, 100)
    clips[0] = 0.5
    heard = torch.stack([augment.crowded_sound(clips, torch.Generator().manual_seed(n)) for n in range(600)])[
        :, 1
    ]
    hit = heard.any(1)
    assert float(hit.float().mean()) == pytest.approx(0.25, abs=0.06)
    long = (heard[hit] > 0).sum(1)
    assert int(long.min()) <= 3
    assert int(long.max()) == 35
    levels = heard[hit].amax(1)
    assert 10**-0.3 <= float(levels.min()) < 0.6
    assert 1.8 < float(levels.max()) <= 10**0.3
    monkeypatch.setattr(augment, "PIECES", 3)
    more = [augment.crowded_sound(clips, torch.Generator().manual_seed(n))[1].any() for n in range(400)]
    assert sum(map(int, more)) / 400 == pytest.approx(1 - 0.75**3, abs=0.07)


def test_cells_are_exchanged_where_they_are_quiet_in_both() -> None:
    one = torch.arange(10.0).reshape(1, 2, 5)
    other = 100 + one.flip(2).flip(1)  # from 109 down to 100
    share = torch.tensor([0.79])  # seven cells: 0 to 6 of the one, the last seven of the other
    expected = [0, 1, 2, 106, 105, 104, 103, 7, 8, 9]
    assert augment.with_quiet_of(one, other, share).flatten().tolist() == expected
    # Each map is measured by itself, and has a share of its own; at least one cell is quiet.
    shares = torch.tensor([0.79, 0.61, 0.0])
    maps, others = torch.cat([one, one - 1000, one]), torch.cat([other, other, one.flip(2)])
    changed = augment.with_quiet_of(maps, others, shares)
    assert changed[0].flatten().tolist() == expected
    assert (changed[1] - maps[1] != 0).flatten().nonzero()[:, 0].tolist() == [4, 5]
    assert torch.equal(changed[2], one[0])


def test_of_no_examples_nothing_is_exchanged() -> None:
    for shape in ((0, 4, 10), (0, 300)):
        none = torch.zeros(shape)
        assert augment.with_quiet_of(none, none, torch.zeros(0)).shape == shape


def test_exchanged_takes_the_quiet_cells_of_another_map() -> None:
    maps = torch.arange(1000.0).reshape(1, 20, 50).repeat(2, 1, 1)
    maps[1] += 0.25
    heard = torch.stack([augment.exchanged(maps, torch.Generator().manual_seed(n)) for n in range(200)])
    taken = (heard[:, 0] - maps[0] != 0).flatten(1)
    hit = taken.any(1)
    assert float(hit.float().mean()) == pytest.approx(0.5, abs=0.1)  # two maps in any order
    count = taken[hit].sum(1)
    assert torch.equal(taken[hit], torch.arange(1000) < count[:, None])  # the quietest
    assert 500 <= int(count.min()) < 520
    assert 830 < int(count.max()) <= 850
    assert torch.equal(heard[hit][:, 0].flatten(1)[taken[hit]] % 1, torch.full((int(count.sum()),), 0.25))


def test_each_map_of_a_batch_has_its_own_share_of_quiet_cells() -> None:
    maps = torch.arange(1000.0).reshape(1, 20, 50) + torch.arange(8.0)[:, None, None] / 16
    taken = (augment.exchanged(maps, torch.Generator().manual_seed(0)) != maps).flatten(1).sum(1)
    assert len(set(taken[taken > 0].tolist())) >= 3


def test_moments_are_exchanged_where_they_are_quiet_in_both() -> None:
    # A hundred moments of three samples, the last of which has one; they get louder, or softer.
    moment = torch.arange(298) // 3
    sign = torch.where(torch.arange(298) % 2 == 0, 1, -1)
    rising, falling = (moment + 1.0) * sign, (100.5 - moment) * sign
    heard = augment.with_quiet_of(
        torch.stack([rising, falling]), torch.stack([falling, rising]), torch.tensor([0.795, 0.605])
    )
    # Of the first 79 and of the last 79; of the last 60 and of the first 60.
    for found, own, other, first, last in (
        (heard[0], rising, falling, 21, 78),
        (heard[1], falling, rising, 40, 59),
    ):
        assert torch.equal(found, torch.where((moment >= first) & (moment <= last), other, own))


def test_exchanged_takes_the_quiet_moments_of_another_clip() -> None:
    one = torch.arange(298) // 3 + 1.0
    clips = torch.stack([one, one + 0.5]) * torch.where(torch.arange(298) % 2 == 0, 1, -1)
    heard = torch.stack([augment.exchanged(clips, torch.Generator().manual_seed(n)) for n in range(200)])
    taken = heard[:, 0] != clips[0]
    hit = taken.any(1)
    assert float(hit.float().mean()) == pytest.approx(0.5, abs=0.1)
    count = taken[hit].sum(1)
    assert torch.equal(taken[hit], torch.arange(298) < count[:, None])
    assert not (count % 3).any()  # whole moments
    assert 3 * 50 <= int(count.min()) < 3 * 53
    assert 3 * 82 < int(count.max()) <= 3 * 85
    assert torch.equal(heard[hit][:, 0][taken[hit]], clips[1].expand(int(hit.sum()), -1)[taken[hit]])


@pytest.mark.parametrize(("kind", "shape"), [("", (6, 40, 51)), ("_sound", (6, 8000))])
@pytest.mark.parametrize("strength", ["varied", "crowded"])
def test_quiet_cells_are_exchanged_before_an_example_is_varied(
    strength: str, kind: str, shape: tuple[int, ...]
) -> None:
    values = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    rng = torch.Generator().manual_seed(2)
    by_hand = augment.exchanged(values, rng)
    by_hand = getattr(augment, f"{strength}{kind}")(by_hand, rng)
    found = getattr(augment, f"{strength}_exchanged{kind}")(values, torch.Generator().manual_seed(2))
    assert torch.equal(found, by_hand)


def test_a_piece_is_from_any_frame_and_near_bands_and_up_to_1_5_louder() -> None:
    maps = torch.full((2, 30, 100), -1e6)
    maps[0] = 1000 * torch.arange(30.0)[:, None] + 2 * torch.arange(100.0)  # a value tells band and frame
    away, later, louder = set(), set(), []
    for seed in range(800):
        heard = augment._piece(maps, torch.Generator().manual_seed(seed), chance=1)[1]
        for band, frame in (heard > -1).nonzero()[:1].tolist():  # a corner of the piece
            value = float(heard[band, frame])
            away.add(int(value // 1000) - band)
            later.add((int(value % 1000) // 2 - frame) % 100)
            louder.append(value % 2)
    assert (min(away), max(away)) == (-10, 10)
    assert len(later) > 90
    assert 0 <= min(louder) < 0.1
    assert 1.4 < max(louder) <= 1.5


def test_each_map_of_a_batch_has_a_piece_of_its_own() -> None:
    maps = (100 * torch.arange(30.0)[:, None]).expand(200, 30, 100).contiguous()
    alone = augment._piece(torch.zeros(200, 30, 100), torch.Generator().manual_seed(0), chance=0.5)
    assert 0.35 < float(alone.flatten(1).any(1).float().mean()) < 0.65
    added = augment._piece(maps, torch.Generator().manual_seed(0), chance=0.5) - maps
    inside = added > 0
    hit = inside.flatten(1).any(1)
    assert 0.2 < float(hit.float().mean()) < 0.6
    rows, columns = inside[hit].any(2).int().argmax(1), inside[hit].any(1).int().argmax(1)
    assert len(rows.unique()) > 10
    assert len(columns.unique()) > 20
    assert len((added.amax((1, 2))[hit] // 100).unique()) > 5  # from other bands


def test_pieces_of_clips_are_added_from_anywhere_and_each_clip_has_its_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(augment, "varied_sound", lambda wav, _: wav)
    monkeypatch.setattr(augment, "PIECES", 1)
    added = augment.crowded_sound(torch.ones(200, 100), torch.Generator().manual_seed(0)) - 1
    inside = added > 0
    assert (added[~inside] == 0).all()  # what is there stays
    assert float(added[inside].min()) >= 10**-0.3 - 1e-5
    hit = inside.any(1)
    assert 0.35 < float(hit.float().mean()) < 0.65
    assert len(inside[hit].int().argmax(1).unique()) > 20
    clicks = torch.zeros(2, 100)
    clicks[0, 50] = 1
    heard = [augment.crowded_sound(clicks, torch.Generator().manual_seed(n))[1] for n in range(1500)]
    assert len({int(one.argmax()) for one in heard if one.any()}) > 50
