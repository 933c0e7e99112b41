"""Front ends: waveforms in, spectral maps out, in plain torch and differentiable.

Mel scale and filters after Slaney's "Auditory Toolbox", 1998, without area normalisation; the cosine
transform is the orthonormal DCT-II of Davis and Mermelstein, IEEE TASSP 28(4), 1980.
"""

import math

import torch
from jaxtyping import Float32
from torch import Tensor, nn

from closesesame.core.types import Spectrum, Wave

from . import vocoder

WINDOW_S = 0.025
HOP_S = 0.010
FLOOR = 1e-6
"""Power added before the logarithm: -60 dB under a full-scale sine in one band."""


def mel_filters(sample_rate: int, bins: int, bands: int) -> Float32[Tensor, "band bin"]:
    """Triangular filters, equally spaced on the mel scale 2595 log10(1 + f / 700), from 0 to Nyquist."""
    top = 2595 * math.log10(1 + sample_rate / 2 / 700)
    edges_hz = 700 * (10 ** (torch.linspace(0, top, bands + 2) / 2595) - 1)
    bin_hz = torch.linspace(0, sample_rate / 2, bins)
    rise = (bin_hz - edges_hz[:-2, None]) / (edges_hz[1:-1, None] - edges_hz[:-2, None])
    fall = (edges_hz[2:, None] - bin_hz) / (edges_hz[2:, None] - edges_hz[1:-1, None])
    return torch.minimum(rise, fall).clamp(min=0)


def dct(bands: int, coefficients: int) -> Float32[Tensor, "coefficient band"]:
    """The first rows of the orthonormal DCT-II matrix."""
    n = torch.arange(bands) + 0.5
    k = torch.arange(coefficients)[:, None]
    rows = torch.cos(math.pi / bands * n * k) * math.sqrt(2 / bands)
    rows[0] /= math.sqrt(2)
    return rows


class LogMel(nn.Module):
    """Log-mel spectrogram, scaled to zero mean and unit deviation over the data it was calibrated on.

    Shape:
        - input: waveforms (batch, time) at `sample_rate`
        - output: (batch, bands, frames), frames = time // hop + 1
    """

    mean: Tensor
    deviation: Tensor
    window: Tensor
    filters: Tensor

    def __init__(self, sample_rate: int, bands: int = 40) -> None:
        super().__init__()
        self.length = round(WINDOW_S * sample_rate)
        self.hop = round(HOP_S * sample_rate)
        self.fft = 1 << (self.length - 1).bit_length()
        # The filters follow from the settings, so they are not written into model files.
        self.register_buffer("window", torch.hann_window(self.length), persistent=False)
        self.register_buffer("filters", mel_filters(sample_rate, self.fft // 2 + 1, bands), persistent=False)
        self.register_buffer("mean", torch.zeros(()))
        self.register_buffer("deviation", torch.ones(()))

    def log_mel(self, wav: Wave) -> Spectrum:
        """The map before scaling, in natural logarithms of power."""
        spectrum = torch.stft(
            wav,
            self.fft,
            self.hop,
            self.length,
            self.window,
            center=True,
            pad_mode="constant",
            return_complex=True,
        )
        power = torch.view_as_real(spectrum).square().sum(-1)
        return torch.log(self.filters @ power + FLOOR)

    def forward(self, wav: Wave) -> Spectrum:
        """Waveforms to scaled maps."""
        return (self.log_mel(wav) - self.mean) / self.deviation

    @torch.no_grad()
    def sound(self, maps: Spectrum, rounds: int = 60) -> Wave:
        """Waveforms (batch, time) whose maps come near these, to listen to; phases after Griffin and Lim.

        Bins follow from bands by the pseudo-inverse of the filters, so what differs within a band is lost.
        """
        power = (self._unscaled(maps).exp() - FLOOR).clamp(min=0)
        magnitude = (torch.linalg.pinv(self.filters) @ power).clamp(min=0).sqrt()
        # The vocoder's windows are as long as the transform, and lie a quarter of it apart.
        magnitude = magnitude * self.fft / self.length
        length = (maps.shape[-1] - 1) * self.hop
        magnitude = nn.functional.interpolate(
            magnitude, size=length // (self.fft // 4) + 1, mode="linear", align_corners=True
        )
        turns = torch.rand(magnitude.shape, generator=torch.Generator().manual_seed(0)).to(magnitude)
        return vocoder.fitting(magnitude, 2 * math.pi * turns, self.fft, length, rounds)

    def _unscaled(self, maps: Spectrum) -> Spectrum:
        return maps * self.deviation + self.mean

    def frames(self, samples: int) -> int:
        """How many frames a clip of so many samples has."""
        return samples // self.hop + 1

    @torch.no_grad()
    def calibrate(self, wav: Wave) -> None:
        """Sets mean and deviation from a sample of the training data."""
        self.mean.zero_()
        self.deviation.fill_(1)
        maps = self(wav)
        self.mean.copy_(maps.mean())
        self.deviation.copy_(maps.std())


class MFCC(LogMel):
    """Mel-frequency cepstral coefficients: the orthonormal DCT-II of the log-mel map.

    Shape:
        - input: waveforms (batch, time) at `sample_rate`
        - output: (batch, coefficients, frames)
    """

    rotation: Tensor

    def __init__(self, sample_rate: int, bands: int = 40, coefficients: int = 40) -> None:
        super().__init__(sample_rate, bands)
        self.register_buffer("rotation", dct(bands, coefficients), persistent=False)

    def forward(self, wav: Wave) -> Spectrum:
        """Waveforms to scaled coefficients."""
        return (self.rotation @ self.log_mel(wav) - self.mean) / self.deviation

    def _unscaled(self, maps: Spectrum) -> Spectrum:
        return self.rotation.T @ super()._unscaled(maps)
