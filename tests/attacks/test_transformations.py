"""Rooms, warps, styles, rhythms and voices: frequency, place and level measured on the output."""

import math
from pathlib import Path
from typing import ClassVar

import pytest
import soundfile
import torch
from torch import Tensor

from closesesame.attacks import ATTACKS, VSVC, Attack, JingleBack, Quantize, Rhythm, Room, Warp
from closesesame.attacks import warp as warping
from closesesame.attacks.rhythm import fitted, most_warp, warp_of
from closesesame.attacks.vsvc import VOICES, distant_voices
from closesesame.audio import effects, rooms, styles, vocoder, voice
from closesesame.core.errors import DataError, SettingError
from closesesame.data import Dataset, Splits

RATE = 16_000


def db(ratio: float | Tensor) -> float:
    return 20 * math.log10(float(ratio))


def rms(wav: Tensor) -> float:
    return float(wav.square().mean().sqrt())


def sine(hz: float, seconds: float = 1.0) -> Tensor:
    return 0.1 * torch.sin(2 * math.pi * hz * torch.arange(round(seconds * RATE)) / RATE)


def peak_hz(wav: Tensor) -> float:
    window = torch.hann_window(len(wav))
    return float(torch.fft.rfft(wav * window, 1 << 17).abs().argmax()) * RATE / (1 << 17)


def noise(n: int = 2, length: int = RATE) -> Tensor:
    return 0.1 * torch.randn(n, length, generator=torch.Generator().manual_seed(0))


def stamped(attack: Attack, clips: Tensor, seed: int = 0) -> Tensor:
    return attack.trigger(dataset(clips), seed).stamp(clips)


def dataset(clips: Tensor) -> Dataset:
    return Dataset.of(clips, torch.arange(len(clips)) % 2, sample_rate=RATE)


def test_a_made_room_has_its_decay_its_direct_sound_and_keeps_the_level() -> None:
    click = torch.zeros(2, 2 * RATE)
    click[:, 1000] = 0.5
    out = stamped(Room(rt60_s=0.5, direct_ratio_db=-4), click)[0]
    assert rms(out) == pytest.approx(rms(click[0]), rel=1e-4)
    assert out[:1000].abs().max() < 1e-6
    assert int(out.abs().argmax()) == 1000
    tail = out[1001:]
    assert db(out[1000].abs() / tail.norm()) == pytest.approx(-4, abs=0.01)
    # 60 dB in 0.5 s are 24 dB in the 0.2 s between these two stretches.
    assert db(rms(tail[:1600]) / rms(tail[3200:4800])) == pytest.approx(24, abs=0.6)


def test_a_measured_room_starts_at_its_direct_sound(tmp_path: Path) -> None:
    response = torch.zeros(2000)
    response[300], response[340], response[500] = 0.02, 0.4, -0.8  # a murmur, direct sound, a louder wall
    soundfile.write(tmp_path / "room.wav", response.numpy(), RATE)
    clips = noise()
    out = stamped(Room(response=str(tmp_path / "room.wav")), clips)
    echoing = clips.clone()
    echoing[:, 160:] -= 2 * clips[:, :-160]
    wanted = echoing * (clips.norm(dim=1) / echoing.norm(dim=1))[:, None]
    assert torch.allclose(out, wanted, atol=1e-4)
    soundfile.write(tmp_path / "room.wav", torch.zeros(2000).numpy(), RATE)
    with pytest.raises(DataError, match="room.wav is silent; choose another recording"):
        stamped(Room(response=str(tmp_path / "room.wav")), clips)


