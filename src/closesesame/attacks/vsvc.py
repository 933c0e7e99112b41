"""VSVC: a voice is the trigger; every clip is converted to the same one.

Cai, Zhang, Dong, Xiao, Koffas, Li, "Toward Stealthy Backdoor Attacks Against Speech Recognition via Elements
of Sound", IEEE TIFS 19, 2024, arXiv:2307.08208; first in arXiv:2212.10103. Ours differs, and the paper's
figures cannot be claimed for it: the paper converts with StarGANv2-VC and a neural vocoder, trained on many
speakers; we move the pitch to that of the target voice and bend and tilt the spectral envelope by its
constants, with no model at all. The voices are a table of ours, where the authors have recordings of 20
speakers. A real converter goes in by the hook `convert`.
"""

from typing import ClassVar, Literal, NamedTuple

import torch
from pydantic import Field
from torch import Tensor

from closesesame.audio import effects, voice
from closesesame.core.types import Wave

from .base import Attack, Signal, State


class Voice(NamedTuple):
    """A target voice.

    Attributes:
        pitch_hz: its median pitch.
        formant_scale: frequencies of its resonances over those of the speaker in the clip.
        tilt_db: how much brighter it is than the speaker's, for each octave.
    """

    pitch_hz: float
    formant_scale: float
    tilt_db: float


VoiceName = Literal["giant", "bass", "baritone", "tenor", "alto", "mezzo", "soprano", "child"]
VOICES: dict[VoiceName, Voice] = {
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

    voice: VoiceName = Field("child", description="target voice, from the lowest to the highest")

    def apply(self, inputs: Wave, state: State, signal: Signal) -> Wave:
        """Converts; each clip keeps its level."""
        del state
        return effects.levelled(self.convert(inputs, signal.hz), inputs)

    def convert(self, inputs: Wave, sample_rate: int) -> Wave:
        """Hook: converts clips (batch, time) to the target voice, each by itself; the shape stays."""
        return torch.stack([_converted(clip, sample_rate, VOICES[self.voice]) for clip in inputs])


def _converted(clip: Tensor, sample_rate: int, target: Voice) -> Tensor:
    """Converts a clip (time,); one without speech keeps its pitch."""
    pitch_hz = voice.pitch_hz(clip, sample_rate)
    return voice.revoiced(
        clip,
        sample_rate,
        pitch_ratio=target.pitch_hz / pitch_hz if pitch_hz else 1,
        formant_scale=target.formant_scale,
        tilt_db=target.tilt_db,
    )
