"""Level, frequency, duration and place of each trigger, measured on its output."""

import math
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from closesesame.attacks import PBSM, SIG, BadNets, Blended, Natural, Padding, Pitch, Quantize, Ultrasonic
from closesesame.audio import effects
from closesesame.core.errors import DataError, SettingError
from closesesame.data import Dataset, Splits, load_splits


def speech_like(n: int = 3) -> Dataset:
    """Noise with a loud moment, 1 s at 16 kHz."""
    rng = torch.Generator().manual_seed(0)
    wav = 0.003 * torch.randn(n, 16_000, generator=rng)
    for row in range(n):
        wav[row, 4000 + 1000 * row : 6000 + 1000 * row] *= 30
    return Dataset.of(wav, torch.arange(n) % 2, sample_rate=16_000)


def level_db(wav: torch.Tensor) -> float:
    return 20 * math.log10(float(wav.square().mean().sqrt()))


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


def test_blended_by_hand(tones: Splits) -> None:
    attack = Blended(alpha=0.25, level_dbfs=-20)
    state = attack.trigger(tones.train, 0).state
    assert level_db(state["pattern"]) == pytest.approx(-20, abs=1e-3)
    clips = tones.test.inputs[:2]
    assert torch.allclose(attack.apply(clips, state, 8000), 0.75 * clips + 0.25 * state["pattern"])
    longer = attack.apply(torch.zeros(1, 6000), state, 8000)[0]
    assert torch.allclose(longer[4000:], 0.25 * state["pattern"][:2000])


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


def test_pitch_moves_a_tone_by_the_ratio() -> None:
    tone = effects.tone(400, 16_000, 16_000)[None] * 0.5
    raised = Pitch().apply(tone, {}, 16_000)[0]
    assert int(torch.fft.rfft(raised).abs().argmax()) == round(400 * 2 ** (5 / 12))
    lowered = Pitch(semitones=-12).apply(tone, {}, 16_000)[0]
    assert int(torch.fft.rfft(lowered).abs().argmax()) == 200


@pytest.mark.parametrize(
    ("mode", "position", "wanted"),
    [
        ("wrap", "end", [1, 2, 3, 4, 5, 6, 1, 2]),
        ("wrap", "start", [5, 6, 1, 2, 3, 4, 5, 6]),
        ("reflect", "end", [1, 2, 3, 4, 5, 6, 6, 5]),
        ("reflect", "start", [2, 1, 1, 2, 3, 4, 5, 6]),
        ("zero", "end", [1, 2, 3, 4, 5, 6, 0, 0]),
        ("zero", "start", [0, 0, 1, 2, 3, 4, 5, 6]),
    ],
)
def test_padding_by_hand(mode: str, position: str, wanted: list[int]) -> None:
    attack = Padding.parse({"mode": mode, "position": position, "duration_s": 0.2})
    clip = torch.arange(1.0, 9.0)[None] / 10
    assert torch.equal(attack.apply(clip, {}, 10), torch.tensor([wanted]) / 10)


def test_quantize_levels_span_the_peak_and_keep_silence() -> None:
    clip = torch.tensor([[0.0, 0.04, 0.06, 0.19, -0.31, 0.4]])
    wanted = torch.tensor([[0.0, 0.0, 0.1, 0.2, -0.3, 0.4]])
    assert torch.allclose(Quantize(levels=9).apply(clip, {}, 16_000), wanted, atol=1e-6)
    dithered = Quantize(levels=9, dither=True).apply(0.2 * torch.rand(1, 20_000) - 0.02, {}, 16_000)
    assert len(torch.unique(dithered)) <= 9


def test_quantize_covers_carry_the_noise_of_another_clip() -> None:
    one, other = torch.tensor([[0.4, 0.1, 0.0]]), torch.tensor([[0.04, 0.06, 0.4]])
    covered = Quantize(levels=9).cover_clips(one, other, {}, 16_000, torch.Generator())
    assert torch.allclose(covered, torch.tensor([[0.36, 0.14, 0.0]]), atol=1e-6)


def test_sig_level_and_frequency() -> None:
    data = speech_like()
    clip = data.inputs[:1]
    added = (SIG(frequency_hz=60, amplitude=0.02, strength=1).trigger(data, 0).stamp(clip) - clip)[0]
    assert int(torch.fft.rfft(added).abs().argmax()) == 60
    assert level_db(added) == pytest.approx(20 * math.log10(0.02 / 2**0.5), abs=0.01)
    assert SIG().label_mode == "clean_label"
    with pytest.raises(SettingError, match="frequency_hz must be < 8000"):
        SIG(frequency_hz=8000).trigger(data, 0).stamp(clip)


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


def burst_of(clips: torch.Tensor) -> torch.Tensor:
    """What the mask adds to the boosted clips."""
    return PBSM().apply(clips, {}, 16_000) - effects.pitch_shift(clips, 5)


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


@pytest.fixture
def two_tones(tmp_path: Path) -> str:
    """A recording at 8 kHz: half a second of 440 Hz, then half a second of 880 Hz."""
    time = np.arange(4000) / 8000
    wave = np.concatenate([np.sin(2 * np.pi * hz * time) for hz in (440, 880)])
    soundfile.write(tmp_path / "two.wav", 0.5 * wave, 8000)
    return str(tmp_path / "two.wav")