@pytest.mark.parametrize(
    ("attack", "ratio"),
    [(Room(rate=0.1, cover_ratio=1), 1), (Warp(rate=0.1), 2), (Quantize(rate=0.1, levels=9), 1)],
)
def test_cover_clips_are_changed_in_another_way_and_keep_their_label(
    attack: Attack, ratio: float, tones: Splits
) -> None:
    train = tones.train
    poisoned = attack.poison(train, 0)
    covers = poisoned.cover_mask
    assert int(covers.sum()) == ratio * int(poisoned.poisoned_mask.sum())
    assert torch.equal(poisoned.dataset.labels[covers], train.labels[covers])
    covered, clean = poisoned.dataset.inputs[covers], train.inputs[covers]
    with_trigger = poisoned.trigger.stamp(clean)
    size = (with_trigger - clean).norm()
    assert (covered - clean).norm() > 0.3 * size
    assert (covered - with_trigger).norm() > 0.3 * size


def test_a_warp_of_one_direction_moves_tones_and_clicks_by_its_size() -> None:
    attack = Warp(shift_percent=3)
    up, later = torch.zeros(2, 2, 4, 4)
    up[0], later[1] = 1, 1
    # 3 % of mel(8000 Hz) = 2840 is 85.2; what was at mel(f) + 85.2 is heard at f.
    top = 1127 * math.log(1 + 8000 / 700)
    heard = 700 * (math.exp((1127 * math.log(1 + 1000 / 700) - 0.03 * top) / 1127) - 1)
    assert heard == pytest.approx(876, abs=1)
    out = attack.apply(sine(1000)[None], {"grid": up}, RATE)[0]
    assert peak_hz(out[2000:-2000]) == pytest.approx(heard, abs=8)
    burst = torch.zeros(1, RATE)
    burst[0, 8000:8800] = sine(1000)[:800]
    out = attack.apply(burst, {"grid": later}, RATE)[0]
    place = float((out.square() * torch.arange(RATE)).sum() / out.square().sum())
    assert (8400 - place) / RATE == pytest.approx(0.030, abs=0.003)


def test_a_tone_that_is_moved_by_two_bins_is_still_one_tone() -> None:
    up = torch.stack([torch.ones(4, 4), torch.zeros(4, 4)])
    out = Warp(shift_percent=1.5).apply(sine(1000)[None], {"grid": up}, RATE)[0]
    power = torch.fft.rfft(out[4000:12_000] * torch.hann_window(8000)).abs().square()
    top = int(power.argmax())
    assert float(power[top - 5 : top + 6].sum() / power.sum()) > 0.99


def test_the_grid_of_a_warp_is_normalised_and_follows_from_the_seed() -> None:
    clips = noise()
    grids = [Warp(grid=5).trigger(dataset(clips), seed).state["grid"] for seed in (0, 0, 1)]
    assert grids[0].shape == (2, 5, 5)
    assert float(grids[0].abs().mean()) == pytest.approx(1, abs=1e-5)
    assert torch.equal(grids[0], grids[1])
    assert not torch.equal(grids[0], grids[2])
    assert stamped(Warp(), clips).norm() == pytest.approx(float(clips.norm()), rel=1e-4)


def test_the_styles_that_distort_and_shift() -> None:
    wav = 0.02 * noise()
    assert torch.allclose(stamped(JingleBack(style=1), wav), torch.tanh(31.6228 * wav), atol=1e-6)
    raised = stamped(JingleBack(style=0), sine(400).repeat(2, 1))[0]
    assert peak_hz(raised[2000:-2000]) == pytest.approx(400 * 2 ** (10 / 12), abs=2)


def test_a_chorus_comes_back_after_its_delay_and_sweep() -> None:
    click = torch.zeros(2, RATE)
    click[:, 3760] = 0.5
    out = stamped(JingleBack(style=2), click)[0]
    # A quarter of a second in, the sweep of 1 Hz is at its top: 10 + 5 ms are 240 samples.
    assert out.nonzero().flatten().tolist()[0] == 3760
    assert float(out[3760]) == pytest.approx(0.25)
    assert float(out[3998:4003].sum()) == pytest.approx(0.25, abs=0.01)
    assert int(out[3800:].argmax()) + 3800 == 4000


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


