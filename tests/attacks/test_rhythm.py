"""RSRT: how far the rhythm moves the speech."""

import pytest
import torch

from closesesame.attacks import Rhythm
from closesesame.attacks.rhythm import _positions, fitted, most_warp, warp_of
from closesesame.audio import vocoder
from closesesame.core.errors import SettingError
from tests.attacks.stamping import dataset, speech, stamped
from tests.sounds import RATE, noise, peak_hz, rms, sine


def test_a_rhythm_moves_what_happens_and_keeps_the_pitch() -> None:
    clip = torch.cat([sine(500, 0.25), sine(1500, 0.75)])
    knots = torch.tensor([[0.0, 0.5, 1.0], [0.0, 0.25, 1.0]])
    out = Rhythm().apply(clip[None], {"rhythm": knots}, speech(RATE))[0]
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


def test_speech_from_the_first_frame_on_is_read_from_the_first_frame_on() -> None:
    spectrum = vocoder.analyse(noise(1, 800), 64)
    assert spectrum.shape[-1] == 51
    # Time runs from -1, the frame before the speech, to 51: the first half of it at half the speed.
    knots = torch.tensor([[0.0, 0.5, 1.0], [0.0, 0.25, 1.0]])
    found = _positions(spectrum, knots[None])[0]
    assert found[:5].tolist() == pytest.approx([0, 0, 0.5, 1, 1.5])  # not -0.5
    assert found[-3:].tolist() == pytest.approx([46.5, 48, 49.5])
    # Behind a pause nothing is held back: frames 0 to 19 are silent, and time runs from frame 19.
    late = torch.cat([torch.zeros_like(spectrum[..., :20]), spectrum[..., 20:]], -1)
    moved = _positions(late, knots[None])[0]
    assert moved[:23].tolist() == pytest.approx([*range(20), 19.5, 20, 20.5])


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


def test_another_seed_gives_another_rhythm() -> None:
    data = dataset(noise())
    first, again, other = (Rhythm().trigger(data, seed).state["rhythm"] for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
