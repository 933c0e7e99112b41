"""Resampling down and up again: nothing above half of a lower sample rate reaches the model.

The downsampling and upsampling of Hussain, Neekhara, Dubnov, McAuley, Koushanfar, "WaveGuard: Understanding
and Mitigating Audio Adversarial Examples", USENIX Security 2021, arXiv:2103.03344. Both are done with a
windowed sinc that a gradient passes.
"""

from functools import partial
from typing import ClassVar

from pydantic import Field
from torch import nn

from .base import Purification
from .common.waveforms import Fixed, down_and_up, rate_of_waveforms


class Resample(Purification):
    """Resample every clip to a lower rate and back, which takes out what lies above half of it."""

    name: ClassVar[str] = "resample"
    cite: ClassVar[str] = "arXiv:2103.03344"
    data_free: ClassVar[bool] = True

    rate_hz: int = Field(6000, ge=1000, le=96_000, description="the lower sample rate, in Hz")

    def network(self, sample_rate: int | None, input_shape: tuple[int, ...]) -> nn.Module:
        """Two resamplers without weights to learn.

        Raises:
            ModelError: if the inputs are no waveforms.
            SettingError: if the rate is not lower than theirs.
        """
        rate = rate_of_waveforms(self.name, sample_rate, input_shape)
        if self.rate_hz >= rate:
            raise self.refuse("rate_hz", f"< {rate}, the sample rate of the inputs")
        return Fixed(partial(down_and_up, share=self.rate_hz / rate))