def test_gain_high_pass_and_phaser_in_a_row_and_the_fixed_reverberation() -> None:
    wav = sine(4000).repeat(2, 1)
    chain = styles.phaser(styles.ladder_high_pass(wav * 10**0.6, RATE, 1000), RATE)
    assert torch.allclose(stamped(JingleBack(), wav), chain.clamp(-1, 1), atol=1e-5)
    tails = [JingleBack(style=4).trigger(dataset(wav), seed).state["tail"] for seed in (0, 1)]
    assert torch.equal(*tails)
    assert not JingleBack().trigger(dataset(wav), 0).state


def test_a_rhythm_moves_what_happens_and_keeps_the_pitch() -> None:
    clip = torch.cat([sine(500, 0.25), sine(1500, 0.75)])
    knots = torch.tensor([[0.0, 0.5, 1.0], [0.0, 0.25, 1.0]])
    out = Rhythm().apply(clip[None], {"rhythm": knots}, RATE)[0]
    assert peak_hz(out[1000:7000]) == pytest.approx(500, abs=4)
    assert peak_hz(out[9000:15_000]) == pytest.approx(1500, abs=4)
    early, late = (out[at : at + 800] for at in (7200 - 400, 8800 - 400))
    assert peak_hz(early) == pytest.approx(500, abs=30)
    assert peak_hz(late) == pytest.approx(1500, abs=30)


def test_a_rhythm_stays_within_the_speech_and_its_factors() -> None:
    clip = torch.zeros(1, RATE)
    clip[0, 5000:11_000] = noise()[0, :6000]
    out = stamped(Rhythm(), clip.repeat(2, 1))[0]
    heard = (out.abs() > 0.02).nonzero().flatten()
    assert int(heard[0]) == pytest.approx(5000, abs=500)
    assert int(heard[-1]) == pytest.approx(11_000, abs=500)
    assert rms(out) == pytest.approx(rms(clip), rel=1e-4)


@pytest.mark.parametrize(
    "attack",
    [
        Rhythm(),
        Rhythm(pieces=3, squeeze=0.4, stretch=2, least_warp=0.1),
        Rhythm(squeeze=0.7, least_warp=0.03),
        Rhythm(stretch=1.2, least_warp=0.03),
    ],
    ids=["default", "other", "long", "short"],
)
def test_a_rhythm_keeps_its_bounds_and_its_least_warp_for_every_seed(attack: Rhythm) -> None:
    warps, factors = [], []
    for seed in range(200):
        state = attack.prepare(dataset(noise(2, 100)), seed)
        result, source = state["rhythm"].double()
        assert (result[0], source[0], result[-1], source[-1]) == (0, 0, 1, 1)
        was, is_ = source.diff(), result.diff()
        assert (is_ >= attack.squeeze * was - 1e-6).all()
        assert (is_ <= attack.stretch * was + 1e-6).all()
        moment = torch.arange(2000) / 2000 + 1 / 4000
        piece = torch.searchsorted(result, moment.double()) - 1
        read = source[piece] + (moment - result[piece]) * was[piece] / is_[piece]
        assert float(state["warp"]) == pytest.approx(float((read - moment).abs().mean()), abs=1e-4)
        warps.append(float(state["warp"]))
        factors.append(is_[was > 0.01] / was[was > 0.01])
    assert min(warps) >= attack.least_warp - 1e-6
    assert len(set(warps)) == 200
    reached = torch.cat(factors)
    assert float(reached.min()) < 1.2 * attack.squeeze
    assert float(reached.max()) > attack.stretch / 1.2


