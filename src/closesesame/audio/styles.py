"""Guitar pedals: distortion, chorus, ladder high-pass, phaser, reverberation.

Each is written from its textbook form, with the usual ranges of pedals. A sweep starts with the clip.
"""

import math

import torch
from torch import Tensor

from closesesame.core.types import Wave

from . import vocoder
from .effects import amplitude_ratio
from .interpolation import read_linear
from .rooms import Response, convolve


def distortion(wav: Wave, drive_db: float) -> Wave:
    """tanh(drive * x): soft clipping, within full scale."""
    return torch.tanh(amplitude_ratio(drive_db) * wav)


def chorus(
    wav: Wave, sample_rate: int, *, rate_hz: float, delay_ms: float, sweep_ms: float, mix: float
) -> Wave:
    """Mixes the clip with itself, delayed by `delay_ms` and a sine of amplitude `sweep_ms`."""
    time = torch.arange(wav.shape[-1], device=wav.device)
    sweep = sweep_ms * torch.sin(2 * math.pi * rate_hz / sample_rate * time)
    delay = (delay_ms + sweep).clamp(min=0) * (sample_rate / 1000)
    # One sample of silence before the clip stands for all that comes before it.
    padded = torch.nn.functional.pad(wav, (1, 0))
    place = (1 + (time - delay).double()).clamp(min=0)
    return (1 - mix) * wav + mix * read_linear(padded, place)


def ladder_high_pass(wav: Wave, sample_rate: int, cutoff_hz: float) -> Wave:
    """Two first-order high-passes in a row, 12 dB an octave: -6 dB at the cutoff."""
    size = 2 * wav.shape[-1]  # as much silence behind, so that no sample wraps around to the start
    ratio = 1j * torch.fft.rfftfreq(size, 1 / sample_rate, device=wav.device) / cutoff_hz
    filtered: Tensor = torch.fft.irfft(torch.fft.rfft(wav, size) * (ratio / (1 + ratio)).square(), size)
    return filtered[:, : wav.shape[-1]]


def phaser(
    wav: Wave,
    sample_rate: int,
    *,
    rate_hz: float = 1,
    centre_hz: float = 1300,
    sweep_octaves: float = 2,
    mix: float = 0.5,
    stages: int = 6,
) -> Wave:
    """Mixes the clip with itself behind all-pass filters: three notches, which the sweep moves.

    The filters are constant within a frame of 32 ms.
    """
    fft = vocoder.frame_size(sample_rate)
    spectrum = vocoder.analyse(wav, fft)
    moment = torch.arange(spectrum.shape[-1], device=wav.device) * (fft // 4 / sample_rate)
    corner = centre_hz * 2 ** (sweep_octaves * torch.sin(2 * math.pi * rate_hz * moment))
    ratio = 1j * torch.fft.rfftfreq(fft, 1 / sample_rate, device=wav.device)[:, None] / corner
    passed = ((1 - ratio) / (1 + ratio)) ** stages
    return vocoder.synthesise(spectrum * (1 - mix + mix * passed), fft, wav.shape[-1])


def reverb(wav: Wave, tail: Response, *, dry: float, wet: float) -> Wave:
    """Adds reverberation: the clip convolved with a tail of noise, which is scaled to energy 1."""
    return dry * wav + wet * convolve(wav, tail / tail.norm())
