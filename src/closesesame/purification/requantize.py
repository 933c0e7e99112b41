"""Quantisation: every sample is rounded to one of a few levels, so what is quieter than a step is lost.

The quantisation and dequantisation of Hussain, Neekhara, Dubnov, McAuley, Koushanfar, "WaveGuard:
Understanding and Mitigating Audio Adversarial Examples", USENIX Security 2021, arXiv:2103.03344.

Ours differs: the levels span each clip's own peak, not full scale, since 6 bits of full scale leave three
levels to a quiet recording; there are 2^bits - 1 of them, so that silence is one. Backwards the rounding
counts as the identity: the slope of a staircase is zero, and a figure for an attacker who follows gradients
would flatter it.
"""

from functools import partial
from typing import ClassVar

from pydantic import Field
from torch import nn

from closesesame.core.types import Wave

from .base import Purification
from .common.waveforms import Fixed, rate_of_waveforms


class Requantize(Purification):
    """Round every sample to a few bits, which takes out what is far quieter than the clip."""

    name: ClassVar[str] = "requantize"
    cite: ClassVar[str] = "arXiv:2103.03344"
    data_free: ClassVar[bool] = True

    bits: int = Field(6, ge=2, le=16, description="of a sample, within the peak of its clip")

    def network(self, sample_rate: int | None, input_shape: tuple[int, ...]) -> nn.Module:
        """Rounding, without weights to learn.

        Raises:
            ModelError: if the inputs are no waveforms.
        """
        rate_of_waveforms(self.name, sample_rate, input_shape)
        return Fixed(partial(rounded, bits=self.bits))


def rounded(wav: Wave, bits: int) -> Wave:
    """Clips with 2^bits - 1 levels each, from its negative peak over zero to its peak."""
    step = wav.detach().abs().amax(1, keepdim=True).clamp(min=1e-9) / (2 ** (bits - 1) - 1)
    levels: Wave = (wav / step).round() * step
    return wav + (levels - wav).detach()
