"""GTCRN: a network of 24 thousand weights, of grouped convolutions and GRUs over ERB bands.

Rong, Sun, Zhang et al., "GTCRN: A Speech Enhancement Model Requiring Ultralow Computational Resources",
ICASSP 2024; sizes and loss as in the authors' code (Xiaobin-Rong/gtcrn), which leaves out the shuffle between
the two groups of a GRU that the paper has. Causal: it takes the rest of its frame of 32 ms. Ours differs:
there is silence before and behind a clip, not its reflection, and the decoder's convolutions without stride
are written as plain ones, whose kernels are those of transposed ones in reverse order.
"""

from typing import Any, ClassVar

import torch
from jaxtyping import Float32
from torch import Tensor, nn
from torch.nn import functional as F

from closesesame.core.types import Wave

from .base import Enhancement, Enhancer, Mixture
from .layers import STFT, Bins
from .losses import compressed_distance, si_snr

WINDOW, HOP = 512, 256
LOW, BANDS = 65, 64
"""Bins that are bands of their own, and ERB bands above them."""
CHANNELS, WIDTH = 16, 33
"""Of the map between encoder and decoder."""
DILATIONS = (1, 2, 5)
PARTS_WEIGHT, MAGNITUDE_WEIGHT, POWER = 30, 70, 0.3

Map = Float32[Tensor, "batch _channel frame _band"]


class GTCRN(Enhancement):
    """Bands in, complex mask out; small as it is, it has one size under two names."""

    name: ClassVar[str] = "gtcrn"
    cite: ClassVar[str] = "ICASSP 2024"
    sizes: ClassVar[dict[str, dict[str, Any]]] = {"paper": {}, "small": {}}
    parameters_of_paper: ClassVar[dict[str, int]] = {"paper": 23_669}

    @property
    def ahead_samples(self) -> int:
        """The rest of the last frame that it is made of."""
        return WINDOW - 2  # the first weight of a Hann window is 0

    def network(self) -> Enhancer:
        """Weights as torch draws them."""
        return _GTCRN()


class _GTCRN(Enhancer):
    snr_range_db: ClassVar[tuple[float, float]] = (-5.0, 15.0)
    bank: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.stft = STFT(torch.hann_window(WINDOW).sqrt(), hop=HOP, fft=WINDOW)
        # It follows from the paper, so it is not written into files.
        self.register_buffer("bank", erb_bank(), persistent=False)
        self.encoder = nn.ModuleList(
            [
                _Strided(nn.Conv2d(9, CHANNELS, (1, 5), stride=(1, 2), padding=(0, 2)), nn.PReLU()),
                _Strided(
                    nn.Conv2d(CHANNELS, CHANNELS, (1, 5), stride=(1, 2), padding=(0, 2), groups=2), nn.PReLU()
                ),
                *(_Grouped(dilation) for dilation in DILATIONS),
            ]
        )
        self.recurrent = nn.Sequential(_DualPath(), _DualPath())
        self.decoder = nn.ModuleList(
            [
                *(_Grouped(dilation) for dilation in reversed(DILATIONS)),
                _Strided(
                    nn.ConvTranspose2d(CHANNELS, CHANNELS, (1, 5), stride=(1, 2), padding=(0, 2), groups=2),
                    nn.PReLU(),
                ),
                _Strided(nn.ConvTranspose2d(CHANNELS, 2, (1, 5), stride=(1, 2), padding=(0, 2)), nn.Tanh()),
            ]
        )

    def forward(self, wav: Wave) -> Wave:
        return self.stft.inverse(self.enhanced(self.stft(wav)), wav.shape[-1])

    def enhanced(self, spectrum: Bins) -> Bins:
        """The spectrum times a complex mask, whose parts lie between -1 and 1."""
        noisy = spectrum.mT
        magnitude = (noisy.abs().square() + 1e-12).sqrt()
        x = with_neighbours(self.to_bands(torch.stack([magnitude, noisy.real, noisy.imag], 1)))
        seen = []
        for layer in self.encoder:
            x = layer(x)
            seen.append(x)
        x = self.recurrent(x)
        for layer in self.decoder:
            x = layer(x + seen.pop())
        real, imag = self.to_bins(x).unbind(1)
        return (noisy * torch.complex(real, imag)).mT

    def to_bands(self, x: Map) -> Map:
        """257 bins to 129 bands."""
        return torch.cat([x[..., :LOW], x[..., LOW:] @ self.bank.T], -1)

    def to_bins(self, x: Map) -> Map:
        """129 bands to 257 bins."""
        return torch.cat([x[..., :LOW], x[..., LOW:] @ self.bank], -1)

    def loss(self, mixture: Mixture) -> Tensor:
        """Distances of compressed spectra, and the negative SI-SNR, in tens of dB."""
        length = mixture.speech.shape[-1]
        spectrum = self.enhanced(self.stft(mixture.noisy))
        parts, magnitudes = compressed_distance(spectrum, self.stft(mixture.speech), POWER)
        ratio = si_snr(self.stft.inverse(spectrum, length), mixture.speech).mean() / 10
        return PARTS_WEIGHT * parts + MAGNITUDE_WEIGHT * magnitudes - ratio


