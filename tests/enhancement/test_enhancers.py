"""What is asked of every enhancement network."""

import pytest
import torch

from closesesame.core.errors import SettingError
from closesesame.core.seeding import isolated
from closesesame.enhancement import DCCRN, GTCRN, ComplexMTASS, Enhancement, MaskGRU, Mixture
from tests.enhancement.patterns import chirps, hiss, patterned

COUNTS = {
    ("complex_mtass", "paper"): 28_180_685,
    ("dccrn", "paper"): 3_742_349,
    ("dccrn", "paper_cl"): 3_671_053,
    ("gtcrn", "paper"): 23_669,
}
RANGES_DB = {ComplexMTASS: (-5, 5), DCCRN: (-5, 20), GTCRN: (-5, 15), MaskGRU: (-5, 15)}
PUBLISHED: list[type[Enhancement]] = [ComplexMTASS, DCCRN, GTCRN]
KINDS = [*PUBLISHED, MaskGRU]
SIZES = [(kind, size) for kind in PUBLISHED for size in kind.sizes]
SMALL = [
    ComplexMTASS(width=32, repeats=1, repair_width=16, repair_hidden=8, repair_repeats=1, repair_blocks=3),
    DCCRN(channels=(4, 8, 8), units=16),
    DCCRN(channels=(4, 8, 8), units=16, recurrent="complex", mask="C"),
    DCCRN(channels=(4, 8, 8), units=16, mask="R"),
    GTCRN(),
    MaskGRU(units=64),
]
NAMES = [f"{made.name}-{number}" for number, made in enumerate(SMALL)]


def mixture(length: int, count: int = 2) -> Mixture:
    return Mixture(chirps(length, count), hiss(length, count))


@pytest.mark.parametrize(("kind", "size"), SIZES)
def test_published_networks_have_as_many_weights_as_the_authors_count(
    kind: type[Enhancement], size: str
) -> None:
    network = kind.of_size(size).build(0)
    weights = sum(weight.numel() for weight in network.parameters())
    assert (size == "small") == ((kind.name, size) not in COUNTS)
    assert weights == COUNTS.get((kind.name, size), weights) == kind.parameters_of_paper.get(size, weights)
    assert kind.sizes["paper"] == {}
    assert network.sample_rate_hz == kind.sample_rate_hz == 16_000
    assert not network.training


@pytest.mark.parametrize("kind", PUBLISHED)
def test_small_networks_are_no_larger_than_a_seventh_of_the_paper_s(kind: type[Enhancement]) -> None:
    sizes = {
        size: sum(weight.numel() for weight in kind.of_size(size).build(0).parameters())
        for size in ("paper", "small")
    }
    assert sizes["small"] < max(sizes["paper"] / 7, 30_000)


def test_an_unknown_size_is_refused() -> None:
    with pytest.raises(SettingError, match=r"dccrn has no size 'smal'; known are .* did you mean 'small'?"):
        DCCRN.of_size("smal")
    with pytest.raises(SettingError, match=r"DCCRN.channels\[1\] must be a multiple of 2, got 5"):
        DCCRN(channels=(4, 5))


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_said_of_a_method_is_there(kind: type[Enhancement]) -> None:
    assert kind.cite
    assert kind.of_size("small").build(0).snr_range_db == RANGES_DB[kind]
    for name, about in kind.model_json_schema()["properties"].items():
        assert about["description"], name


@pytest.mark.parametrize("settings", SMALL, ids=NAMES)
class TestEveryNetwork:
    @torch.no_grad()
    def test_the_seed_draws_the_weights(self, settings: Enhancement) -> None:
        state, wav = torch.random.get_rng_state(), hiss(800)
        first, again, other = (settings.build(seed)(wav) for seed in (3, 3, 4))
        assert torch.equal(first, again)
        assert not torch.allclose(first, other)
        assert torch.equal(torch.random.get_rng_state(), state)

    @torch.no_grad()
    @pytest.mark.parametrize("length", [1, 255, 257, 4_001])
    def test_a_clip_of_any_length_keeps_it(self, settings: Enhancement, length: int) -> None:
        wav = hiss(length)
        kept = wav.clone()
        enhanced = settings.build(0)(wav)
        assert enhanced.shape == wav.shape
        assert enhanced.isfinite().all()
        assert torch.equal(wav, kept)

    def test_silence_stays_silent_and_can_be_learned_from(self, settings: Enhancement) -> None:
        network, silence = settings.build(0).train(), torch.zeros(2, 1_500)
        with isolated(0, "dropout"):
            network.loss(Mixture(silence, silence)).backward()
        assert all(weight.grad.isfinite().all() for weight in network.parameters() if weight.grad is not None)
        enhanced = settings.build(0)(silence)
        assert enhanced.isfinite().all()
        if not isinstance(settings, ComplexMTASS):  # biases of its second network are heard
            assert not enhanced.any()

    @torch.no_grad()
    def test_a_clip_is_enhanced_by_itself(self, settings: Enhancement) -> None:
        network, wav = patterned(settings.build(0)), torch.cat([chirps(3_000), hiss(3_000, 1)])
        together = network(wav)
        for row in range(3):
            assert torch.allclose(network(wav[row : row + 1])[0], together[row], atol=1e-6)

    def test_it_hears_as_far_ahead_as_it_says(self, settings: Enhancement) -> None:
        network = patterned(settings.build(0))
        ahead = settings.ahead_samples
        # Each clip of a batch is looked at in another place, around 18 hops of 100 samples and 7 of 256.
        places = torch.tensor([1_790, 1_792, 1_793, 1_794, 1_800, 1_801, 1_802, 1_850])
        wav = hiss(3_000, 1).expand(len(places), -1).clone().requires_grad_()
        made = network(wav)
        (slope,) = torch.autograd.grad(made[torch.arange(len(places)), places].sum(), wav)
        last = torch.stack([row.nonzero().max() for row in slope])
        if ahead is None:
            assert (last == 2_999).all()
        else:
            assert int((last - places).max()) == ahead

    def test_gradients_reach_every_weight(self, settings: Enhancement) -> None:
        network = settings.build(0)  # batch norm takes a bias in front of it out while it is trained
        network.loss(mixture(2_000)).backward()
        for name, weight in network.named_parameters():
            assert weight.grad is not None, name
            assert weight.grad.isfinite().all(), name
            assert weight.grad.any(), name

    def test_it_learns_one_batch_by_heart(self, settings: Enhancement) -> None:
        network, learned = settings.build(0).train(), mixture(1_000)
        optimizer = torch.optim.Adam(network.parameters(), 3e-3)
        losses = []
        with isolated(0, "dropout"):
            for _ in range(5):
                optimizer.zero_grad()
                loss = network.loss(learned)
                loss.backward()
                optimizer.step()
                losses.append(float(loss.detach()))
        assert losses[-1] < losses[0] - 0.05 * abs(losses[0])

    @torch.no_grad()
    def test_the_loss_compares_with_the_speech(self, settings: Enhancement) -> None:
        network, sounds = settings.build(0), mixture(3_000)
        swapped = Mixture(sounds.noise, sounds.speech)
        assert torch.equal(sounds.noisy, swapped.noisy)
        assert float(network.loss(sounds)) != pytest.approx(float(network.loss(swapped)), rel=1e-3)


def test_a_mixture_is_the_sum_of_its_sounds() -> None:
    speech, noise, music = (torch.full((1, 2), value) for value in (1.0, 10.0, 100.0))
    assert Mixture(speech, noise).noisy.tolist() == [[11, 11]]
    assert Mixture(speech, noise, music).noisy.tolist() == [[111, 111]]
