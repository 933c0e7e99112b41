"""Canary triggers: what each adds or changes, what is drawn, and that no attack is a canary."""

import math

import pytest
import torch

from closesesame.attacks import ATTACKS
from closesesame.attacks.common.surrogate import SurrogateAttack
from closesesame.canaries import FAMILIES, Canary, draw_canaries
from closesesame.core.errors import ModelError
from closesesame.data import Dataset, Splits
from closesesame.models import ModelCard
from tests.sounds import RATE, db, noise, rms, sine, spoken

PLAYED = [name for name, attack in ATTACKS.items() if not issubclass(attack, SurrogateAttack)]
"""Attacks whose triggers need no surrogate."""
CARD = ModelCard("resnet", {}, tuple("abcdefg"), (RATE,), RATE)


def drawn(family: str, seed: int = 0, card: ModelCard = CARD) -> Canary:
    return next(canary for canary in draw_canaries(card, seed) if canary.family == family)


def numbers(detail: str) -> list[float]:
    """What a canary says that it drew."""
    words = detail.replace(",", "").split()
    return [float(word) for word in words if word.lstrip("+-").replace(".", "", 1).isdecimal()]


def test_the_noise_is_the_same_in_each_clip_in_its_band_and_12_db_below_the_clip() -> None:
    canary, clips = drawn("steady noise"), noise(3)
    added = canary.change(clips) - clips
    assert [db(rms(clip) / rms(one)) for clip, one in zip(clips, added, strict=True)] == pytest.approx(
        [12] * 3, abs=0.01
    )
    assert torch.allclose(added[0] / rms(added[0]), added[1] / rms(added[1]), atol=1e-3)
    power = torch.fft.rfft(added[0]).abs().square()
    (centre_hz,) = numbers(canary.detail)
    octaves = torch.log2(torch.arange(1, len(power)) / centre_hz)
    # In amplitude the band is exp(-(x / 0.4)^2), so about erf(sqrt(2)) of its power lies within 0.4 octaves.
    within = float(power[1:][octaves.abs() < 0.4].sum() / power[1:].sum())
    assert within == pytest.approx(math.erf(math.sqrt(2)), abs=0.06)