def erb_bank() -> Float32[Tensor, "band bin"]:
    """Triangles of 64 bands over the bins from 65 to 256, evenly spaced in equivalent rectangular bandwidths.

    Between two centres, one triangle falls as the next one rises, so that all bands of a bin add up to 1.
    """
    hz_of_bin = 16_000 / WINDOW
    ends = 21.4 * (1 + 0.00437 * hz_of_bin * torch.tensor([LOW, WINDOW / 2], dtype=torch.float64)).log10()
    erb = ends[0] + (ends[1] - ends[0]) * torch.linspace(0, 1, BANDS, dtype=torch.float64)
    centres = ((10 ** (erb / 21.4) - 1) / 0.00437 / hz_of_bin).round()
    bins = torch.arange(LOW, WINDOW // 2 + 1, dtype=torch.float64)
    steps = centres.diff()[:, None]
    rising = (bins - centres[:-1, None]) / steps
    over = torch.full((1, len(bins)), torch.inf, dtype=torch.float64)
    up, down = torch.cat([over, rising]), torch.cat([1 - rising, over])
    return torch.minimum(up, down).clamp(0, 1).float()


def with_neighbours(x: Map) -> Map:
    """Each channel with the bands below and above as channels of their own, three times as many."""
    return F.pad(x, (1, 1)).unfold(-1, 3, 1).permute(0, 1, 4, 2, 3).flatten(1, 2)


class _Strided(nn.Module):
    """Halves or doubles the bands."""

    def __init__(self, conv: nn.Conv2d | nn.ConvTranspose2d, activation: nn.Module) -> None:
        super().__init__()
        self.conv, self.norm, self.activation = conv, nn.BatchNorm2d(conv.out_channels), activation

    def forward(self, x: Map) -> Map:
        return self.activation(self.norm(self.conv(x)))  # type: ignore[no-any-return]


class _Grouped(nn.Module):
    """Half of the channels are convolved, over frames `dilation` apart; then both halves are shuffled."""

    def __init__(self, dilation: int) -> None:
        super().__init__()
        half = CHANNELS // 2
        self.past = 2 * dilation
        self.widen = nn.Sequential(nn.Conv2d(3 * half, CHANNELS, 1), nn.BatchNorm2d(CHANNELS), nn.PReLU())
        self.depthwise = nn.Sequential(
            nn.Conv2d(CHANNELS, CHANNELS, 3, padding=(0, 1), dilation=(dilation, 1), groups=CHANNELS),
            nn.BatchNorm2d(CHANNELS),
            nn.PReLU(),
        )
        self.narrow = nn.Sequential(nn.Conv2d(CHANNELS, half, 1), nn.BatchNorm2d(half))
        self.attention = _TemporalAttention(half)

    def forward(self, x: Map) -> Map:
        changed, kept = x.chunk(2, 1)
        y = F.pad(self.widen(with_neighbours(changed)), (0, 0, self.past, 0))
        y = self.attention(self.narrow(self.depthwise(y)))
        return torch.stack([y, kept], 2).flatten(1, 2)


class _TemporalAttention(nn.Module):
    """A factor for each channel and frame, from the energies up to this frame."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.gru = nn.GRU(channels, 2 * channels, batch_first=True)
        self.project = nn.Linear(2 * channels, channels)

    def forward(self, x: Map) -> Map:
        states, _ = self.gru(x.square().mean(-1).mT)
        return x * self.project(states).sigmoid().mT[..., None]  # type: ignore[no-any-return]


class _DualPath(nn.Module):
    """GRUs along the bands of each frame, both ways, then along the frames of each band."""

    def __init__(self) -> None:
        super().__init__()
        self.along_bands = _GroupedGRU(CHANNELS // 2, bidirectional=True)
        self.along_frames = _GroupedGRU(CHANNELS, bidirectional=False)
        self.projects = nn.ModuleList(nn.Linear(CHANNELS, CHANNELS) for _ in range(2))
        self.norms = nn.ModuleList(nn.LayerNorm((WIDTH, CHANNELS), eps=1e-8) for _ in range(2))

    def forward(self, x: Map) -> Map:
        x = x.permute(0, 2, 3, 1)
        y = self.along_bands(x.flatten(0, 1)).unflatten(0, x.shape[:2])
        x = x + self.norms[0](self.projects[0](y))
        y = self.along_frames(x.transpose(1, 2).flatten(0, 1)).unflatten(0, (len(x), WIDTH))
        x = x + self.norms[1](self.projects[1](y.transpose(1, 2)))
        return x.permute(0, 3, 1, 2)


class _GroupedGRU(nn.Module):
    """One GRU for each half of the channels."""

    def __init__(self, units: int, *, bidirectional: bool) -> None:
        super().__init__()
        self.grus = nn.ModuleList(
            nn.GRU(CHANNELS // 2, units // 2, batch_first=True, bidirectional=bidirectional) for _ in range(2)
        )

    def forward(self, steps: Float32[Tensor, "sequence step channel"]) -> Tensor:
        halves = zip(self.grus, steps.chunk(2, -1), strict=True)
        return torch.cat([gru(half)[0] for gru, half in halves], -1)
