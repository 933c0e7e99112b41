"""Layers of enhancement networks: a Fourier transform of any frames, and complex convolutions and LSTMs.

A complex map of C channels is a real tensor of 2C: first all real parts, then all imaginary parts.
"""

import torch
from jaxtyping import Complex64, Float32
from torch import Tensor, nn
from torch.nn import functional as F

from closesesame.core.types import Wave

Bins = Complex64[Tensor, "batch bin frame"]
ComplexMap = Float32[Tensor, "batch _parts _band _frame"]
"""A complex map: real parts of all channels, then imaginary parts."""
Steps = Float32[Tensor, "batch frame _unit"]


class STFT(nn.Module):
    """The short-time Fourier transform of clips of any length, and its exact inverse.

    Silence is put around a clip so that each of its samples lies in as many frames as any other, and at its
    end until the frames fill it. Frame t holds the samples before (t + 1) * hop.
    """

    window: Tensor
    synthesis: Tensor
    overlap: Tensor

    def __init__(
        self,
        window: Float32[Tensor, " tap"],
        *,
        hop: int,
        fft: int,
        synthesis: Float32[Tensor, " tap"] | None = None,
    ) -> None:
        """Takes windows as long as a frame.

        Args:
            window: that a frame is multiplied by before the transform.
            hop: samples from one frame to the next; a part of the window's length.
            fft: length of the transform; zeros are put behind a shorter frame.
            synthesis: window after the inverse transform; the same if none.
        """
        super().__init__()
        assert len(window) % hop == 0
        assert len(window) <= fft
        self.hop, self.fft, self.size = hop, fft, len(window)
        synthesis = window if synthesis is None else synthesis
        # They follow from the settings, so they are not written into files.
        self.register_buffer("window", window, persistent=False)
        self.register_buffer("synthesis", synthesis, persistent=False)
        self.register_buffer("overlap", (window * synthesis).view(-1, hop).sum(0), persistent=False)

    def forward(self, wav: Wave) -> Bins:
        """Clips to spectra of fft / 2 + 1 bins."""
        around = self.size - self.hop
        padded = F.pad(wav, (around, around + -wav.shape[-1] % self.hop))
        frames = padded.unfold(-1, self.size, self.hop) * self.window
        spectrum: Tensor = torch.fft.rfft(frames, self.fft).mT
        return spectrum

    def inverse(self, spectrum: Bins, length: int) -> Wave:
        """Spectra to clips of `length` samples: those that `forward` got, if nothing was changed."""
        frames = torch.fft.irfft(spectrum.mT, self.fft)[..., : self.size] * self.synthesis
        total = (spectrum.shape[-1] - 1) * self.hop + self.size
        added = F.fold(frames.mT, (1, total), (1, self.size), stride=(1, self.hop))[:, 0, 0]
        around = self.size - self.hop
        wav: Tensor = (added.unflatten(-1, (total // self.hop, self.hop)) / self.overlap).flatten(1)
        return wav[:, around : around + length]


class ComplexConv2d(nn.Module):
    """A convolution of complex maps with complex kernels."""

    def __init__(
        self,
        ins: int,
        outs: int,
        kernel: tuple[int, int],
        *,
        stride: tuple[int, int] = (1, 1),
        padding: tuple[int, int] = (0, 0),
    ) -> None:
        """Takes numbers of complex channels; the other sizes are (band, frame)."""
        super().__init__()
        self.real, self.imag = _drawn(nn.Conv2d(ins, outs, kernel)), _drawn(nn.Conv2d(ins, outs, kernel))
        self.stride, self.padding = stride, padding

    def forward(self, x: ComplexMap) -> ComplexMap:
        """(W x) + b: the real part is W_r x_r - W_i x_i, the imaginary part W_i x_r + W_r x_i."""
        real, imag = self.real.weight, self.imag.weight
        weight = torch.cat([torch.cat([real, -imag], 1), torch.cat([imag, real], 1)])
        return F.conv2d(x, weight, _bias(self), self.stride, self.padding)


class ComplexConvTranspose2d(nn.Module):
    """A transposed convolution of complex maps with complex kernels."""

    def __init__(
        self,
        ins: int,
        outs: int,
        kernel: tuple[int, int],
        *,
        stride: tuple[int, int] = (1, 1),
        padding: tuple[int, int] = (0, 0),
        output_padding: tuple[int, int] = (0, 0),
    ) -> None:
        """Takes numbers of complex channels; the other sizes are (band, frame)."""
        super().__init__()
        self.real = _drawn(nn.ConvTranspose2d(ins, outs, kernel))
        self.imag = _drawn(nn.ConvTranspose2d(ins, outs, kernel))
        self.stride, self.padding, self.output_padding = stride, padding, output_padding

    def forward(self, x: ComplexMap) -> ComplexMap:
        """As the convolution; the first axis of a transposed kernel is that of the inputs."""
        real, imag = self.real.weight, self.imag.weight
        weight = torch.cat([torch.cat([real, imag], 1), torch.cat([-imag, real], 1)])
        return F.conv_transpose2d(x, weight, _bias(self), self.stride, self.padding, self.output_padding)


def _drawn(conv: nn.Conv2d | nn.ConvTranspose2d) -> nn.Conv2d | nn.ConvTranspose2d:
    """Kernels of deviation 0.05 and no bias, as the authors of DCCRN draw them."""
    assert conv.bias is not None
    nn.init.normal_(conv.weight, std=0.05)
    nn.init.zeros_(conv.bias)
    return conv


def _bias(conv: ComplexConv2d | ComplexConvTranspose2d) -> Tensor:
    assert conv.real.bias is not None
    assert conv.imag.bias is not None
    return torch.cat([conv.real.bias, conv.imag.bias])


class ComplexLSTM(nn.Module):
    """One layer of two LSTMs that are multiplied as complex numbers are."""

    def __init__(self, ins: int, units: int) -> None:
        """Takes numbers of complex units."""
        super().__init__()
        self.real = nn.LSTM(ins, units, batch_first=True)
        self.imag = nn.LSTM(ins, units, batch_first=True)

    def forward(self, real: Steps, imag: Steps) -> tuple[Steps, Steps]:
        """L_r(x_r) - L_i(x_i) and L_i(x_r) + L_r(x_i)."""
        both = torch.cat([real, imag])
        of_real, of_imag = self.real(both)[0].chunk(2)
        across_real, across_imag = self.imag(both)[0].chunk(2)
        return of_real - across_imag, across_real + of_imag


def complex_cat(one: ComplexMap, other: ComplexMap) -> ComplexMap:
    """The channels of two complex maps in one."""
    (real, imag), (other_real, other_imag) = one.chunk(2, 1), other.chunk(2, 1)
    return torch.cat([real, other_real, imag, other_imag], 1)
