"""GTCRN: its filter bank and its grouped blocks by hand, and the numbers of the authors' code."""

import pytest
import torch

from closesesame.enhancement import GTCRN, Mixture
from closesesame.enhancement.gtcrn import _GTCRN, _Grouped, _TemporalAttention, erb_bank, with_neighbours
from closesesame.enhancement.losses import si_snr
from tests.enhancement.patterns import chirps, hiss, patterned


@pytest.fixture
def network() -> _GTCRN:
    made = GTCRN().build(0)
    assert isinstance(made, _GTCRN)
    return made


def test_with_both_fixed_matrices_there_are_as_many_numbers_as_the_authors_count(network: _GTCRN) -> None:
    learned = sum(weight.numel() for weight in network.parameters())
    assert learned + 2 * network.bank.numel() == 48_245
    assert "bank" not in network.state_dict()


def test_the_filter_bank_by_hand() -> None:
    bank = erb_bank()
    assert bank.shape == (64, 192)
    assert torch.allclose(bank.sum(0), torch.ones(192), atol=1e-6)
    # 2,031.25 Hz is at 21.4 log10(9.8766) = 21.2845 on the ERB scale, 8,000 Hz at 33.2951. Two sixty-thirds
    # of the way up are 2,126 Hz, bin 68.0; sixty-two are 7,833 Hz, bin 250.7.
    peaks = [65 + int(row.argmax()) for row in bank]
    assert (peaks[0], peaks[2], peaks[62], peaks[63]) == (65, 68, 251, 256)
    assert bank[63, 251 - 65 :].tolist() == pytest.approx([step / 5 for step in range(6)])
    assert bank[62, 251 - 65 :].tolist() == pytest.approx([1 - step / 5 for step in range(6)])
    assert not bank[61, 251 - 65 :].any()


def test_low_bins_are_bands_of_their_own(network: _GTCRN) -> None:
    bins = hiss(257).view(2, 1, 1, 257)
    bands = network.to_bands(bins)
    assert bands.shape == (2, 1, 1, 129)
    assert torch.equal(bands[..., :65], bins[..., :65])
    assert torch.allclose(bands[..., 128], bins[..., 65:] @ network.bank[63])
    again = network.to_bins(bands)
    assert torch.equal(again[..., :65], bins[..., :65])
    assert torch.allclose(again[..., 256], bands[..., 128])


def test_bands_beside_a_band_become_channels() -> None:
    x = torch.tensor([[[[1.0, 2, 3]], [[4, 5, 6]]]])
    wanted = [[0, 1, 2], [1, 2, 3], [2, 3, 0], [0, 4, 5], [4, 5, 6], [5, 6, 0]]
    assert with_neighbours(x)[0, :, 0].tolist() == wanted


def test_maps_have_the_shapes_of_the_paper(network: _GTCRN) -> None:
    seen = list[tuple[int, ...]]()
    for layer in (*network.encoder, *network.recurrent, *network.decoder):
        layer.register_forward_hook(lambda _layer, _inputs, made: seen.append(tuple(made.shape[1:])))
    network(hiss(15_872, 1))
    channels_and_bands = [(16, 65), *[(16, 33)] * 9, (16, 65), (2, 129)]
    assert seen == [(channels, 63, bands) for channels, bands in channels_and_bands]
    pasts = [layer.past for layer in (*network.encoder, *network.decoder) if isinstance(layer, _Grouped)]
    assert pasts == [2, 4, 10, 10, 4, 2]


@torch.no_grad()
def test_half_of_the_channels_pass_a_block_and_are_shuffled() -> None:
    block, x = _Grouped(2).eval(), hiss(16 * 9 * 33).view(2, 16, 9, 33)
    made = block(x)
    assert torch.equal(made[:, 1::2], x[:, 8:])
    other = x.clone()
    other[:, 8:] += 1
    assert torch.equal(block(other)[:, 0::2], made[:, 0::2])


@torch.no_grad()
def test_a_block_looks_at_frames_that_lie_its_dilation_apart() -> None:
    block, x = _Grouped(5).eval(), hiss(16 * 14 * 33, 1).view(1, 16, 14, 33)
    changed = x.clone()
    changed[:, :, 2] += 1

    def convolved(maps: torch.Tensor) -> torch.Tensor:
        padded = torch.nn.functional.pad(block.widen(with_neighbours(maps[:, :8])), (0, 0, block.past, 0))
        made: torch.Tensor = block.depthwise(padded)
        return made

    gap = (convolved(x) - convolved(changed)).abs().amax((0, 1, 3))
    assert gap.nonzero().flatten().tolist() == [2, 7, 12]


@torch.no_grad()
def test_a_channel_is_weighed_by_the_energies_up_to_a_frame() -> None:
    attention, x = _TemporalAttention(4), hiss(4 * 6 * 33).view(2, 4, 6, 33)
    states, _ = attention.gru((x**2).mean(3).transpose(1, 2))
    factors = torch.sigmoid(attention.project(states)).transpose(1, 2)
    assert torch.allclose(attention(x), x * factors[..., None], atol=1e-6)
    assert torch.allclose(attention(-x), -attention(x), atol=1e-6)


@torch.no_grad()
def test_the_loss_by_hand(network: _GTCRN, monkeypatch: pytest.MonkeyPatch) -> None:
    speech, noise = chirps(2_560), hiss(2_560)
    spectrum = network.stft(speech)
    size = float(spectrum.abs().pow(0.6).mean())  # compressed by 0.3, then squared
    for gain, factor in ((-1.0, 30 * 4.0), (2.0, (30 + 70) * (2**0.3 - 1) ** 2)):
        monkeypatch.setattr(network, "enhanced", lambda _, gain=gain: gain * spectrum)
        ratio = si_snr(network.stft.inverse(gain * spectrum, 2_560), speech).mean() / 10
        wanted = factor * size - float(ratio)
        assert float(network.loss(Mixture(speech, noise))) == pytest.approx(wanted, rel=1e-3)


AUTHORS = [0.9400829, -0.1240964, -1.8022566, 4.5522165, 0.0476514, 0.0290852]
"""Real and imaginary part of the spectrum at three places, from the authors' code."""


@torch.no_grad()
def test_the_spectrum_is_that_of_the_authors_code(network: _GTCRN) -> None:
    made = patterned(network)
    assert isinstance(made, _GTCRN)
    spectrum = made.enhanced(made.stft(chirps(4_096)))
    places = torch.stack([spectrum[0, 12, 3], spectrum[1, 41, 10], spectrum[1, 200, 16]])
    assert torch.view_as_real(places).flatten().tolist() == pytest.approx(AUTHORS, rel=2e-3)
