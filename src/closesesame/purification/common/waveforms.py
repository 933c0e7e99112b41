"""What purifiers of waveforms share: their inputs, a module without weights, and two changes to a clip."""

from collections.abc import Callable
from typing import Annotated

from pydantic import AfterValidator
from torch import nn
from torch.nn import functional as F

from closesesame.audio.effects import resample_by
from closesesame.core.errors import ModelError
from closesesame.core.types import Wave


def _odd(number: int) -> int:
    if number % 2 == 0:
        raise ValueError(f"must be odd, got {number}")
    return number


Odd = Annotated[int, AfterValidator(_odd)]
"""The length of a filter that has a middle."""


def rate_of_waveforms(name: str, sample_rate: int | None, input_shape: tuple[int, ...]) -> int:
    """The sample rate of inputs that are waveforms (time,).

    Raises:
        ModelError: if they are something else; `name` is the method that refuses them.
    """
    if sample_rate is None or len(input_shape) != 1:
        raise ModelError(f"{name} takes waveforms with a sample rate, got inputs {list(input_shape)}")
    return sample_rate


class Fixed(nn.Module):
    """A change to waveforms that has nothing to learn."""

    def __init__(self, change: Callable[[Wave], Wave]) -> None:
        super().__init__()
        self.change = change

    def forward(self, wav: Wave) -> Wave:
        """Clips (batch, time), changed."""
        return self.change(wav)


def median(wav: Wave, taps: int) -> Wave:
    """The median of each sample and of those around it, `taps` in all; the ends of a clip are repeated."""
    around = F.pad(wav[:, None], (taps // 2, taps // 2), mode="replicate")[:, 0]
    middle: Wave = around.unfold(-1, taps, 1).median(-1).values
    return middle


def down_and_up(wav: Wave, share: float) -> Wave:
    """Clips read at `share` of their sample rate, below 1, and at their own again."""
    length = wav.shape[-1]
    return resample_by(resample_by(wav, share, round(length * share)), 1 / share, length)
