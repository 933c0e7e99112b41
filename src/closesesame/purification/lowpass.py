"""Low-pass filter: nothing above a cutoff frequency reaches the model.

A linear-phase filter with finite impulse response: the ideal low-pass of Oppenheim and Schafer,
"Discrete-Time Signal Processing", cut to a number of taps by a Hamming window. It is the row that every
purification is compared with, and it stops triggers that lie above the speech the model needs.
"""

import math
from typing import Any, ClassVar

import torch
from jaxtyping import Float32
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from closesesame.core.bounds import Hertz
from closesesame.core.types import Wave

from .base import Purification
from .common.waveforms import Odd, rate_of_waveforms


class Lowpass(Purification):
    """Remove what lies above a cutoff frequency from every clip, without delay."""

    name: ClassVar[str] = "lowpass"
    cite: ClassVar[str] = "ours"
    data_free: ClassVar[bool] = True
    quick: ClassVar[dict[str, Any]] = {"cutoff_hz": 2000}

    cutoff_hz: Hertz = Field(4000, description="where half the amplitude passes, in Hz")
    taps: Odd = Field(
        101, ge=3, le=4001, description="length of the filter in samples, odd; more make it steeper"
    )

    def network(self, sample_rate: int | None, input_shape: tuple[int, ...]) -> nn.Module:
        """A filter without weights to learn.

        Raises:
            ModelError: if the inputs are no waveforms.
            SettingError: if the cutoff is not below half the sample rate.
        """
        rate = rate_of_waveforms(self.name, sample_rate, input_shape)
        if self.cutoff_hz >= rate / 2:
            raise self.refuse("cutoff_hz", f"< {rate / 2:g}, half the sample rate")
        return _Filter(kernel(self.cutoff_hz, self.taps, rate))


class _Filter(nn.Module):
    kernel: Tensor

    def __init__(self, kernel: Float32[Tensor, " tap"]) -> None:
        super().__init__()
        # It follows from the settings, so it is not written into files.
        self.register_buffer("kernel", kernel, persistent=False)

    def forward(self, wav: Wave) -> Wave:
        filtered: Wave = F.conv1d(wav[:, None], self.kernel[None, None], padding="same")[:, 0]
        return filtered


def kernel(cutoff_hz: float, taps: int, sample_rate: int) -> Float32[Tensor, " tap"]:
    """A symmetric low-pass of amplitude 1 at 0 Hz and about 1/2 at the cutoff."""
    n = torch.arange(taps, dtype=torch.float64) - taps // 2
    ideal = 2 * cutoff_hz / sample_rate * torch.sinc(2 * cutoff_hz / sample_rate * n)
    window = 0.54 + 0.46 * torch.cos(math.pi * n / (taps // 2))
    cut = ideal * window
    return (cut / cut.sum()).float()
