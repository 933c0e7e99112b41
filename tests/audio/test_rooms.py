"""Rooms: decay and convolution."""

import pytest
import torch

from closesesame.audio import rooms
from tests.sounds import db, rms


def test_noise_dies_away_by_a_thousand_and_a_convolution_does_not_wrap() -> None:
    decay = rooms.decaying_noise(1.0, 10_000, torch.Generator().manual_seed(0))
    assert len(decay) == 10_000
    assert db(rms(decay[:500]) / rms(decay[5000:5500])) == pytest.approx(30, abs=1)
    click = torch.zeros(1, 16)
    click[0, 13] = 1
    echo = torch.tensor([1.0, 0, 0.5, 0, 0.25])
    wanted = torch.tensor([0.0] * 13 + [1, 0, 0.5])
    assert torch.allclose(rooms.convolve(click, echo)[0], wanted, atol=1e-6)
