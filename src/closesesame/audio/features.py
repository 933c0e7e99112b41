"""What spectral front ends are made of: the mel filters and the cosine transform.

Mel scale and filters after Slaney's "Auditory Toolbox", 1998, without area normalisation; the cosine
transform is the orthonormal DCT-II of Davis and Mermelstein, IEEE TASSP 28(4), 1980.
"""

import math

import torch
from jaxtyping import Float32
from torch import Tensor

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
