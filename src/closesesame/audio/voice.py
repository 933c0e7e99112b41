"""What makes a voice, its fundamental frequency and its spectral envelope: measures and changes both.

The fundamental is that of the first high peak of the autocorrelation (Rabiner, IEEE TASSP 25(1), 1977); the
envelope is the spectrum smoothed in the cepstrum (Oppenheim and Schafer, 1968).
"""

import math

import torch
from jaxtyping import Float32
from torch import Tensor

from closesesame.core.types import Spectrum

from . import vocoder
from .interpolation import read_linear
from .stft import powers

LOWEST_HZ, HIGHEST_HZ = 60, 400
LEAST_RATIO, MOST_RATIO = 0.55, 3.0
"""Bounds of the change of pitch: below the lower one, too few bins are left to fill the band from."""
Clip = Float32[Tensor, " time"]


def pitch_hz(clip: Clip, sample_rate: int) -> float:
    """The median fundamental frequency of the voiced frames of a clip; 0 if there are none."""
    size, hop = round(0.05 * sample_rate), round(0.02 * sample_rate)
    shortest, longest = int(sample_rate / HIGHEST_HZ), math.ceil(sample_rate / LOWEST_HZ)
    window = torch.hann_window(size, device=clip.device)
    frames = torch.nn.functional.pad(clip, (size // 2, size)).unfold(0, size, hop) * window
    # The window weakens the correlation at each lag by a known factor; it is divided out.
    fading = _autocorrelation(window[None], longest + 2)
    correlation = _autocorrelation(frames, longest + 2) / (fading / fading[:, :1])
    energy = correlation[:, :1]
    height = correlation[:, shortest - 1 :] / energy.clamp(min=1e-9)
    peak = (height[:, 1:-1] > height[:, :-2]) & (height[:, 1:-1] >= height[:, 2:])
    height = torch.where(peak, height[:, 1:-1], 0)
    # Multiples of the period peak nearly as high as the period itself: the first high peak is taken.
    first = (height > 0.9 * height.amax(1, keepdim=True)).float().argmax(1)
    voiced = (height.amax(1) > 0.5) & (energy > 0.03 * energy.max())[:, 0]
    lags = (first + shortest)[voiced]
    return sample_rate / float(lags.float().median()) if len(lags) else 0.0


def _autocorrelation(frames: Float32[Tensor, "frame time"], lags: int) -> Float32[Tensor, "frame lag"]:
    size = 1 << (frames.shape[-1] + lags - 1).bit_length()
    both: Tensor = torch.fft.irfft(powers(torch.fft.rfft(frames, size)), size)
    return both[:, :lags]


def log_envelope(magnitude: Spectrum, sample_rate: int, finest_s: float = 0.002) -> Spectrum:
    """The natural logarithm of the envelope; ripples finer than 1 / `finest_s` Hz, harmonics, are gone."""
    cepstrum = torch.fft.irfft(torch.log(magnitude + 1e-4), dim=1)
    kept = torch.arange(cepstrum.shape[1], device=magnitude.device)
    kept = torch.minimum(kept, len(kept) - kept) / (finest_s * sample_rate)
    lifter = 0.5 + 0.5 * torch.cos(math.pi * (2 * kept - 1.5).clamp(0, 1))  # from 3/4 to 5/4 of the finest
    envelope: Tensor = torch.fft.rfft(cepstrum * lifter[:, None], dim=1).real
    return envelope


def revoiced(
    clip: Clip, sample_rate: int, *, pitch_ratio: float, formant_scale: float, tilt_db: float
) -> Clip:
    """Changes the voice of a clip at the same speed.

    Args:
        clip: samples (time,).
        sample_rate: Hz.
        pitch_ratio: new pitch over old, within `LEAST_RATIO` and `MOST_RATIO`.
        formant_scale: new over old frequency of the resonances, which the envelope shows.
        tilt_db: gain for each octave above 1 kHz, and loss for each below.
    """
    fft = vocoder.frame_size(sample_rate, 0.048)
    # Bin k of a frame of `fft` samples is written as bin k of a frame of `points`, so all frequencies move by
    # the ratio fft / points.
    points = 4 * round(fft / min(max(pitch_ratio, LEAST_RATIO), MOST_RATIO) / 4)
    spectrum = vocoder.analyse(clip[None], fft)
    envelope = log_envelope(spectrum.abs(), sample_rate)
    bins = points // 2 + 1
    # The envelope would move with the pitch. So what each bin had of it, `own`, is divided out; instead comes
    # the clip's envelope at the new frequency of the bin, stretched by `formant_scale`.
    spectrum, own = _filled(spectrum, bins), _filled(envelope, bins)
    hz = torch.arange(bins, device=clip.device) * (sample_rate / points)
    source = (hz / formant_scale * (fft / sample_rate)).clamp(max=envelope.shape[1] - 1)
    moved = read_linear(envelope.mT, source).mT
    tilt = tilt_db / 20 * math.log(10) * torch.log2(hz.clamp(min=100) / 1000)
    gain = torch.exp((moved - own + tilt[:, None]).clamp(-4, 4))  # at most 35 dB
    # Frames are written every points / 4 samples and were read every fft / 4; so the speed stays.
    moments = torch.arange(math.ceil(4 * len(clip) / points) + 1, dtype=torch.float64, device=clip.device)
    moments = moments * (points / fft)
    read = vocoder.read_at(spectrum * gain, moments[moments < spectrum.shape[-1]][None])
    return vocoder.synthesise(read * (points / fft), points, len(clip))[0]


def _filled(bins: Tensor, count: int) -> Tensor:
    """The lowest `count` bins of (batch, bin, frame); if there are fewer, the highest are repeated above.

    They are repeated a multiple of 4 bins higher: there phases turn by whole turns more from frame to frame,
    so that they fit.
    """
    have = bins.shape[1]
    if count <= have:
        return bins[:, :count]
    back = 4 * -(-(count - have) // 4)
    return torch.cat([bins, bins[:, have - back : count - back]], 1)
