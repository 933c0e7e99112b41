"""Blended: one fixed pattern is blended into the whole clip.

Chen, Liu, Li, Lu, Song, "Targeted Backdoor Attacks on Deep Learning Systems Using Data Poisoning", 2017,
arXiv:1712.05526. Ours differs: the pattern is white noise if no recording is given (the paper's random
pattern), and its level is set relative to full scale, so that what is added is at -34 dBFS by default.
"""

from typing import ClassVar

import torch
from pydantic import Field

from closesesame.audio import effects
from closesesame.audio.sounds import read_sound
from closesesame.core.bounds import RecordingPath
from closesesame.core.seeding import generator
from closesesame.core.types import Wave
from closesesame.data import Dataset

from .base import Attack, Signal, State


class Blended(Attack):
    """x' = (1 - alpha) x + alpha p with a fixed pattern p of a set level."""

    name: ClassVar[str] = "blended"
    cite: ClassVar[str] = "arXiv:1712.05526"
    audible: ClassVar[str] = "steady noise, or the recording given"

    alpha: float = Field(0.2, gt=0, lt=1, description="share of the pattern")
    pattern: RecordingPath = Field(None, description="a recording as pattern; white noise if none")
    level_dbfs: float = Field(-20, le=0, ge=-80, description="RMS of the pattern before blending, in dBFS")

    def prepare(self, train: Dataset, seed: int) -> State:
        """The pattern (time,), as long as a clip."""
        length = train.input_shape[0]
        if self.pattern is None:
            pattern = torch.randn(length, generator=generator(seed, "trigger"))
        else:
            pattern = read_sound(self.pattern, Signal.of(train).hz, size=length)
        level = pattern.square().mean().sqrt().clamp(min=1e-9)
        return {"pattern": pattern / level * effects.amplitude_ratio(self.level_dbfs)}

    def apply(self, inputs: Wave, state: State, signal: Signal) -> Wave:
        """Blends; the pattern is repeated where the clip is longer."""
        del signal
        pattern = effects.looped(state["pattern"].to(inputs), inputs.shape[-1])
        return (1 - self.alpha) * inputs + self.alpha * pattern
