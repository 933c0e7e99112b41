"""ComplexMTASS: masks split a mixture into speech, noise and music, and a second network repairs each.

Zhang, Li, Deng, Wang, "Multi-Task Audio Source Separation", ASRU 2021, arXiv:2107.06467, called
Complex-MTASSNet there; sizes and loss as in the authors' code (Windstudent/Complex-MTASSNet). It enhances by
giving the speech. It is not causal. Ours differs: the inverse transform divides by the sum of the windows, so
that it gives back what the transform got (theirs leaves a factor).
"""

from typing import Any, ClassVar

import torch
from jaxtyping import Float32
from pydantic import Field
from torch import Tensor, nn

from closesesame.core.types import Wave

from .base import Enhancement, Enhancer, Mixture
from .layers import STFT
from .losses import snr

WINDOW, HOP = 512, 256
BINS = WINDOW // 2 + 1
TRACKS = 3
"""Speech, noise and music."""
SUB_BANDS = (64, 64, 64, 65, 64, 64, 64, 65)
"""Of 257 bins and 257 channels."""
DILATIONS = (1, 3, 5, 7, 11)
DROPOUT = 0.2
SNR_WEIGHT = 0.01

Channels = Float32[Tensor, "batch _channel frame"]
Parts = Float32[Tensor, "batch track parts frame"]
"""Spectra as real numbers: real parts of all bins, then imaginary parts."""


class ComplexMTASS(Enhancement):
    """Multi-scale convolutions of magnitudes, a mask for each track, a gated network for what it missed."""

    name: ClassVar[str] = "complex_mtass"
    cite: ClassVar[str] = "arXiv:2107.06467"
    sizes: ClassVar[dict[str, dict[str, Any]]] = {
        "paper": {},
        "small": {
            "width": 256,
            "repeats": 1,
            "repair_width": 64,
            "repair_hidden": 32,
            "repair_repeats": 2,
            "repair_blocks": 4,
        },
    }
    parameters_of_paper: ClassVar[dict[str, int]] = {"paper": 28_180_685}

    width: int = Field(1028, ge=1, le=4096, description="channels between the multi-scale blocks")
    repeats: int = Field(3, ge=1, le=8, description="rounds of five multi-scale blocks")
    repair_width: int = Field(256, ge=1, le=1024, description="channels between the gated blocks")
    repair_hidden: int = Field(64, ge=1, le=256, description="channels within a gated block")
    repair_repeats: int = Field(5, ge=1, le=8, description="rounds of gated blocks")
    repair_blocks: int = Field(
        8, ge=1, le=10, description="gated blocks of a round; each is dilated twice as much as the one before"
    )

    @property
    def ahead_samples(self) -> None:
        """It is not causal: a clip of some seconds is looked at as a whole."""
        return

    def network(self) -> Enhancer:
        """Weights as torch draws them."""
        return _ComplexMTASS(self)


class _ComplexMTASS(Enhancer):
    snr_range_db: ClassVar[tuple[float, float]] = (-5.0, 5.0)

    def __init__(self, settings: ComplexMTASS) -> None:
        super().__init__()
        self.stft = STFT(torch.hamming_window(WINDOW), hop=HOP, fft=WINDOW, synthesis=torch.ones(WINDOW))
        width = settings.width
        self.start = _conv(BINS, width)
        self.blocks = nn.ModuleList(_MultiScale(width, d) for _ in range(settings.repeats) for d in DILATIONS)
        self.end = _conv(width, width)
        self.masks = nn.ModuleList(nn.Conv1d(width, 2 * BINS, 1) for _ in range(TRACKS))
        self.repairs = nn.ModuleList(_Repair(settings) for _ in range(TRACKS))

    def forward(self, wav: Wave) -> Wave:
        return self.separate(wav)[:, 0]

    def separate(self, wav: Wave) -> Float32[Tensor, "batch track time"]:
        """The speech, the noise and the music of each clip."""
        return self.to_waves(self.spectra(self.to_parts(wav[:, None])[:, 0]), wav.shape[-1])

    def spectra(self, mixed: Channels) -> Parts:
        """Masked spectra of the tracks, with what the repair finds in what each mask takes away."""
        real, imag = mixed.chunk(2, 1)
        magnitude = torch.complex(real, imag).abs()
        x = self.start(magnitude)
        for block in self.blocks:
            x = block(x, magnitude)
        x = self.end(x)
        tracks = []
        for mask, repair in zip(self.masks, self.repairs, strict=True):
            masked = mask(x) * mixed
            tracks.append(masked + repair(mixed - masked))
        return torch.stack(tracks, 1)

    def to_parts(self, waves: Float32[Tensor, "batch track time"]) -> Parts:
        """The transform of each track."""
        spectrum = self.stft(waves.flatten(0, 1))
        parts: Tensor = torch.cat([spectrum.real, spectrum.imag], 1).unflatten(0, waves.shape[:2])
        return parts

    def to_waves(self, parts: Parts, length: int) -> Float32[Tensor, "batch track time"]:
        """The inverse of `to_parts`."""
        real, imag = parts.flatten(0, 1).chunk(2, 1)
        waves: Tensor = self.stft.inverse(torch.complex(real, imag), length).unflatten(0, parts.shape[:2])
        return waves

    def loss(self, mixture: Mixture) -> Tensor:
        """Mean squared error of the spectra minus a hundredth of the SNR in dB, summed over the tracks."""
        noisy, music = mixture.noisy, mixture.music
        silence = torch.zeros_like(noisy)
        waves = torch.stack([mixture.speech, mixture.noise, silence if music is None else music], 1)
        estimate = self.spectra(self.to_parts(noisy[:, None])[:, 0])
        error = (estimate - self.to_parts(waves)).square().mean((0, 2, 3)).sum()
        ratio = snr(self.to_waves(estimate, noisy.shape[-1]), waves).mean(0).sum()
        return error - SNR_WEIGHT * ratio


