"""The short-time Fourier transform."""

import pytest
import torch

from closesesame.audio.stft import istft, stft
from tests.sounds import noise


@pytest.mark.parametrize("hop", [64, 128])
def test_the_inverse_gives_the_clip_back(hop: int) -> None:
    clips = noise(2, 1000)
    spectrum = stft(clips, 256, hop)
    assert spectrum.shape == (2, 129, 1000 // hop + 1)
    assert torch.allclose(istft(spectrum, 256, hop, 1000), clips, atol=1e-6)


def test_there_is_silence_around_the_clip() -> None:
    clip = torch.ones(1, 1024)
    level = stft(clip, 256, 128).abs()[0, 0]
    # The windows at both ends lie half outside of the clip.
    assert level.tolist() == pytest.approx([64, *[128] * 7, 64], rel=0.02)
