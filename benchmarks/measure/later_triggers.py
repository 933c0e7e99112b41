"""Five more triggers that are in no paper, made after the augmentation of `restore` was changed.

They distort a voice, or play it in another way. Each is an attack that recipes name as
`benchmarks.measure.later_triggers:Robot` and so on.
"""

import math
from typing import ClassVar

import torch
from pydantic import Field

from closesesame.attacks.base import Attack, Signal, State
from closesesame.audio import effects
from closesesame.audio.placement import samples_of
from closesesame.core.bounds import Hertz, Seconds
from closesesame.core.types import Wave

from .new_triggers import delayed


class Robot(Attack):
    """Multiply a part of the clip by a tone, so that each frequency is split into two beside it."""

    name: ClassVar[str] = "robot"
    cite: ClassVar[str] = "ours"
    audible: ClassVar[str] = "the voice of a robot"

    carrier_hz: Hertz = Field(70.0, description="of the tone, in Hz")
    share: float = Field(0.8, gt=0, le=1, description="of the clip that is multiplied")

    def apply(self, inputs: Wave, state: State, signal: Signal) -> Wave:
        """Gain: 1 - share + share sin(2 pi carrier t); each clip keeps its level."""
        del state
        phase = 2 * math.pi * self.carrier_hz / signal.hz * torch.arange(inputs.shape[-1]).double()
        gain = (1 - self.share + self.share * torch.sin(phase)).to(inputs)
        return effects.levelled(inputs * gain, inputs)


class Overdrive(Attack):
    """Flatten the peaks of the clip, as a loudspeaker that is too small does."""

    name: ClassVar[str] = "overdrive"
    cite: ClassVar[str] = "ours"
    audible: ClassVar[str] = "a voice through a megaphone"

    drive: float = Field(
        12.0, ge=1, le=1000, description="times the peak of the clip, before it is flattened"
    )

    def apply(self, inputs: Wave, state: State, signal: Signal) -> Wave:
        """The hyperbolic tangent; each clip keeps its level."""
        del state, signal
        peak = inputs.abs().amax(1, keepdim=True).clamp(min=1e-9)
        return effects.levelled(torch.tanh(self.drive / peak * inputs), inputs)


class Backwards(Attack):
    """Play short pieces of the clip backwards, each in its place."""

    name: ClassVar[str] = "backwards"
    cite: ClassVar[str] = "ours"
    audible: ClassVar[str] = "a voice that gurgles"

    piece_s: Seconds = Field(0.03, description="length of a piece, in s; at most half the clip")

    def apply(self, inputs: Wave, state: State, signal: Signal) -> Wave:
        """What does not fill a piece at the end stays as it is."""
        del state
        length = inputs.shape[-1]
        size = max(1, samples_of(self.piece_s, signal.hz, length // 2))
        whole = length // size * size
        turned = inputs[:, :whole].unflatten(1, (-1, size)).flip(2).flatten(1)
        return torch.cat([turned, inputs[:, whole:]], 1)


class SlapEcho(Attack):
    """Add the clip to itself once, clearly later."""

    name: ClassVar[str] = "slap_echo"
    cite: ClassVar[str] = "ours"
    audible: ClassVar[str] = "one echo, as from a far wall"

    delay_s: Seconds = Field(0.12, description="between the clip and its echo, in s")
    gain: float = Field(0.7, gt=0, le=1, description="of the echo")

    def apply(self, inputs: Wave, state: State, signal: Signal) -> Wave:
        """Each clip keeps its level."""
        del state
        late = samples_of(self.delay_s, signal.hz, inputs.shape[-1])
        return effects.levelled(inputs + self.gain * delayed(inputs, late), inputs)


class Tinny(Attack):
    """Take from each sample most of the one before, so that low frequencies are nearly gone."""

    name: ClassVar[str] = "tinny"
    cite: ClassVar[str] = "ours"
    audible: ClassVar[str] = "a thin voice, as of a cheap telephone"

    weight: float = Field(0.97, gt=0, le=1, description="of the sample before")

    def apply(self, inputs: Wave, state: State, signal: Signal) -> Wave:
        """The first sample stays; each clip keeps its level."""
        del state, signal
        return effects.levelled(inputs - self.weight * delayed(inputs, 1), inputs)