def _conv(ins: int, outs: int, size: int = 1, dilation: int = 1) -> nn.Sequential:
    """A convolution over the frames around each frame, with batch norm, ReLU and dropout."""
    conv = nn.Conv1d(ins, outs, size, dilation=dilation, padding="same")
    return nn.Sequential(conv, nn.BatchNorm1d(outs), nn.ReLU(), nn.Dropout(DROPOUT))


class _MultiScale(nn.Module):
    """A residual block: sub-bands are convolved one after the other, upwards and downwards."""

    def __init__(self, width: int, dilation: int) -> None:
        super().__init__()
        self.narrow = _conv(width, BINS)
        self.upwards = _Chain(SUB_BANDS, dilation)
        self.downwards = _Chain(SUB_BANDS[::-1], dilation)
        self.widen = _conv(2 * BINS, width)

    def forward(self, x: Channels, magnitude: Channels) -> Channels:
        bands = torch.cat([magnitude, self.narrow(x)], 1).split(SUB_BANDS, 1)
        up, down = self.upwards(bands), self.downwards(bands[::-1])[::-1]
        y: Tensor = self.widen(torch.cat([one + other for one, other in zip(up, down, strict=True)], 1))
        return x + y


class _Chain(nn.Module):
    """Each convolution sees its sub-band, and what came of the sub-band before."""

    def __init__(self, widths: tuple[int, ...], dilation: int) -> None:
        super().__init__()
        before = (0, *widths[:-1])
        self.units = nn.ModuleList(
            _conv(past + width, width, 3, dilation) for past, width in zip(before, widths, strict=True)
        )

    def forward(self, bands: tuple[Tensor, ...]) -> list[Tensor]:
        made: list[Tensor] = []
        for unit, band in zip(self.units, bands, strict=True):
            made.append(unit(torch.cat([*made[-1:], band], 1)))
        return made


class _Repair(nn.Module):
    """A gated temporal convolutional network from what a mask left out to what belongs to the track."""

    def __init__(self, settings: ComplexMTASS) -> None:
        super().__init__()
        width, hidden = settings.repair_width, settings.repair_hidden
        dilations = [2**power for power in range(settings.repair_blocks)] * settings.repair_repeats
        self.start = nn.Conv1d(2 * BINS, width, 1)
        self.blocks = nn.Sequential(*(_Gated(width, hidden, dilation) for dilation in dilations))
        self.end = nn.Conv1d(width, 2 * BINS, 1)

    def forward(self, left: Channels) -> Channels:
        return self.end(self.blocks(self.start(left)))  # type: ignore[no-any-return]


class _Gated(nn.Module):
    """A residual block of two convolutions, of which one lets the other through."""

    def __init__(self, width: int, hidden: int, dilation: int) -> None:
        super().__init__()
        self.narrow = nn.Conv1d(width, hidden, 1, bias=False)
        self.signal = _unbiased(hidden, dilation)
        self.gate = _unbiased(hidden, dilation)
        self.widen = nn.Conv1d(hidden, width, 1, bias=False)

    def forward(self, x: Channels) -> Channels:
        y = self.narrow(x)
        return x + self.widen(self.signal(y) * self.gate(y).sigmoid())  # type: ignore[no-any-return]


def _unbiased(width: int, dilation: int) -> nn.Sequential:
    conv = nn.Conv1d(width, width, 3, dilation=dilation, padding="same", bias=False)
    return nn.Sequential(conv, nn.BatchNorm1d(width), nn.ReLU(), nn.Dropout(DROPOUT))