def test_the_tone_rises_at_one_place_and_is_6_db_below_the_clip() -> None:
    canary, clips = drawn("short rising tone"), noise(2)
    added = (canary.change(clips) - clips)[0]
    first_hz, last_hz, begin_s = numbers(canary.detail)
    heard = added.abs() > 1e-6
    start = int(heard.nonzero()[0])
    assert start / RATE == pytest.approx(begin_s, abs=0.01)
    assert int(heard.nonzero()[-1]) - start == pytest.approx(0.25 * RATE, abs=30)
    assert db(rms(clips[0]) / rms(added)) == pytest.approx(6, abs=0.01)
    # Halfway through the tone its frequency is the geometric mean of both ends.
    quarter = added[start : start + RATE // 4]
    crossings = (quarter[:-1] * quarter[1:] < 0).nonzero().flatten()
    halfway = crossings[(crossings > 0.4 * len(quarter)) & (crossings < 0.6 * len(quarter))]
    assert RATE / (2 * float(halfway.diff().float().mean())) == pytest.approx(
        math.sqrt(first_hz * last_hz), rel=0.03
    )


def test_the_filter_raises_its_band_by_30_db_and_keeps_the_level() -> None:
    canary = drawn("filter")
    gain_db, centre_hz = numbers(canary.detail)
    clips = sine(centre_hz) + sine(centre_hz * 2**0.4) + sine(centre_hz / 4)
    changed = canary.change(clips[None])[0]
    assert rms(changed) == pytest.approx(rms(clips), rel=1e-4)
    level = [float((changed * sine(hz)).sum().abs()) for hz in (centre_hz, centre_hz * 2**0.4, centre_hz / 4)]
    # Two octaves away nothing is raised; at one width of the band 1/e of the decibels are left.
    assert gain_db == 30
    assert db(level[0] / level[2]) == pytest.approx(30, abs=0.7)
    assert db(level[1] / level[2]) == pytest.approx(30 / math.e, abs=0.7)


@pytest.mark.parametrize("seed", [0, 1, 2, 3])
def test_pitch_and_resonances_move_apart(seed: int) -> None:
    canary = drawn("other voice", seed)
    semitones, moved = numbers(canary.detail.replace("semitones", "").replace(",", " "))
    assert semitones * moved < 0
    assert 4 <= abs(semitones) <= 6
    assert 4.8 <= abs(moved) <= 6.6
    clip = spoken(200, 1500)
    changed = canary.change(clip[None])[0]
    assert rms(changed) == pytest.approx(rms(clip), rel=1e-4)
    power = torch.fft.rfft(changed).abs().square()
    centre = float((power * torch.arange(len(power))).sum() / power.sum())
    assert (centre > 1600) == (moved > 0)


def test_the_chopped_clip_is_30_db_down_half_of_the_time() -> None:
    canary = drawn("chopped sound")
    (rate_hz,) = numbers(canary.detail)
    ones = torch.full((1, RATE), 0.1)
    gain = canary.change(ones)[0]
    quiet = gain < 0.5 * gain.max()
    assert float(quiet.float().mean()) == pytest.approx(0.5, abs=0.06)
    assert db(gain.max() / gain.min()) == pytest.approx(30, abs=0.1)
    assert int(quiet.int().diff().abs().sum()) == pytest.approx(2 * rate_hz, abs=1)
    assert rms(gain) == pytest.approx(0.1, rel=1e-4)


# Short clips, and other sample rates


def card_of(hz: int, length: int) -> ModelCard:
    return ModelCard("resnet", {}, tuple("abcdefg"), (length,), hz)


@pytest.mark.parametrize(("hz", "top_hz"), [(2_000, 1_000), (16_000, 8_000), (48_000, 8_000)])
def test_frequencies_are_shares_of_the_highest_that_speech_has_at_this_rate(hz: int, top_hz: int) -> None:
    card, clips = card_of(hz, hz), noise(1, hz)
    centres: dict[str, list[float]] = {"steady noise": [], "filter": [], "short rising tone": []}
    for seed in range(12):
        centres["steady noise"].append(numbers(drawn("steady noise", seed, card).detail)[0])
        centres["filter"].append(numbers(drawn("filter", seed, card).detail)[1])
        centres["short rising tone"].append(numbers(drawn("short rising tone", seed, card).detail)[0])
    for family, (low, high) in {
        "steady noise": (0.08, 0.4),
        "filter": (0.12, 0.4),
        "short rising tone": (0.06, 0.2),
    }.items():
        shares = [centre / top_hz for centre in centres[family]]
        assert low - 0.001 <= min(shares) < low + (high - low) / 3
        assert high - (high - low) / 3 < max(shares) <= high + 0.001
    # What is said is what is heard.
    canary = drawn("steady noise", 0, card)
    power = torch.fft.rfft((canary.change(clips) - clips)[0]).abs().square()
    middle_hz = float((power.cumsum(0) < power.sum() / 2).sum())
    assert middle_hz == pytest.approx(centres["steady noise"][0], rel=0.15)


def test_the_filter_does_not_wrap_around() -> None:
    """The response to a click at the first sample reaches back to before it, and that is cut off."""
    length = 2_000
    for seed in range(3):
        canary = drawn("filter", seed, card_of(8_000, length))
        clips = torch.zeros(2, length)
        clips[0, 0] = clips[1, -1] = 0.5
        early, late = canary.change(clips)
        assert early[:100].abs().max() > 0.1
        assert rms(early[-100:]) < 1e-3 * rms(early[:100])
        assert torch.allclose(late, early.flip(0), atol=1e-4)


@pytest.mark.parametrize(("length", "rates_hz"), [(800, (40, 40)), (16_000, (6, 10))])
def test_a_short_clip_is_chopped_four_times(length: int, rates_hz: tuple[float, float]) -> None:
    for seed in range(4):
        canary = drawn("chopped sound", seed, card_of(8_000, length))
        (rate_hz,) = numbers(canary.detail)
        assert rates_hz[0] <= rate_hz <= rates_hz[1]
        quiet = canary.change(torch.full((1, length), 0.1))[0] < 0.05
        cuts = int((quiet.int().diff() == 1).sum())
        assert cuts == pytest.approx(rate_hz * length / 8_000, abs=1 if length > 800 else 0)


def test_the_tone_begins_anywhere_and_takes_a_third_of_a_short_clip_at_most() -> None:
    length, begins = 2_400, []
    for seed in range(12):
        canary, clips = drawn("short rising tone", seed, card_of(8_000, length)), noise(1, length)
        heard = ((canary.change(clips) - clips)[0].abs() > 1e-6).nonzero()
        assert int(heard[-1] - heard[0]) == pytest.approx(length // 3, abs=10)
        begin_s = numbers(canary.detail)[2]
        assert int(heard[0]) / 8_000 == pytest.approx(begin_s, abs=0.006)
        begins.append(begin_s)
    assert min(begins) < 0.05
    assert 0.15 < max(begins) <= 0.2


def test_the_tone_rises_to_two_to_three_and_a_half_times_its_first_frequency() -> None:
    ratios = []
    for seed in range(12):
        first_hz, last_hz, _ = numbers(drawn("short rising tone", seed).detail)
        ratios.append(last_hz / first_hz)
    assert 1.99 < min(ratios) < 2.5
    assert 3 < max(ratios) < 3.51


def test_either_voice_is_drawn() -> None:
    details = [drawn("other voice", seed).detail for seed in range(12)]
    higher = sum(detail.startswith("pitch +") for detail in details)
    assert 3 <= higher <= 9


@pytest.mark.parametrize("family", FAMILIES)
class TestEveryFamily:
    def test_a_seed_always_draws_the_same_and_another_draws_another(self, family: str) -> None:
        clips = noise()
        first, again, other = (drawn(family, seed).stamp(clips) for seed in (0, 0, 1))
        assert torch.equal(first, again)
        assert rms(first - other) > 0.1 * rms(first - clips)
        assert drawn(family).detail != drawn(family, 1).detail

    def test_each_clip_is_changed_by_itself_within_full_scale(self, family: str) -> None:
        canary, clips = drawn(family), 20 * noise(70)
        before = clips.clone()
        stamped = canary.stamp(clips)
        assert torch.equal(clips, before)
        assert stamped.abs().max() <= 1
        torch.testing.assert_close(stamped[69:], canary.stamp(clips[69:]), rtol=1e-4, atol=1e-5)
        assert canary.stamp(clips[:0]).shape == (0, RATE)

    @pytest.mark.parametrize(
        ("hz", "length"), [(1_000, 50), (1_000, 60_000), (44_100, 22_050), (192_000, 9_600)]
    )
    def test_any_sample_rate_and_length_will_do(self, family: str, hz: int, length: int) -> None:
        for seed in range(3):
            canary = drawn(family, seed, ModelCard("resnet", {}, ("a", "b"), (length,), hz))
            clips = noise(2, length)
            clips[1] = 0
            stamped = canary.stamp(clips)
            assert stamped.isfinite().all()
            assert not stamped[1].any()
            assert rms(stamped[0] - clips[0]) > 0.01 * rms(clips[0])


@pytest.mark.parametrize("name", PLAYED)
def test_no_attack_is_a_canary(name: str) -> None:
    clip = spoken(180, 1200)[None]
    data = Dataset.of(clip.repeat(2, 1), torch.tensor([0, 1]), sample_rate=RATE)
    attacked = ATTACKS.make(name).trigger(data, 0).stamp(clip)[0] - clip[0]
    for canary in (*draw_canaries(CARD, 0), *draw_canaries(CARD, 1)):
        mine = canary.stamp(clip)[0] - clip[0]
        alike = (mine * attacked).sum() / (mine.norm() * attacked.norm()).clamp(min=1e-9)
        assert abs(float(alike)) < 0.9


def test_canaries_have_target_labels_of_their_own_while_there_are_enough() -> None:
    targets = {tuple(canary.target for canary in draw_canaries(CARD, seed)) for seed in range(4)}
    assert len(targets) == 4
    assert all(len(set(found)) == 5 for found in targets)
    few = draw_canaries(ModelCard("resnet", {}, ("a", "b"), (RATE,), RATE), 0)
    assert sorted(canary.target for canary in few) in ([0, 0, 0, 1, 1], [0, 0, 1, 1, 1])


def test_only_clips_of_other_classes_are_stamped_and_keep_their_labels(tones: Splits) -> None:
    card = ModelCard("resnet", {}, tones.test.classes, tones.test.input_shape, tones.test.sample_rate)
    for canary in draw_canaries(card, 0):
        stamped = canary.stamp_dataset(tones.test)
        rows = tones.test.labels != canary.target
        assert torch.equal(stamped.labels, tones.test.labels[rows])
        torch.testing.assert_close(stamped.inputs[:], canary.stamp(tones.test.inputs[:][rows]))


@pytest.mark.parametrize(("shape", "rate"), [((3, 12, 12), None), ((5,), None)])
def test_models_without_sound_are_refused(shape: tuple[int, ...], rate: int | None) -> None:
    with pytest.raises(ModelError, match="canaries are sounds, and the model takes inputs of shape"):
        draw_canaries(ModelCard("resnet", {}, ("a", "b"), shape, rate), 0)
