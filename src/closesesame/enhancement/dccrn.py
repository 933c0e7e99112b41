"""DCCRN: a complex U-net over frames and bands with an LSTM between encoder and decoder gives a complex mask.

Hu, Liu, Lv et al., "DCCRN: Deep Complex Convolution Recurrent Network for Phase-Aware Speech Enhancement",
Interspeech 2020, arXiv:2008.00264; sizes as in the first author's code (huyanxin/DeepComplexCRN). Frames of
25 ms every 6.25 ms; the decoder looks one frame ahead a layer, 37.5 ms in all. Ours differs: plain batch norm
of real and imaginary parts and plain PReLU, as in that code (the paper normalises complex numbers); waveforms
are not cut at full scale; the inverse transform counts all bins but the first and the last twice, as a real
signal has them (theirs counts all once).
"""

from itertools import pairwise
from typing import Annotated, Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from closesesame.core.types import Wave

from .base import Enhancement, Enhancer, Mixture
from .layers import STFT, Bins, ComplexConv2d, ComplexConvTranspose2d, ComplexLSTM, ComplexMap, complex_cat
from .losses import si_snr

WINDOW, HOP, FFT = 400, 100, 512
KERNEL, STRIDE = (5, 2), (2, 1)


class DCCRN(Enhancement):
    """Complex convolutions, an LSTM over the frames, and a mask of magnitude and phase."""

    name: ClassVar[str] = "dccrn"
    cite: ClassVar[str] = "arXiv:2008.00264"
    sizes: ClassVar[dict[str, dict[str, Any]]] = {
        "paper": {},
        "paper_cl": {"channels": (32, 64, 128, 256, 256, 256), "recurrent": "complex"},
        "small": {"channels": (8, 16, 32, 32, 64, 64), "units": 64},
    }
    parameters_of_paper: ClassVar[dict[str, int]] = {"paper": 3_742_349, "paper_cl": 3_671_053}

    channels: tuple[Annotated[int, Field(ge=2, le=512, multiple_of=2)], ...] = Field(
        (16, 32, 64, 128, 256, 256),
        min_length=1,
        max_length=7,
        description="channels of the encoder's layers, real and imaginary together",
    )
    recurrent: Literal["real", "complex"] = Field("real", description="LSTM between encoder and decoder")
    units: int = Field(
        256, ge=2, le=1024, multiple_of=2, description="of the LSTM, real and imaginary together"
    )
    mask: Literal["E", "C", "R"] = Field(
        "E", description="E: gain below 1 and turn of the phase; C: complex factor; R: factor of each part"
    )

    @property
    def ahead_samples(self) -> int:
        """The rest of the last frame that it is made of, and one frame a layer of the decoder."""
        return WINDOW - 2 + HOP * len(self.channels)  # the first weight of a Hann window is 0

    def network(self) -> Enhancer:
        """Weights of convolutions are drawn as the authors draw them."""
        return _DCCRN(self)


class _DCCRN(Enhancer):
    snr_range_db: ClassVar[tuple[float, float]] = (-5.0, 20.0)

    def __init__(self, settings: DCCRN) -> None:
        super().__init__()
        self.stft = STFT(torch.hann_window(WINDOW), hop=HOP, fft=FFT)
        widths = [1, *(channels // 2 for channels in settings.channels)]
        pairs = list(pairwise(widths))
        size = widths[-1] * (FFT // 2 >> len(pairs))
        self.encoder = nn.ModuleList(_Down(ins, outs) for ins, outs in pairs)
        kind = {"real": _RealRecurrent, "complex": _ComplexRecurrent}[settings.recurrent]
        self.recurrent = kind(size, settings.units // 2)
        self.decoder = nn.ModuleList(
            _Up(2 * outs, ins, last=number == 0) for number, (ins, outs) in reversed(list(enumerate(pairs)))
        )
        self.mode = settings.mask

    def forward(self, wav: Wave) -> Wave:
        spectrum = self.stft(wav)
        masked = masked_by(self.mode, spectrum, self.mask_of(spectrum))
        return self.stft.inverse(masked, wav.shape[-1])

    def mask_of(self, spectrum: Bins) -> Bins:
        """The complex mask; the mean of a frame is neither looked at nor kept."""
        x = torch.stack([spectrum.real, spectrum.imag], 1)[:, :, 1:]
        seen = []
        for down in self.encoder:
            x = down(x)
            seen.append(x)
        x = self.recurrent(x)
        for up in self.decoder:
            x = up(complex_cat(x, seen.pop()))
        real, imag = F.pad(x, (0, 0, 1, 0)).unbind(1)
        return torch.complex(real, imag)

    def loss(self, mixture: Mixture) -> Tensor:
        """Negative SI-SNR in dB."""
        return -si_snr(self(mixture.noisy), mixture.speech).mean()


def masked_by(mode: str, spectrum: Bins, mask: Bins) -> Bins:
    """The spectrum under a mask, by one of the three ways of the paper."""
    if mode == "E":  # tanh|M| |X| at the angle of X plus that of M
        size = mask.abs().clamp(min=1e-8)
        return spectrum * mask * (size.tanh() / size)
    if mode == "C":
        return spectrum * mask
    return torch.complex(spectrum.real * mask.real, spectrum.imag * mask.imag)


class _Down(nn.Module):
    """Halves the bands; looks at a frame and the one before."""

    def __init__(self, ins: int, outs: int) -> None:
        super().__init__()
        self.conv = ComplexConv2d(ins, outs, KERNEL, stride=STRIDE, padding=(2, 0))
        self.norm = nn.BatchNorm2d(2 * outs)
        self.activation = nn.PReLU()

    def forward(self, x: ComplexMap) -> ComplexMap:
        y: Tensor = self.activation(self.norm(self.conv(F.pad(x, (1, 0)))))
        return y


class _Up(nn.Module):
    """Doubles the bands; looks at a frame and the one behind."""

    def __init__(self, ins: int, outs: int, *, last: bool) -> None:
        super().__init__()
        self.conv = ComplexConvTranspose2d(
            ins, outs, KERNEL, stride=STRIDE, padding=(2, 0), output_padding=(1, 0)
        )
        self.behind = nn.Identity() if last else nn.Sequential(nn.BatchNorm2d(2 * outs), nn.PReLU())

    def forward(self, x: ComplexMap) -> ComplexMap:
        y: Tensor = self.behind(self.conv(x)[..., 1:])
        return y


class _RealRecurrent(nn.Module):
    def __init__(self, size: int, units: int) -> None:
        super().__init__()
        self.lstm = nn.LSTM(2 * size, 2 * units, num_layers=2, batch_first=True)
        self.project = nn.Linear(2 * units, 2 * size)

    def forward(self, x: ComplexMap) -> ComplexMap:
        steps, _ = self.lstm(x.permute(0, 3, 1, 2).flatten(2))
        y: Tensor = self.project(steps).unflatten(2, x.shape[1:3]).permute(0, 2, 3, 1)
        return y


class _ComplexRecurrent(nn.Module):
    def __init__(self, size: int, units: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList([ComplexLSTM(size, units), ComplexLSTM(units, units)])
        self.real, self.imag = nn.Linear(units, size), nn.Linear(units, size)

    def forward(self, x: ComplexMap) -> ComplexMap:
        real, imag = x.permute(0, 3, 1, 2).flatten(2).chunk(2, 2)
        for layer in self.layers:
            real, imag = layer(real, imag)
        steps = torch.cat([self.real(real), self.imag(imag)], 2)
        y: Tensor = steps.unflatten(2, x.shape[1:3]).permute(0, 2, 3, 1)
        return y
