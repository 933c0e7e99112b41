"""MaskGRU: two layers of GRUs, which read the clip forwards and backwards, give each bin a gain.

A mask of magnitudes by a recurrent network, as in Weninger et al., "Speech Enhancement with LSTM Recurrent
Neural Networks and its Application to Noise-Robust ASR", LVA/ICA 2015; phases are those of the mixture. The
network takes logarithms of magnitudes relative to the level of the clip: a louder clip gets the same gains.
Ours differs: GRUs for LSTMs, all bins for mel bands, and the loss is the negative SNR in dB up to 35 dB, so
that a clip without noise must pass as it is. It is the network that the project trains and ships: it learns
in an hour on one processor.
"""

from typing import Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn

from closesesame.core.types import Wave

from .base import Enhancement, Enhancer, Mixture
from .layers import STFT
from .losses import snr

WINDOW, HOP = 512, 256
BINS = WINDOW // 2 + 1
FLOOR = 1e-6
"""Magnitude, relative to the level of the clip, below which nothing counts."""
LEAST_POWER = 1e-10
"""Of a clip; silence has no level."""
SLOPE = 0.3
"""Brings the logarithms of magnitudes, which are from about -14 to 5, nearer to 1."""
OPEN = 1.0
"""Bias of the gains at the start: most of a clip passes."""
BEST_DB = 35.0
"""SNR above which a clip teaches nothing more."""


class MaskGRU(Enhancement):
    """A gain between 0 and 1 for each bin of each frame, from GRUs over the whole clip."""

    name: ClassVar[str] = "mask_gru"
    cite: ClassVar[str] = "LVA/ICA 2015"
    sizes: ClassVar[dict[str, dict[str, Any]]] = {"small": {}}
    parameters_of_paper: ClassVar[dict[str, int]] = {}

    units: int = Field(96, ge=1, le=1024, description="of each GRU, of which there are two in each layer")

    @property
    def ahead_samples(self) -> None:
        """It takes the whole clip."""
        return

    def network(self) -> Enhancer:
        """Weights as torch draws them."""
        return _MaskGRU(self.units)


class _MaskGRU(Enhancer):
    snr_range_db: ClassVar[tuple[float, float]] = (-5.0, 15.0)

    def __init__(self, units: int) -> None:
        super().__init__()
        self.stft = STFT(torch.hann_window(WINDOW).sqrt(), hop=HOP, fft=WINDOW)
        self.start = nn.Linear(BINS, units)
        self.grus = nn.GRU(units, units, num_layers=2, batch_first=True, bidirectional=True)
        self.end = nn.Linear(2 * units, BINS)
        nn.init.constant_(self.end.bias, OPEN)

    def forward(self, wav: Wave) -> Wave:
        level = (wav.square().mean(-1) + LEAST_POWER).sqrt()
        spectrum = self.stft(wav)
        logs = SLOPE * (spectrum.abs() / level[:, None, None] + FLOOR).log().mT
        states, _ = self.grus(self.start(logs).relu())
        return self.stft.inverse(spectrum * self.end(states).sigmoid().mT, wav.shape[-1])

    def loss(self, mixture: Mixture) -> Tensor:
        """The negative SNR in dB, up to `BEST_DB`."""
        return -snr(self(mixture.noisy), mixture.speech).clamp(max=BEST_DB).mean()
