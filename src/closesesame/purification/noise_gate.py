"""Spectral gating: a bin of the spectrum is let through where it is louder than the clip's own noise.

Sainburg and Zorea, "Noisereduce: Domain General Noise Reduction for Time Series Signals", arXiv:2412.17851,
its stationary form, which their TorchGate computes. X is the short-time spectrum in dB, where nothing counts
as more than 40 dB below the loudest frame of its bin; m(f) and s(f) are the mean and the standard deviation
of X over noise. The gate of bin f at time t is open if X(f, t) > m(f) + 1.5 s(f). The gates, 0 or 1, are
smoothed by triangles over frequency and time, and weigh the spectrum. The triangles are as wide as those of
their code at 16 kHz.

Ours differs: where there is no recording of noise alone, theirs takes the whole clip for noise, which shuts
out a word that fills half of it. Here the quietest frames are noise; frames of digital silence, with which
clips are padded, do not count. What is steady, a hiss or a tone, is noise, however loud it is.
"""

from typing import ClassVar

import torch
from jaxtyping import Float32
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from closesesame.audio import vocoder
from closesesame.core.types import Spectrum, Wave

from .base import Purification
from .common.waveforms import rate_of_waveforms

RANGE_DB = 40.0
SILENT = 1e-8
"""Energy of a frame of silence, as a share of that of the loudest frame."""


class NoiseGate(Purification):
    """Let only what is louder than a clip's own noise through, bin by bin of the spectrum."""

    name: ClassVar[str] = "noise_gate"
    cite: ClassVar[str] = "arXiv:2412.17851"
    data_free: ClassVar[bool] = True

    deviations: float = Field(
        1.5, ge=0, le=100, description="standard deviations of the noise in dB, by which sound must exceed it"
    )
    quietest: float = Field(
        0.25, gt=0, le=1, description="share of the frames that are noise; 1 takes all, as the authors do"
    )
    reduction: float = Field(1.0, ge=0, le=1, description="how much of what is shut out is taken away")
    window_s: float = Field(0.064, ge=0.004, le=0.256, description="length of a frame in s")
    smooth_hz: float = Field(
        500.0, ge=0, le=8000, description="width of the triangle over frequency, in Hz; 0 does not smooth"
    )
    smooth_s: float = Field(
        0.1, ge=0, le=1, description="width of the triangle over time, in s; 0 does not smooth"
    )

    def network(self, sample_rate: int | None, input_shape: tuple[int, ...]) -> nn.Module:
        """A gate without weights to learn.

        Raises:
            ModelError: if the inputs are no waveforms.
        """
        rate = rate_of_waveforms(self.name, sample_rate, input_shape)
        fft = vocoder.frame_size(rate, self.window_s)
        over_bins = triangle(self.smooth_hz * fft / rate)
        over_frames = triangle(self.smooth_s * rate / (fft // 4))
        return _Gate(self, fft, over_bins, over_frames)


class _Gate(nn.Module):
    over_bins: Tensor
    over_frames: Tensor

    def __init__(self, method: NoiseGate, fft: int, over_bins: Tensor, over_frames: Tensor) -> None:
        super().__init__()
        self.method, self.fft = method, fft
        # They follow from the settings, so they are not written into files.
        self.register_buffer("over_bins", over_bins, persistent=False)
        self.register_buffer("over_frames", over_frames, persistent=False)

    def forward(self, wav: Wave) -> Wave:
        spectrum = vocoder.analyse(wav, self.fft)
        with torch.no_grad():
            level = in_db(spectrum.abs())
            mean, deviation = over_noise(level, quiet_frames(spectrum.abs(), self.method.quietest))
            opened = (level > mean + self.method.deviations * deviation).float()
            smooth = smoothed(opened, self.over_bins, self.over_frames)
            gain = 1 - self.method.reduction * (1 - smooth)
        return vocoder.synthesise(spectrum * gain, self.fft, wav.shape[-1])


def triangle(width: float) -> Float32[Tensor, " tap"]:
    """Weights that fall from the middle, and reach 0 half of the width away from it; they sum to 1."""
    half = max(1.0, width / 2)
    reach = int(half)
    weights = 1 - torch.arange(-reach, reach + 1).abs() / half
    return weights / weights.sum()


def in_db(magnitude: Spectrum) -> Spectrum:
    """Levels, none of them more than `RANGE_DB` below the highest of its bin."""
    level = 20 * magnitude.clamp(min=1e-8).log10()
    return torch.maximum(level, level.amax(-1, keepdim=True) - RANGE_DB)


def quiet_frames(magnitude: Spectrum, share: float) -> Float32[Tensor, "batch 1 frame"]:
    """1 for the quietest frames of each clip, 0 for the others and for silence."""
    energy = magnitude.square().sum(1)
    silent = energy <= SILENT * energy.amax(-1, keepdim=True)
    limit = energy.masked_fill(silent, torch.nan).nanquantile(share, -1, keepdim=True)
    return ((energy <= limit) & ~silent).float()[:, None]


def over_noise(
    level: Spectrum, noise: Float32[Tensor, "batch 1 frame"]
) -> tuple[Float32[Tensor, "batch bin 1"], Float32[Tensor, "batch bin 1"]]:
    """Mean and standard deviation of each bin over the frames that are noise."""
    frames = noise.sum(-1, keepdim=True).clamp(min=1)
    mean = (level * noise).sum(-1, keepdim=True) / frames
    deviation = (((level - mean) * noise).square().sum(-1, keepdim=True) / frames).sqrt()
    return mean, deviation


def smoothed(
    gates: Spectrum, over_bins: Float32[Tensor, " bins"], over_frames: Float32[Tensor, " frames"]
) -> Spectrum:
    """Weighted means of the gates around each; where the map ends, of those that are there."""

    def mean(maps: Tensor) -> Tensor:
        maps = F.conv2d(maps, over_bins[None, None, :, None], padding="same")
        return F.conv2d(maps, over_frames[None, None, None], padding="same")

    maps = gates[:, None]
    weighed: Spectrum = (mean(maps) / mean(torch.ones_like(maps[:1])))[:, 0]
    return weighed
