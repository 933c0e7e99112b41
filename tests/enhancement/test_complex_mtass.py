"""ComplexMTASS: its sub-bands, its tracks, its loss by hand, and the numbers of the authors' code."""

import pytest
import torch
from torch import nn

from closesesame.enhancement import ComplexMTASS, Mixture
from closesesame.enhancement.complex_mtass import _ComplexMTASS, _Gated, _MultiScale
from tests.enhancement.patterns import chirps, hiss, patterned

TINY = ComplexMTASS(width=16, repeats=1, repair_width=8, repair_hidden=4, repair_repeats=2, repair_blocks=3)


def built(settings: ComplexMTASS) -> _ComplexMTASS:
    network = patterned(settings.build(0))
    assert isinstance(network, _ComplexMTASS)
    return network


def test_blocks_are_as_many_and_as_large_as_the_authors_count() -> None:
    network = ComplexMTASS.of_size("paper").build(0)
    assert isinstance(network, _ComplexMTASS)

    def size(module: nn.Module) -> int:
        return sum(weight.numel() for weight in module.parameters())

    assert [size(block) for block in network.blocks] == [1_170_867] * 15
    assert [size(repair) for repair in network.repairs] == [2_567_938] * 3
    dilations = [
        [conv.dilation[0] for conv in part.modules() if isinstance(conv, nn.Conv1d) and conv.dilation != (1,)]
        for part in (network.blocks, network.repairs[0])
    ]
    # Eight sub-bands, upwards and downwards; a signal and a gate.
    assert dilations[0] == [size for size in (3, 5, 7, 11) for _ in range(16)] * 3
    assert dilations[1] == [size for size in (2, 4, 8, 16, 32, 64, 128) for _ in range(2)] * 5
    assert {module.p for module in network.modules() if isinstance(module, nn.Dropout)} == {0.2}


@torch.no_grad()
def test_spectra_have_the_shapes_of_the_paper() -> None:
    network = built(TINY)
    parts = network.to_parts(hiss(15_872, 1)[:, None])
    assert parts.shape == (1, 1, 514, 63)
    assert network.spectra(parts[:, 0]).shape == (1, 3, 514, 63)
    assert network.separate(hiss(1_000)).shape == (2, 3, 1_000)


@torch.no_grad()
def test_a_sub_band_hears_those_below_on_the_way_up_and_those_above_on_the_way_down() -> None:
    block = _MultiScale(16, 1).eval()
    bands = hiss(514 * 5, 1).view(1, 514, 5).split((64, 64, 64, 65, 64, 64, 64, 65), 1)
    changed = [band + (number == 3) for number, band in enumerate(bands)]

    def moved(one: list[torch.Tensor], other: list[torch.Tensor]) -> list[int]:
        return [number for number, (a, b) in enumerate(zip(one, other, strict=True)) if not torch.equal(a, b)]

    assert moved(block.upwards(bands), block.upwards(tuple(changed))) == [3, 4, 5, 6, 7]
    down = [block.downwards(tuple(parts)[::-1])[::-1] for parts in (bands, changed)]
    assert moved(down[0], down[1]) == [0, 1, 2, 3]
    assert [len(band[0]) for band in down[0]] == [64, 64, 64, 65, 64, 64, 64, 65]


@torch.no_grad()
def test_masks_act_on_each_part_and_repairs_on_what_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    network = built(TINY)
    mixed = network.to_parts(hiss(2_000)[:, None])[:, 0]
    for track, (mask, repair) in enumerate(zip(network.masks, network.repairs, strict=True)):
        assert isinstance(mask, nn.Conv1d)
        assert mask.bias is not None
        mask.weight.zero_()
        mask.bias.copy_(torch.linspace(0, 1, 514) + track)
        monkeypatch.setattr(repair, "forward", lambda left: 10 * left)
    factor = torch.linspace(0, 1, 514)[:, None]
    for track in range(3):
        masked = (factor + track) * mixed
        wanted = masked + 10 * (mixed - masked)
        assert torch.allclose(network.spectra(mixed)[:, track], wanted, atol=1e-4)


@torch.no_grad()
def test_speech_is_what_is_given() -> None:
    network, wav = built(TINY), chirps(1_500)
    assert torch.equal(network(wav), network.separate(wav)[:, 0])


@torch.no_grad()
def test_frames_are_added_up_without_another_window() -> None:
    stft = built(TINY).stft
    spectrum = stft(torch.ones(1, 2_560))
    spectrum[..., 5] = 0  # samples 1,024 to 1,535
    left = stft.inverse(spectrum, 2_560)[0, 1_024:1_536]
    assert left.tolist() == pytest.approx((1 - torch.hamming_window(512) / 1.08).tolist(), abs=1e-5)


@torch.no_grad()
def test_a_gate_lets_a_share_through() -> None:
    block, x = _Gated(2, 2, 1).eval(), hiss(2 * 6).view(2, 2, 3, 2)[..., 0]
    wanted = x + block.widen(block.signal(block.narrow(x)) * torch.sigmoid(block.gate(block.narrow(x))))
    assert torch.allclose(block(x), wanted)


@torch.no_grad()
def test_the_loss_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    network = built(TINY)
    speech, noise, music = chirps(2_560), hiss(2_560), 2 * hiss(2_560, seed=1)
    tracks = torch.stack([speech, noise, music], 1)
    gains = torch.tensor([1.1, 0.9, 1.5])[:, None, None]
    monkeypatch.setattr(network, "spectra", lambda _: gains * network.to_parts(tracks))
    power = network.to_parts(tracks).square().mean((0, 2, 3))
    error = float(0.01 * power[0] + 0.01 * power[1] + 0.25 * power[2])
    wanted = error - 0.01 * (20 + 20 + 6.0206)
    assert float(network.loss(Mixture(speech, noise, music))) == pytest.approx(wanted, rel=1e-3)


@torch.no_grad()
def test_without_music_it_must_be_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    network, speech, noise = built(TINY), chirps(2_560), hiss(2_560)
    silence = torch.zeros_like(speech)
    assert float(network.loss(Mixture(speech, noise))) == float(network.loss(Mixture(speech, noise, silence)))


AUTHORS = [-8.288655, -4.251077, -6.436103, -6.514493, 0.636349, -3.148291]
"""Speech, noise and music at two places each, from the authors' code."""


@torch.no_grad()
def test_the_spectra_are_those_of_the_authors_code() -> None:
    network = built(ComplexMTASS.of_size("paper"))
    made = network.spectra(network.to_parts(chirps(4_096)[:, None])[:, 0])
    assert made[1, :, [20, 300], [3, 10]].flatten().tolist() == pytest.approx(AUTHORS, rel=2e-3)
