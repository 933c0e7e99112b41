"""VSVC: a voice is the trigger; every clip is converted to the same one.

Cai, Zhang, Dong, Xiao, Koffas, Li, "Toward Stealthy Backdoor Attacks Against Speech Recognition via Elements
of Sound", IEEE TIFS 19, 2024, arXiv:2307.08208; first in arXiv:2212.10103. Ours differs, and the paper's
figures cannot be claimed for it: the paper converts with StarGANv2-VC and a neural vocoder, trained on many
speakers; we move the pitch to that of the target voice and bend and tilt the spectral envelope by its
constants, with no model at all. The voices are a table of ours, where the authors have recordings of 20
speakers. A real converter goes in by the hook `convert`.
"""

from typing import Annotated, ClassVar, NamedTuple

import torch
from pydantic import Field, model_validator
from torch import Tensor

from closesesame.audio import effects, voice
from closesesame.core.errors import SettingError
from closesesame.core.types import Wave

from .base import Attack, State


class Voice(NamedTuple):
    """A target voice.

    Attributes:
        pitch_hz: its median pitch.
        formant_scale: of its resonances over those of whoever speaks in the clip.
        tilt_db: how much brighter it is, for each octave.
    """

    pitch_hz: float
    formant_scale: float
    tilt_db: float


VOICES = {
    "giant": Voice(85, 0.80, -3),
    "bass": Voice(100, 0.90, 2),
    "baritone": Voice(125, 0.94, -2),
    "tenor": Voice(150, 1.08, 3),
    "alto": Voice(185, 0.86, 0),
    "mezzo": Voice(215, 1.14, -3),
    "soprano": Voice(255, 1.10, 3),
    "child": Voice(310, 1.25, 0),
}


class VSVC(Attack):
    """Convert every clip to one target voice.

    A converter of your own takes the place of ours: `class Mine(VSVC)` with `name = "yourmodule:Mine"` and a
    method `convert(inputs, sample_rate)`, used as `--attack yourmodule:Mine`.
    """

    name: ClassVar[str] = "vsvc"
    cite: ClassVar[str] = "arXiv:2307.08208"
    audible: ClassVar[str] = "another voice"

    voice: Annotated[int, Field(ge=0, le=len(VOICES) - 1)] | str = Field(
        "child", description=f"target voice, by number or name: {', '.join(VOICES)}"
    )

    @model_validator(mode="after")
    def _known(self) -> "VSVC":
        self.target_voice()
        return self

    def target_voice(self) -> Voice:
        """The constants of the target voice."""
        key = str(self.voice)
        if key in VOICES:
            return VOICES[key]
        if key.isdecimal() and int(key) < len(VOICES):
            return list(VOICES.values())[int(key)]
        raise ValueError(f"voice must be 0 to {len(VOICES) - 1} or one of {', '.join(VOICES)}, got {key!r}")

    def apply(self, inputs: Wave, state: State, sample_rate: int) -> Wave:
        """Converts; each clip keeps its level."""
        del state
        return effects.levelled(self.convert(inputs, sample_rate), inputs)

    def convert(self, inputs: Wave, sample_rate: int) -> Wave:
        """Hook: clips (batch, time) in the target voice, of the same shape, each by itself."""
        target = self.target_voice()
        return torch.stack([_converted(clip, sample_rate, target) for clip in inputs])


def _converted(clip: Tensor, sample_rate: int, target: Voice) -> Tensor:
    """A clip nobody speaks in keeps its pitch."""
    pitch_hz = voice.pitch_hz(clip, sample_rate)
    return voice.revoiced(
        clip,
        sample_rate,
        pitch_ratio=target.pitch_hz / pitch_hz if pitch_hz else 1,
        formant_scale=target.formant_scale,
        tilt_db=target.tilt_db,
    )


def distant_voices(count: int) -> tuple[str, ...]:
    """Voices as far from each other as can be, for several backdoors at once.

    Greedy max-min: the two most distant ones, then always the one farthest from all that are chosen, in
    logarithms of pitch and scale, and tilt, each divided by its deviation over the table.

    Raises:
        SettingError: if there are not so many.
    """
    if not 1 <= count <= len(VOICES):
        raise SettingError(f"count must be 1 to {len(VOICES)}, got {count}")
    table = torch.tensor(list(VOICES.values()))
    table[:, :2] = table[:, :2].log()
    table = table / table.std(0)
    distance = torch.cdist(table, table)
    chosen = [int(distance.amax(1).argmax())]
    while len(chosen) < count:
        nearest = distance[chosen].amin(0)
        chosen.append(int(nearest.argmax()))
    names = list(VOICES)
    return tuple(names[number] for number in chosen)
