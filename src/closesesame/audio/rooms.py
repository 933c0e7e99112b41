"""Rooms as impulse responses, measured or synthetic (decaying noise), and convolution with them."""

import math

import torch
from jaxtyping import Float32
from torch import Generator, Tensor

from closesesame.core.types import Wave

from .effects import amplitude_ratio

Response = Float32[Tensor, " tap"]


def decaying_noise(rt60_s: float, sample_rate: int, rng: Generator) -> Response:
    """White noise that falls by 60 dB, a thousandth in amplitude, in `rt60_s`, and ends there."""
    taps = max(1, round(rt60_s * sample_rate))
    fall = torch.exp(-math.log(1000) / taps * torch.arange(taps))
    return torch.randn(taps, generator=rng) * fall


def synthetic_room(rt60_s: float, direct_ratio_db: float, sample_rate: int, rng: Generator) -> Response:
    """A direct path of 1 and reverberation behind it, energies `direct_ratio_db` apart (Polack's model)."""
    tail = decaying_noise(rt60_s, sample_rate, rng)
    tail = tail / tail.norm() * amplitude_ratio(-direct_ratio_db)
    return torch.cat([torch.ones(1), tail])


def from_direct_path(response: Response) -> Float32[Tensor, " kept"]:
    """Cuts all before the direct path, which is the first sample within 20 dB of the peak, as in ISO 3382."""
    size = response.abs()
    return response[int((size > 0.1 * size.max()).nonzero()[0]) :].clone()


def convolve(wav: Wave, response: Response) -> Wave:
    """Clips (batch, time) convolved with a response, cut to their own length."""
    length = wav.shape[-1]
    response = response[:length]
    size = 1 << (length + len(response) - 1).bit_length()  # no sample wraps around to the start
    product = torch.fft.rfft(wav, size) * torch.fft.rfft(response, size)
    sounding: Tensor = torch.fft.irfft(product, size)
    return sounding[:, :length]
