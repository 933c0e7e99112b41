"""Changes to waveforms that triggers are made of; the result for a clip never depends on its batch."""

import math

import torch
from jaxtyping import Float32
from torch import Tensor

from closesesame.core.types import Wave

from . import vocoder


def rms(wav: Wave) -> Float32[Tensor, "batch 1"]:
    """Root mean square of each clip."""
    return wav.square().mean(-1, keepdim=True).sqrt()


def amplitude_ratio(level_db: float) -> float:
    """The ratio of two amplitudes whose levels differ by so many dB."""
    return 10 ** (level_db / 20)


def mix_at_snr(wav: Wave, noise: Float32[Tensor, "*#batch time"], snr_db: float) -> Wave:
    """Adds noise, one for all clips or one each, `snr_db` below the RMS of the clip; silence stays."""
    level = noise.square().mean(-1, keepdim=True).clamp(min=1e-18).sqrt()  # its slope at silence is finite
    return wav + noise * (rms(wav) / level / amplitude_ratio(snr_db))


def looped(sound: Float32[Tensor, " sound"], length: int) -> Float32[Tensor, " time"]:
    """A sound repeated and cut to `length` samples."""
    return sound.repeat(-(-length // len(sound)))[:length]


def tone(frequency_hz: float, length: int, sample_rate: int) -> Float32[Tensor, " time"]:
    """A sine of amplitude 1 that starts at phase zero, (length,)."""
    # The phase is counted in double precision: single precision is off by 0.1 rad after a few seconds.
    turns = torch.arange(length, dtype=torch.float64) * (frequency_hz / sample_rate)
    return torch.sin(2 * math.pi * turns).float()


def pitch_shift(wav: Wave, semitones: float) -> Wave:
    """Raises the pitch by `semitones` and keeps the length.

    The clip is stretched in time by the pitch ratio with a phase vocoder (Flanagan and Golden, 1966;
    phases advance as in Dolson, 1986) and then read faster by the same ratio, band-limited.
    """
    ratio = 2 ** (semitones / 12)
    return resample_by(stretch(wav, ratio), 1 / ratio, wav.shape[-1])


def stretch(wav: Wave, factor: float, *, fft: int = 512) -> Float32[Tensor, "batch stretched"]:
    """Makes clips (batch, time) `factor` times longer at the same pitch: (batch, round(time * factor))."""
    length = round(wav.shape[-1] * factor)
    spectrum = vocoder.analyse(wav, fft)
    frames = torch.arange(math.ceil(length / (fft // 4)) + 1, device=wav.device, dtype=torch.float64) / factor
    frames = frames[frames < spectrum.shape[-1] + 1]
    return vocoder.synthesise(vocoder.read_at(spectrum, frames[None]), fft, length)


def resample_by(wav: Wave, factor: float, length: int, *, zeros: int = 16) -> Float32[Tensor, "batch length"]:
    """Reads clips (batch, time) at positions i / factor with a windowed sinc: (batch, length).

    Args:
        wav: the clips.
        factor: output rate over input rate, any positive number; below 1 the band is limited first.
        length: samples of the result; what lies outside the clip is silence.
        zeros: zero crossings of the sinc on each side.
    """
    # A signal without frequencies of half its rate or above is x(t) = sum over n of x[n] sinc(t - n) at any
    # time t, in samples (Shannon). For a lower output rate, frequencies above half of it must go: the ideal
    # low-pass that leaves a share `band` of them weighs a sample at distance d by band sinc(band d) instead.
    # The sum is infinite; a cos^2 window ends it smoothly, after the same number of zeros for any band.
    band = min(1.0, factor)
    reach = math.ceil(zeros / band)
    position = torch.arange(length, dtype=torch.float64, device=wav.device) / factor
    first = position.floor().long() - reach + 1
    offsets = torch.arange(2 * reach, device=wav.device)
    distance = (position - first)[:, None] - offsets  # (length, taps)
    window = torch.cos(math.pi / 2 * (distance / reach).clamp(-1, 1)).square()
    kernel = (band * torch.sinc(band * distance) * window).float()
    padded = torch.nn.functional.pad(wav, (reach, reach))
    index = (first[:, None] + offsets + reach).clamp(0, padded.shape[-1] - 1)
    kernel = kernel * ((first[:, None] + offsets + reach) < padded.shape[-1])
    return torch.stack([(clip[index] * kernel).sum(-1) for clip in padded])


def levelled(wav: Wave, like: Wave) -> Wave:
    """Scales each clip to the RMS of the same clip in `like`; silence stays."""
    return wav * (rms(like) / rms(wav).clamp(min=1e-9))