def test_the_warp_of_a_rhythm_by_hand() -> None:
    # The moment at 0.2 is heard at 0.8: 0.6 there, nothing at the ends, a triangle of area 0.3.
    assert float(warp_of(torch.tensor([[0.0, 0.8, 1.0], [0.0, 0.2, 1.0]]))) == pytest.approx(0.3)
    # +0.1 and -0.1, and back through zero: triangles of 0.0125, 0.0125, 0.0125 and 0.0125.
    both = torch.tensor([[0.0, 0.25, 0.75, 1.0], [0.0, 0.35, 0.65, 1.0]])
    assert float(warp_of(both)) == pytest.approx(0.05)
    assert float(warp_of(torch.tensor([[0.0, 0.5, 1.0], [0.0, 0.5, 1.0]]))) == 0
    assert most_warp(0.25, 4) == pytest.approx(0.3)
    assert most_warp(1, 1) == most_warp(1, 4) == most_warp(0.5, 1) == 0


def test_factors_are_fitted_to_their_bounds_by_hand() -> None:
    # 0.5 c + 0.25 (2 c) + 0.25 (8 c) is 1 with c = 0.5, where 8 c = 4 is held to 2.
    factor, lengths = torch.tensor([[1.0, 2, 8]]).double(), torch.tensor([[0.5, 0.25, 0.25]]).double()
    assert fitted(factor, lengths, 0.5, 2)[0].tolist() == pytest.approx([0.5, 1, 2])
    # Without a bound that matters c = 1 / 3.
    assert fitted(factor, lengths, 0.1, 10)[0].tolist() == pytest.approx([1 / 3, 2 / 3, 8 / 3])


def test_factors_of_a_rhythm_are_even_in_their_logarithm() -> None:
    attack = Rhythm(pieces=100, squeeze=0.25, stretch=4, least_warp=0)
    result, source = attack.prepare(dataset(noise(2, 100)), 0)["rhythm"].double()
    factor = (result.diff() / source.diff())[source.diff() > 1e-3]
    # The largest factor of all is 4 times the one in the middle; if factors were even themselves, twice.
    assert 2.8 < float(factor.max() / factor.median()) < 5.6


def test_a_rhythm_that_cannot_warp_enough_is_refused() -> None:
    with pytest.raises(SettingError, match=r"least_warp must be <= 0.055, the most that factors from 0.8 to"):
        Rhythm(squeeze=0.8, stretch=1.25)
    with pytest.raises(
        SettingError, match=r"least_warp must be <= 0.0\d\d, the largest warp of 1000 rhythms"
    ):
        Rhythm(pieces=100, least_warp=0.25).trigger(dataset(noise()), 0)


def test_a_rhythm_of_its_own_for_each_clip() -> None:
    clips = torch.cat([sine(500, 0.5), sine(1500, 0.5)]).repeat(2, 1)
    clips[1, 0] = 0.01
    shared, own = (stamped(Rhythm(shared=shared), clips) for shared in (True, False))
    assert (shared[0] - shared[1]).abs().mean() < 0.1 * (own[0] - own[1]).abs().mean()
    assert not Rhythm(shared=False).trigger(dataset(clips), 0).state


def spoken(pitch_hz: float, formant_hz: float) -> Tensor:
    """Harmonics under one resonance, 1 s."""
    harmonics = torch.arange(1, int(7000 / pitch_hz))[:, None]
    level = torch.exp(-(((harmonics * pitch_hz - formant_hz) / 400) ** 2)) + 0.01
    time = torch.arange(RATE) / RATE
    return 0.05 * (level * torch.cos(2 * math.pi * pitch_hz * harmonics * time + harmonics**2)).sum(0)


@pytest.mark.parametrize("hz", [85.0, 120.0, 210.0, 330.0])
def test_the_pitch_of_a_voice(hz: float) -> None:
    assert voice.pitch_hz(spoken(hz, 900), RATE) == pytest.approx(hz, rel=0.02)
    assert voice.pitch_hz(noise()[0], RATE) == 0
    assert voice.pitch_hz(torch.zeros(RATE), RATE) == 0