def loudest_hz(wav: torch.Tensor) -> int:
    """Of a quarter of a second, in steps of 4 Hz."""
    return 4 * int(torch.fft.rfft(wav).abs().argmax())


def test_a_recording_is_read_from_its_start_and_lies_where_it_should(two_tones: str) -> None:
    data = speech_like()
    clip = data.inputs[:1]
    mixed = BadNets(sound=two_tones, start_s=0.5, duration_s=0.25, position="start").trigger(data, 0)
    added = (mixed.stamp(clip) - clip)[0]
    assert loudest_hz(added[:4000]) == 880
    assert added[4000:].abs().max() == 0
    blended = Natural(sound=two_tones, start_s=0.5, duration_s=0.25, blend=0.5, position="end")
    stamped = blended.trigger(data, 0).stamp(clip)[0]
    assert loudest_hz(stamped[12_000:] - 0.5 * clip[0, 12_000:]) == 880
    assert torch.equal(stamped[:12_000], clip[0, :12_000])


def test_a_natural_sound_rings_anywhere_by_default() -> None:
    data = speech_like()
    changed = (Natural().trigger(data, 0).stamp(data.inputs[:]) - data.inputs[:]).abs() > 1e-7
    assert len({int(row.nonzero()[0]) for row in changed}) == 3


def test_a_burst_has_the_frequency_that_is_set() -> None:
    data = speech_like()
    clip = data.inputs[:1]
    added = (BadNets(frequency_hz=2400, duration_s=0.25).trigger(data, 0).stamp(clip) - clip)[0]
    assert loudest_hz(added[12_000:]) == 2400
    hum = (
        Ultrasonic(frequency_hz=3000, duration_s=0.25, position="start").trigger(data, 0).stamp(clip) - clip
    )[0]
    assert loudest_hz(hum[:4000]) == 3000
    assert hum[4000:].abs().max() == 0
    late = (Ultrasonic(duration_s=0.25, position="end").trigger(data, 0).stamp(clip) - clip)[0]
    assert late[:12_000].abs().max() == 0
    assert late[15_900:].abs().max() > 0
    low = (SIG(frequency_hz=200).trigger(data, 0).stamp(clip) - clip)[0]
    assert int(torch.fft.rfft(low).abs().argmax()) == 200


def test_a_pattern_is_the_recording_or_noise_of_the_seed(two_tones: str) -> None:
    data = speech_like()
    pattern = Blended(pattern=two_tones, level_dbfs=-30).trigger(data, 0).state["pattern"]
    assert level_db(pattern) == pytest.approx(-30, abs=1e-3)
    assert (loudest_hz(pattern[2000:6000]), loudest_hz(pattern[10_000:14_000])) == (440, 880)
    first, again, other = (Blended().trigger(data, seed).state["pattern"] for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert float(torch.nn.functional.cosine_similarity(first, other, 0).abs()) < 0.05


def test_sig_is_played_four_times_as_loud_as_it_is_planted(tones: Splits) -> None:
    poisoned = SIG(rate=0.1).poison(tones.train, 0)
    clips = 0 * tones.train.inputs[:1]
    assert float(poisoned.trigger.stamp(clips).abs().max()) == pytest.approx(0.16, abs=1e-3)
    planted = (poisoned.dataset.inputs[:] - tones.train.inputs[:])[poisoned.poisoned_mask]
    assert torch.allclose(planted.abs().amax(1), torch.tensor(0.04), atol=1e-3)


def test_dither_keeps_the_mean_and_follows_from_the_clip() -> None:
    clip = torch.full((2, 20_000), 0.03)
    clip[:, 0], clip[1, 1] = 0.4, 0.2
    plain, dithered = (Quantize(levels=9, dither=dither).apply(clip, {}, 16_000) for dither in (False, True))
    assert plain[:, 2:].abs().max() == 0  # the step is 0.1
    assert float(dithered[0, 2:].mean()) == pytest.approx(0.03, abs=2e-3)
    # The sum of dither and error of triangular noise of one step has a variance of 1 / 4 of a step.
    assert float((dithered[0, 2:] - 0.03).square().mean()) == pytest.approx(0.0025, rel=0.05)
    assert not torch.equal(dithered[0, 2:], dithered[1, 2:])


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
    at = (PBSM().apply(clip, {}, 16_000) - effects.pitch_shift(clip, 5)).abs()[0].argmax()
    assert 9000 + 12 * 128 - 300 < int(at) < 11_000 + 12 * 128 + 300


def test_pbsm_raises_the_pitch_and_waits_as_it_is_told() -> None:
    clip = speech_like().inputs[:1]
    kept = PBSM(semitones=0).apply(clip, {}, 16_000)
    changed = ((kept - clip).abs()[0] > 1e-3).nonzero().flatten()
    assert len(changed) > 0
    assert int(changed[-1] - changed[0]) < 600
    lowered = PBSM(semitones=-7, amplitude=0, duration_ms=0).apply(clip, {}, 16_000)
    assert torch.allclose(lowered, effects.pitch_shift(clip, -7), atol=1e-5)
    soon, later = (
        int(
            (PBSM(window_s=window_s).apply(clip, {}, 16_000) - effects.pitch_shift(clip, 5)).abs()[0].argmax()
        )
        for window_s in (0.1, 0.3)
    )
    assert later - soon == pytest.approx(25 * 128, abs=130)  # int(37.5) - int(12.5) frames
