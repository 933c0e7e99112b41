"""The short-time Fourier transform, with Hann windows as long as the transform, and its inverse."""

import torch
from jaxtyping import Complex64
from torch import Tensor

from closesesame.core.types import Wave

Bins = Complex64[Tensor, "batch bin frame"]


def stft(wav: Wave, fft: int, hop: int) -> Bins:
    """Clips (batch, time) as frames of `fft` samples, centred `hop` apart, with silence around the clip."""
    window = torch.hann_window(fft, device=wav.device)
    return torch.stft(wav, fft, hop, window=window, pad_mode="constant", return_complex=True)


def powers(spectrum: Tensor) -> Tensor:
    """The squared magnitude of each bin of a complex spectrum of any shape."""
    real, imaginary = torch.view_as_real(spectrum).square().unbind(-1)
    # torch takes several times as long for a sum over an axis of two.
    return real + imaginary


def istft(spectrum: Bins, fft: int, hop: int, length: int) -> Wave:
    """The inverse of `stft`, (batch, length)."""
    window = torch.hann_window(fft, device=spectrum.device)
    return torch.istft(spectrum, fft, hop, window=window, length=length)