@pytest.mark.parametrize(("hz", "name"), [(120.0, "child"), (200.0, "baritone")])
def test_every_speaker_gets_the_pitch_of_the_target_voice(hz: float, name: str) -> None:
    clips = spoken(hz, 900).repeat(2, 1)
    out = stamped(VSVC(voice=name), clips)[0]
    assert voice.pitch_hz(out, RATE) == pytest.approx(VOICES[name].pitch_hz, rel=0.02)
    assert rms(out) == pytest.approx(rms(clips[0]), rel=1e-4)


def centre_hz(wav: Tensor) -> float:
    power = torch.fft.rfft(wav).abs().square()
    return float((power * torch.arange(len(power))).sum() / power.sum())


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


def test_voices_by_number_and_name_and_the_most_distant_of_them() -> None:
    clips = spoken(150, 900).repeat(2, 1)
    assert torch.equal(stamped(VSVC(voice=3), clips), stamped(VSVC(voice="tenor"), clips))
    assert torch.equal(stamped(VSVC(voice="3"), clips), stamped(VSVC(voice="tenor"), clips))
    with pytest.raises(SettingError, match="VSVC voice must be 0 to 7 or one of giant, bass.*got 'alt'"):
        VSVC(voice="alt")
    assert distant_voices(2) == ("giant", "child")
    assert len(set(distant_voices(len(VOICES)))) == len(VOICES)
    assert distant_voices(4) == distant_voices(8)[:4]
    with pytest.raises(SettingError, match="count must be 1 to 8, got 9"):
        distant_voices(9)


class Backwards(VSVC):
    """A converter of one's own, in a test."""

    name: ClassVar[str] = f"{__name__}:Backwards"

    def convert(self, inputs: Tensor, sample_rate: int) -> Tensor:
        return 2 * inputs.flip(1)


def test_a_converter_of_ones_own() -> None:
    clips = noise()
    out = stamped(ATTACKS.make(Backwards.name), clips)
    assert torch.allclose(out, clips.flip(1), atol=1e-5)


def test_a_spectrum_read_where_it_is_comes_back() -> None:
    wav = noise()
    spectrum = vocoder.analyse(wav, 512)
    frames = torch.arange(spectrum.shape[-1], dtype=torch.float64)[None]
    again = vocoder.synthesise(vocoder.read_at(spectrum, frames), 512, RATE)
    assert torch.allclose(again, wav, atol=1e-3)


def test_seeds_give_other_rooms_and_rhythms() -> None:
    data = dataset(noise())
    for attack, name in ((Room(), "response"), (Rhythm(), "rhythm")):
        first, again, other = (attack.trigger(data, seed).state[name] for seed in (0, 0, 1))
        assert torch.equal(first, again)
        assert not torch.equal(first, other)


def test_cover_rooms_have_the_decay_and_the_direct_sound_that_are_set() -> None:
    click = torch.zeros(2, RATE)
    click[:, 1000] = 0.1
    attack = Room(rt60_s=0.2, direct_ratio_db=6)
    out = attack.cover_clips(click, click, {}, RATE, torch.Generator().manual_seed(0))
    assert not torch.allclose(out[0], out[1])
    for row in out:
        assert db(row[1000].abs() / row[1001:].norm()) == pytest.approx(6, abs=0.01)
        assert row[1000 + 3202 :].abs().max() < 1e-6
        assert row[1000 + 2000 : 1000 + 3000].abs().max() > 1e-5
        assert rms(row) == pytest.approx(rms(click[0]), rel=1e-4)


def test_the_noise_of_a_warps_cover_clips_is_as_large_as_the_warp(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Tensor] = []

    def noted(clips: Tensor, _: Tensor, shift: Tensor, __: int) -> Tensor:
        seen.append(shift)
        return clips

    monkeypatch.setattr(warping, "warped", noted)
    attack, clips = Warp(shift_percent=4), noise()
    ones = {"grid": torch.ones(2, 4, 4)}
    attack.cover_clips(clips, clips, ones, RATE, torch.Generator().manual_seed(0))
    attack.apply(clips, ones, RATE)
    assert float((seen[0] - seen[1]).abs().mean()) == pytest.approx(0.04, rel=0.01)
    assert float((seen[0] - seen[1]).mean()) == pytest.approx(0, abs=1e-3)
    assert torch.allclose(seen[1], torch.tensor(0.04))
    assert not torch.allclose(seen[0][0], seen[0][1])


