"""DCCRN: its maps, its masks by hand, and the numbers of the authors' code."""

import cmath
import math

import pytest
import torch
from torch import Tensor

from closesesame.enhancement import DCCRN, Mixture
from closesesame.enhancement.dccrn import _DCCRN, masked_by
from closesesame.enhancement.losses import si_snr
from tests.enhancement.patterns import chirps, hiss, patterned


def built(settings: DCCRN) -> _DCCRN:
    network = settings.build(0)
    assert isinstance(network, _DCCRN)
    return network


@torch.no_grad()
def test_maps_have_the_shapes_of_the_paper() -> None:
    network, seen = built(DCCRN.of_size("paper_cl")), list[tuple[int, ...]]()
    for layer in (*network.encoder, network.recurrent, *network.decoder):
        layer.register_forward_hook(lambda _layer, _inputs, made: seen.append(tuple(made.shape[1:])))
    network(hiss(16_000, 1))
    down = [(32, 128), (64, 64), (128, 32), (256, 16), (256, 8), (256, 4)]
    up = [(256, 8), (256, 16), (128, 32), (64, 64), (32, 128), (2, 256)]
    assert seen == [(*shape, 163) for shape in (*down, (256, 4), *up)]


def test_masks_by_hand() -> None:
    spectrum, mask = (torch.tensor([value])[None, None] for value in (3 + 4j, 1.2 + 1.6j))
    product = (3 + 4j) * (1.2 + 1.6j)
    wanted = {
        "E": cmath.rect(5 * math.tanh(2), cmath.phase(product)),
        "C": product,
        "R": complex(3 * 1.2, 4 * 1.6),
    }
    for mode, value in wanted.items():
        assert complex(masked_by(mode, spectrum, mask)) == pytest.approx(value, abs=1e-5)


def test_a_mask_of_nothing_takes_all_and_can_still_be_learned() -> None:
    mask = torch.zeros(1, 1, 1, dtype=torch.complex64, requires_grad=True)
    masked = masked_by("E", torch.full((1, 1, 1), 2 + 0j), mask)
    (slope,) = torch.autograd.grad(masked.real.sum(), mask)
    assert complex(masked.detach()) == 0
    assert complex(slope) == pytest.approx(2)


@torch.no_grad()
def test_the_mean_of_a_frame_is_neither_looked_at_nor_kept() -> None:
    network, wav = patterned(built(DCCRN(channels=(4, 8), units=8))), chirps(1_000)
    assert isinstance(network, _DCCRN)
    spectrum = network.stft(wav)
    mask = network.mask_of(spectrum)
    assert mask.shape == spectrum.shape
    assert not mask[:, 0].any()
    assert mask[:, 1:].all()
    spectrum[:, 0] += 5
    assert torch.equal(network.mask_of(spectrum), mask)
    spectrum[:, 256] += 5
    assert not torch.allclose(network.mask_of(spectrum), mask)


@torch.no_grad()
def test_the_loss_is_the_negative_scale_invariant_ratio() -> None:
    network, speech, noise = built(DCCRN(channels=(4, 8), units=8)), chirps(1_000), hiss(1_000)
    wanted = -si_snr(network(speech + noise), speech).mean()
    assert float(network.loss(Mixture(speech, noise))) == pytest.approx(float(wanted))


AUTHORS = {
    ("paper", "E"): [0.0129043, 0.002553, 0.0043948, 0.0008295, -0.0432628, -0.0134285],
    ("paper", "C"): [0.0203904, 0.0040341, 0.0149425, 0.0028204, -0.0644529, -0.0200057],
    ("paper", "R"): [0.0083166, -0.0120738, 0.0076054, -0.007337, -0.02409, 0.0403628],
    ("paper_cl", "E"): [0.0083753, -0.0122671, 0.0010726, -0.004352, -0.0484898, 0.0167791],
}
"""Real and imaginary part of the masked spectrum at three places, from the authors' code."""


@torch.no_grad()
@pytest.mark.parametrize(("size", "mode"), AUTHORS)
def test_the_masked_spectrum_is_that_of_the_authors_code(size: str, mode: str) -> None:
    settings = DCCRN.of_size(size).model_copy(update={"mask": mode})
    network = patterned(built(settings))
    assert isinstance(network, _DCCRN)
    spectrum = network.stft(chirps(2_000))
    made: Tensor = masked_by(mode, spectrum, network.mask_of(spectrum))
    places = torch.stack([made[0, 20, 3], made[1, 41, 10], made[1, 200, 22]])
    assert torch.view_as_real(places).flatten().tolist() == pytest.approx(AUTHORS[size, mode], rel=2e-3)
