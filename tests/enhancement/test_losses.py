"""Ratios and distances by hand."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from closesesame.enhancement.losses import compressed_distance, si_snr, snr


def test_the_ratio_of_signal_and_noise_by_hand() -> None:
    target = torch.tensor([[3.0, 4.0], [1.0, 0.0]])
    estimate = torch.tensor([[3.0, 5.0], [0.0, 0.0]])
    # 25 to 1, and 1 to 1.
    assert snr(estimate, target).tolist() == pytest.approx([10 * math.log10(25), 0], abs=1e-5)


def test_the_scale_invariant_ratio_by_hand() -> None:
    target, estimate = torch.tensor([[1.0, 0.0, 2.0]]), torch.tensor([[2.0, 3.0, 2.0]])
    # Share (2 + 4) / 5 = 1.2, so 1.2 * 1.2 * 5 = 7.2 of the signal, and 17 - 7.2 = 9.8 of noise.
    assert float(si_snr(estimate, target)) == pytest.approx(10 * math.log10(7.2 / 9.8), abs=1e-5)
    # Means are not taken out: with them it would be the same for an estimate that is shifted.
    assert float(si_snr(estimate + 1, target)) != pytest.approx(float(si_snr(estimate, target)), abs=0.1)


def test_no_gain_changes_the_scale_invariant_ratio() -> None:
    target, estimate = torch.tensor([[1.0, 0.0, 2.0]]), torch.tensor([[2.0, 3.0, 2.0]])
    once = float(si_snr(estimate, target))
    for gain in (0.1, 7.0, -1.0):
        assert float(si_snr(gain * estimate, target)) == pytest.approx(once, abs=1e-4)
    assert float(snr(0.1 * estimate, target)) != pytest.approx(float(snr(estimate, target)), abs=0.1)


@pytest.mark.parametrize("ratio", [snr, si_snr])
@pytest.mark.parametrize(("target", "estimate"), [(0.0, 1.0), (0.0, 0.0), (1.0, 0.0)])
def test_silence_has_a_finite_ratio_and_slope(
    ratio: Callable[[Tensor, Tensor], Tensor], target: float, estimate: float
) -> None:
    guess = torch.full((1, 4), estimate, requires_grad=True)
    measured = ratio(guess, torch.full((1, 4), target))
    (slope,) = torch.autograd.grad(measured.sum(), guess)
    assert slope.isfinite().all()
    assert measured.isfinite().all()
    if not target:
        assert measured.tolist() == pytest.approx([-80])


def test_compressed_distances_by_hand() -> None:
    estimate = torch.tensor([8, -1, 1j, 0], dtype=torch.complex64).view(1, 2, 2)
    target = torch.tensor([1j, 1, 1j, 0], dtype=torch.complex64).view(1, 2, 2)
    # By the power of 1/3, 8 is 2: real parts are off by 2 and -2, imaginary parts by -1; magnitudes by 1.
    parts, magnitudes = compressed_distance(estimate, target, 1 / 3)
    assert float(parts) == pytest.approx((4 + 4 + 1) / 4, abs=1e-3)
    assert float(magnitudes) == pytest.approx(1 / 4, abs=1e-3)


def test_compressed_distances_of_silence_have_a_slope() -> None:
    guess = torch.zeros(1, 2, 2, dtype=torch.complex64, requires_grad=True)
    parts, magnitudes = compressed_distance(guess, torch.ones_like(guess), 0.3)
    (slope,) = torch.autograd.grad(parts + magnitudes, guess)
    assert torch.view_as_real(slope).isfinite().all()
