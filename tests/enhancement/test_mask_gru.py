"""MaskGRU: what its GRUs hear, what a gain does, and its loss, by hand."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from closesesame.enhancement import MaskGRU, Mixture
from tests.enhancement.patterns import chirps, hiss, patterned


def with_gains(gains: Tensor) -> Any:
    """A network whose gain of each bin is the same in all frames."""
    network: Any = MaskGRU(units=4).build(0)
    with torch.no_grad():
        network.end.weight.zero_()
        network.end.bias.copy_((gains / (1 - gains)).log())
    return network


def test_the_small_network_has_353_153_weights_and_they_fit_into_two_megabytes() -> None:
    weights = sum(weight.numel() for weight in MaskGRU.of_size("small").build(0).parameters())
    # 257 x 96 + 96; two layers of 2 x 3 GRU gates, with two biases each; 192 x 257 + 257.
    first, last = 257 * 96 + 96, 192 * 257 + 257
    grus = 2 * 3 * 96 * ((96 + 96 + 2) + (192 + 96 + 2))
    assert weights == first + grus + last == 353_153
    assert 4 * weights < 2_000_000
    assert MaskGRU().ahead_samples is None


def test_each_bin_has_its_own_gain() -> None:
    time = torch.arange(4096) / 16_000
    low, high = (0.1 * torch.sin(2 * math.pi * hertz * time)[None] for hertz in (1_000, 3_000))
    gains = torch.full((257,), 0.5)
    gains[64:] = 0.25  # bin 64 is at 2 kHz
    network, inner = with_gains(gains), slice(512, -512)
    with torch.no_grad():
        assert torch.allclose(network(low)[:, inner], 0.5 * low[:, inner], atol=1e-3)
        assert torch.allclose(network(high)[:, inner], 0.25 * high[:, inner], atol=1e-3)
        both = (0.5 * low + 0.25 * high)[:, inner]
        assert torch.allclose(network(low + high)[:, inner], both, atol=2e-3)


def test_it_starts_by_letting_most_pass() -> None:
    network: Any = MaskGRU().build(0)
    assert torch.equal(network.end.bias, torch.ones(257))


@pytest.mark.parametrize("loudness", [1.0, 0.01])
def test_the_grus_hear_logarithms_of_magnitudes_relative_to_the_level(loudness: float) -> None:
    network, wav = with_gains(torch.full((257,), 0.5)), loudness * chirps(4_000)
    heard: list[Tensor] = []
    network.start.register_forward_pre_hook(lambda _, inputs: heard.append(inputs[0]))
    network(wav)
    level = wav.square().mean(1).sqrt()
    spectrum = network.stft(wav).abs()
    expected = 0.3 * torch.log(spectrum / level[:, None, None] + 1e-6)
    assert heard[0].shape == (2, spectrum.shape[2], 257)
    assert torch.allclose(heard[0], expected.transpose(1, 2), atol=1e-3)


def test_a_louder_clip_gets_the_same_gains_and_silence_stays() -> None:
    network, wav = patterned(MaskGRU(units=8).build(0)), chirps(5_000)
    with torch.no_grad():
        assert torch.allclose(network(4 * wav), 4 * network(wav), atol=1e-4)
        assert not torch.allclose(network(wav), wav, atol=1e-2)
        assert float(network(torch.zeros(1, 5_000)).abs().max()) == 0


def test_gradients_of_silence_are_numbers() -> None:
    wav = torch.zeros(1, 2_000, requires_grad=True)
    (slope,) = torch.autograd.grad(MaskGRU(units=4).build(0)(wav).sum(), wav)
    assert slope.isfinite().all()


def test_the_loss_is_the_negative_snr_up_to_35_db() -> None:
    speech = chirps(8_192)
    silence = torch.zeros_like(speech)
    half = with_gains(torch.full((257,), 0.5))
    # Half of the speech is left, so what lacks is half of it: 20 log10(2).
    assert float(half.loss(Mixture(speech, silence)).detach()) == pytest.approx(-20 * math.log10(2), abs=1e-3)
    assert float(with_gains(torch.full((257,), 1 - 1e-6)).loss(Mixture(speech, silence)).detach()) == -35
    noise = hiss(8_192)
    heard = half(speech + noise).detach()
    by_hand = 10 * (speech.square().sum(1) / (heard - speech).square().sum(1)).log10()
    assert float(half.loss(Mixture(speech, noise)).detach()) == pytest.approx(
        -float(by_hand.mean()), abs=1e-3
    )
    assert float(by_hand[0]) != pytest.approx(float(by_hand[1]), abs=0.01)


def test_frames_are_those_that_the_shipped_weights_were_trained_with() -> None:
    network: Any = MaskGRU(units=4).build(0)
    assert torch.allclose(network.stft.window, torch.hann_window(512).sqrt())
    assert (network.stft.hop, network.stft.fft) == (256, 512)