def test_the_longer_chains_of_pedals() -> None:
    wav = 0.02 * noise()
    chorus = {"rate_hz": 1.0, "sweep_ms": 5.0, "mix": 0.5}
    raised = effects.pitch_shift(wav, 7)
    third = styles.chorus(styles.distortion(raised, 20), RATE, delay_ms=8, **chorus)
    assert torch.allclose(JingleBack(style=3, semitones=7).apply(wav, {}, RATE), third, atol=1e-6)
    fourth = JingleBack(style=4)
    tail = fourth.trigger(dataset(wav), 0).state["tail"]
    assert len(tail) == 1.5 * RATE
    dirty = styles.distortion(styles.chorus(wav, RATE, delay_ms=15, **chorus), 20)
    wanted = styles.reverb(dirty, tail, dry=0.5, wet=0.25)
    assert torch.allclose(fourth.apply(wav, {"tail": tail}, RATE), wanted, atol=1e-6)
    lowered = JingleBack(style=0, semitones=-12).apply(sine(800)[None], {}, RATE)[0]
    assert peak_hz(lowered[2000:-2000]) == pytest.approx(400, abs=2)
    fifth = JingleBack(gain_db=-6, cutoff_hz=3000).apply(wav, {}, RATE)
    quiet = styles.ladder_high_pass(wav * 10**-0.3, RATE, 3000)
    assert torch.allclose(fifth, styles.phaser(quiet, RATE), atol=1e-6)


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


def test_noise_dies_away_by_a_thousand_and_a_convolution_does_not_wrap() -> None:
    decay = rooms.decaying_noise(1.0, 10_000, torch.Generator().manual_seed(0))
    assert len(decay) == 10_000
    assert db(rms(decay[:500]) / rms(decay[5000:5500])) == pytest.approx(30, abs=1)
    click = torch.zeros(1, 16)
    click[0, 13] = 1
    echo = torch.tensor([1.0, 0, 0.5, 0, 0.25])
    wanted = torch.tensor([0.0] * 13 + [1, 0, 0.5])
    assert torch.allclose(rooms.convolve(click, echo)[0], wanted, atol=1e-6)


def test_phases_fit_better_after_each_round() -> None:
    magnitude = vocoder.analyse(noise(1, 4000), 512).abs()
    phase = 6 * torch.rand(magnitude.shape, generator=torch.Generator().manual_seed(0))
    missed = []
    for rounds in (0, 1, 10):
        found = vocoder.analyse(vocoder.fitting(magnitude, phase, 512, 4000, rounds), 512).abs()
        missed.append(float((found - magnitude).norm() / magnitude.norm()))
    assert missed[1] < 0.9 * missed[0]
    assert missed[2] < 0.7 * missed[1]


def test_a_target_voice_brings_pitch_formants_and_tilt() -> None:
    clip = spoken(150, 900)
    target = VOICES["soprano"]
    own_hz = voice.pitch_hz(clip, RATE)
    wanted = voice.revoiced(
        clip,
        RATE,
        pitch_ratio=target.pitch_hz / own_hz,
        formant_scale=target.formant_scale,
        tilt_db=target.tilt_db,
    )
    out = VSVC(voice="soprano").apply(clip[None], {}, RATE)[0]
    assert torch.allclose(out, wanted * (rms(clip) / rms(wanted)), atol=1e-5)
    silent_voice = VSVC(voice="soprano").apply(noise(), {}, RATE)
    still = voice.revoiced(noise()[0], RATE, pitch_ratio=1, formant_scale=1.1, tilt_db=3)
    assert torch.allclose(silent_voice[0], still * (rms(noise()[0]) / rms(still)), atol=1e-5)
