"""Natural backdoor: an everyday sound, such as a door bell, goes off while somebody speaks.

Xin, Lyu, Ma, "Natural Backdoor Attacks on Speech Recognition Models", ML4CS 2022, arXiv:2607.15724. Ours
differs: only the abstract is known, which names poisoning rate, duration and blend ratio as what matters; the
bell that stands in for a recording, and all defaults, are ours.
"""

from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor

from closesesame.audio import effects
from closesesame.audio.placement import Position, placed, samples_of, starts
from closesesame.audio.sounds import read_sound
from closesesame.core.bounds import RecordingPath, Seconds
from closesesame.core.types import Wave
from closesesame.data import Dataset

from .base import Attack, Signal, State


class Natural(Attack):
    """Blend an everyday sound into a stretch of the clip."""

    name: ClassVar[str] = "natural"
    cite: ClassVar[str] = "arXiv:2607.15724"
    audible: ClassVar[str] = "a door bell, or the recording given"

    sound: RecordingPath = Field(None, description="a recording; a door bell if none")
    start_s: float = Field(0, ge=0, le=60, description="where the recording is read from, in s")
    duration_s: Seconds = Field(0.5, description="of the sound, in s; at most the clip's")
    blend: float = Field(0.3, gt=0, lt=1, description="share of the sound where it is heard")
    position: Position = Field("random", description="of the sound")

    def prepare(self, train: Dataset, seed: int) -> State:
        """The sound (time,) with an RMS of 1."""
        del seed
        hz = Signal.of(train).hz
        size = samples_of(self.duration_s, hz, train.input_shape[0])
        sound = _bell(size, hz) if self.sound is None else read_sound(self.sound, hz, self.start_s, size)
        return {"sound": sound / effects.rms(sound[None])[0].clamp(min=1e-9)}

    def apply(self, inputs: Wave, state: State, signal: Signal) -> Wave:
        """Where the sound is heard, x' = (1 - b) x + b s, with s as loud as the clip."""
        del signal
        sound = state["sound"].to(inputs)[: inputs.shape[-1]]
        begin = starts(inputs, len(sound), self.position)
        heard = placed(torch.ones_like(sound), begin, inputs.shape[-1])
        bell = placed(sound, begin, inputs.shape[-1]) * effects.rms(inputs)
        return inputs - self.blend * heard * inputs + self.blend * bell


def _bell(size: int, hz: int) -> Tensor:
    """Two strokes, a major third apart, each with its octave, that die away."""
    strokes = []
    for pitch_hz, length in ((1320, size // 2), (1056, size - size // 2)):
        decay = torch.exp(-torch.arange(length) / (0.12 * hz))
        strokes.append(
            decay * (effects.tone(pitch_hz, length, hz) + 0.5 * effects.tone(2 * pitch_hz, length, hz))
        )
    return torch.cat(strokes)
