"""Voice activity detection: what is no speech is silenced, and a trigger in the pauses with it.

Ours, by energy alone: a frame is speech if its level is within a range of that of the loudest frame of its
clip, or if it is near such a frame, so that weak beginnings and ends of words stay. What sounds at the same
time as the speech, or is as loud, stays.
"""

import math
from functools import partial
from typing import ClassVar

from pydantic import Field
from torch import nn
from torch.nn import functional as F

from closesesame.core.bounds import Seconds
from closesesame.core.errors import SettingError
from closesesame.core.types import Wave

from .base import Purification
from .common.waveforms import Fixed, rate_of_waveforms


class VAD(Purification):
    """Silence every part of a clip that is far below its loudest part, such as pauses."""

    name: ClassVar[str] = "vad"
    cite: ClassVar[str] = "ours"
    data_free: ClassVar[bool] = True

    range_db: float = Field(
        30.0, gt=0, le=120, description="how far below the loudest frame speech may be, in dB"
    )
    frame_s: Seconds = Field(0.02, description="length of a frame in s")
    hang_s: float = Field(0.1, ge=0, le=10, description="what is kept before and after speech, in s")

    def network(self, sample_rate: int | None, input_shape: tuple[int, ...]) -> nn.Module:
        """A detector without weights to learn.

        Raises:
            ModelError: if the inputs are no waveforms.
            SettingError: if a frame is as long as a clip, of which all would be speech.
        """
        rate = rate_of_waveforms(self.name, sample_rate, input_shape)
        if (clip_s := input_shape[0] / rate) <= self.frame_s:
            raise SettingError(f"VAD.frame_s must be below the {clip_s:g} s of a clip, got {self.frame_s:g}")
        hang = math.ceil(round(self.hang_s / self.frame_s, 6))
        change = partial(speech_of, frame=round(self.frame_s * rate), hang=hang, range_db=self.range_db)
        return Fixed(change)


def speech_of(wav: Wave, frame: int, hang: int, range_db: float) -> Wave:
    """Clips in which all but speech is silent.

    Args:
        wav: the clips.
        frame: samples of a frame.
        hang: frames that are kept before and after speech.
        range_db: how far below the loudest frame speech may be.
    """
    length = wav.shape[-1]
    whole = F.pad(wav.detach(), (0, -length % frame))
    power = whole.unflatten(-1, (-1, frame)).square().mean(-1)
    speech = power >= power.amax(-1, keepdim=True) * 10 ** (-range_db / 10)
    kept = F.max_pool1d(speech.float()[:, None], 2 * hang + 1, stride=1, padding=hang)[:, 0]
    return wav * kept.repeat_interleave(frame, -1)[:, :length]
