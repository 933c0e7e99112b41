"""Median filter over time: each sample becomes the median of those around it.

The local smoothing of Yang, Li, Chen, Song, "Characterizing Audio Adversarial Examples Using Temporal
Dependency", ICLR 2019, arXiv:1809.10875; the filter is Tukey's. What is shorter than half of the window, such
as a click, is gone; of a tone the less is left the closer its period comes to the window.
"""

from functools import partial
from typing import ClassVar

from pydantic import Field
from torch import nn

from .base import Purification
from .common.waveforms import Fixed, Odd, median, rate_of_waveforms


class Median(Purification):
    """Replace every sample by the median of the samples around it, which takes out clicks."""

    name: ClassVar[str] = "median"
    cite: ClassVar[str] = "arXiv:1809.10875"
    data_free: ClassVar[bool] = True

    taps: Odd = Field(3, ge=3, le=31, description="length of the window in samples, odd")

    def network(self, sample_rate: int | None, input_shape: tuple[int, ...]) -> nn.Module:
        """A filter without weights to learn.

        Raises:
            ModelError: if the inputs are no waveforms.
        """
        rate_of_waveforms(self.name, sample_rate, input_shape)
        return Fixed(partial(median, taps=self.taps))
