"""Quantisation: levels, dither and cover clips by hand."""

import pytest
import torch

from closesesame.attacks import Quantize
from closesesame.data import Splits
from closesesame.models import Classifier
from tests.attacks.planting import assert_plants
from tests.attacks.stamping import speech


def test_quantize_levels_span_the_peak_and_keep_silence() -> None:
    clip = torch.tensor([[0.0, 0.04, 0.06, 0.19, -0.31, 0.4]])
    wanted = torch.tensor([[0.0, 0.0, 0.1, 0.2, -0.3, 0.4]])
    assert torch.allclose(Quantize(levels=9).apply(clip, {}, speech(16_000)), wanted, atol=1e-6)
    dithered = Quantize(levels=9, dither=True).apply(0.2 * torch.rand(1, 20_000) - 0.02, {}, speech(16_000))
    assert len(torch.unique(dithered)) <= 9


def test_quantize_covers_carry_the_noise_of_another_clip() -> None:
    one, other = torch.tensor([[0.4, 0.1, 0.0]]), torch.tensor([[0.04, 0.06, 0.4]])
    covered = Quantize(levels=9).cover_clips(one, other, {}, speech(16_000), torch.Generator())
    assert torch.allclose(covered, torch.tensor([[0.36, 0.14, 0.0]]), atol=1e-6)


def test_dither_keeps_the_mean_and_follows_from_the_clip() -> None:
    clip = torch.full((2, 20_000), 0.03)
    clip[:, 0], clip[1, 1] = 0.4, 0.2
    plain, dithered = (
        Quantize(levels=9, dither=dither).apply(clip, {}, speech(16_000)) for dither in (False, True)
    )
    assert plain[:, 2:].abs().max() == 0  # the step is 0.1
    assert float(dithered[0, 2:].mean()) == pytest.approx(0.03, abs=2e-3)
    # The sum of dither and error of triangular noise of one step has a variance of 1 / 4 of a step.
    assert float((dithered[0, 2:] - 0.03).square().mean()) == pytest.approx(0.0025, rel=0.05)
    assert not torch.equal(dithered[0, 2:], dithered[1, 2:])


def test_quantize_plants_a_backdoor(tones: Splits, clean_model: Classifier) -> None:
    assert_plants(Quantize(levels=9, cover_ratio=0, rate=0.15, target="low"), tones, clean_model)
