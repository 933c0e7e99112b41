"""A phase vocoder: reads the spectrum of a clip at other moments, and turns its phases accordingly.

After Flanagan and Golden, "Phase Vocoder", 1966; phases advance as in Dolson, 1986; phases that fit a
magnitude are found as by Griffin and Lim, IEEE TASSP 32(2), 1984. Each frame starts a quarter of its length
after the one before.
"""

import math

import torch
from jaxtyping import Complex64, Float32, Float64
from torch import Tensor

from closesesame.core.types import Spectrum, Wave

from .interpolation import neighbours
from .stft import Bins, istft, stft


def frame_size(sample_rate: int, seconds: float = 0.032) -> int:
    """Samples of a frame, a multiple of 4; 512 at 16 kHz."""
    return 4 * max(4, round(seconds * sample_rate / 4))


def analyse(wav: Wave, fft: int) -> Bins:
    """Clips (batch, time) as frames a quarter of `fft` apart, with silence around the clip."""
    return stft(wav, fft, fft // 4)


def synthesise(spectrum: Bins, fft: int, length: int) -> Wave:
    """The inverse of `analyse`, (batch, length)."""
    return istft(spectrum, fft, fft // 4, length)


def read_at(
    spectrum: Bins, positions: Float64[Tensor, "#batch moment"]
) -> Complex64[Tensor, "batch bin moment"]:
    """Frames at fractional positions, (batch, bin, moment).

    Magnitudes are interpolated. From one moment to the next the phase of a bin turns by as much as it turns
    in one frame at that position, so that the pitch stays whatever the distance of the positions.
    """
    spectrum = torch.nn.functional.pad(spectrum, (0, 2))  # the last moment looks one frame ahead
    now, following, share = neighbours(spectrum, positions[:, None])
    magnitude = (1 - share) * now.abs() + share * following.abs()
    # From frame to frame bin k turns by 2 pi k / 4; only what departs from that is wrapped to (-pi, pi].
    expected = math.pi / 2 * torch.arange(spectrum.shape[1], device=spectrum.device)[:, None]
    advance = following.angle() - now.angle() - expected
    advance = advance - 2 * math.pi * torch.round(advance / (2 * math.pi)) + expected
    return torch.polar(magnitude, running(spectrum[..., :1].angle(), advance))


def running(start: Float32[Tensor, "batch bin 1"], advance: Spectrum) -> Spectrum:
    """Phases that begin at `start` and turn by `advance` from each frame to the next."""
    return torch.cat([start, start + torch.cumsum(advance, -1)[..., :-1]], -1)


def fitting(magnitude: Spectrum, phase: Spectrum, fft: int, length: int, rounds: int) -> Wave:
    """Clips (batch, length) whose magnitudes come near the given ones, starting from these phases."""
    wav = synthesise(torch.polar(magnitude, phase), fft, length)
    for _ in range(rounds):
        wav = synthesise(torch.polar(magnitude, analyse(wav, fft).angle()), fft, length)
    return wav
