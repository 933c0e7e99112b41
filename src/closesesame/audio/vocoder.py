"""A phase vocoder: spectra that are read at other moments, with phases that keep turning as they should.

After Flanagan and Golden, "Phase Vocoder", 1966; phases advance as in Dolson, 1986; a magnitude finds phases
that fit it as in Griffin and Lim, IEEE TASSP 32(2), 1984. Windows are Hann, four to a frame.
"""

import math

import torch
from jaxtyping import Complex64, Float32, Float64
from torch import Tensor

from closesesame.core.types import Spectrum, Wave

Bins = Complex64[Tensor, "batch bin frame"]


def frame_size(sample_rate: int, seconds: float = 0.032) -> int:
    """Samples of a frame, a multiple of 4; 512 at 16 kHz."""
    return 4 * max(4, round(seconds * sample_rate / 4))


def analyse(wav: Wave, fft: int) -> Bins:
    """Clips (batch, time) to frames a quarter of `fft` apart, silence around them."""
    window = torch.hann_window(fft, device=wav.device)
    return torch.stft(wav, fft, fft // 4, window=window, pad_mode="constant", return_complex=True)


def synthesise(spectrum: Bins, fft: int, length: int) -> Wave:
    """The inverse of `analyse`, (batch, length)."""
    window = torch.hann_window(fft, device=spectrum.device)
    return torch.istft(spectrum, fft, fft // 4, window=window, length=length)


def read_at(
    spectrum: Bins, positions: Float64[Tensor, "#batch moment"]
) -> Complex64[Tensor, "batch bin moment"]:
    """Frames at fractional positions, (batch, bin, moment).

    Magnitudes lie between their neighbours'. From moment to moment each bin turns by what it turns in one
    frame at that position, so that pitch stays whatever the distance of the positions.
    """
    spectrum = torch.nn.functional.pad(spectrum, (0, 2))  # the last moment looks one frame ahead
    left = positions.clamp(0, spectrum.shape[-1] - 2).long()
    share = (positions - left).float()[:, None]
    now, following = (_frames(spectrum, index) for index in (left, left + 1))
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
    """Clips (batch, length) whose magnitudes come near the wanted ones, from phases to begin with."""
    wav = synthesise(torch.polar(magnitude, phase), fft, length)
    for _ in range(rounds):
        wav = synthesise(torch.polar(magnitude, analyse(wav, fft).angle()), fft, length)
    return wav


def _frames(spectrum: Tensor, index: Tensor) -> Bins:
    """Frames of (batch, bin, frame) by index (batch or 1, moment)."""
    if len(index) == 1:
        return spectrum[..., index[0]]
    return spectrum.gather(2, index[:, None].expand(-1, spectrum.shape[1], -1))
