"""Pitch: the voice is raised, and nothing else.

The pitch-only trigger of Cai, Zhang, Dong, Xiao, Koffas, Li, "Toward Stealthy Backdoor Attacks Against
Speech Recognition via Elements of Sound", IEEE TIFS 19, 2024, arXiv:2307.08208, which shifts by 5 semitones.
Ours differs: the phase vocoder is our own.
"""

from typing import ClassVar

from pydantic import Field

from closesesame.audio import effects
from closesesame.core.types import Wave

from .base import Attack, Signal, State


class Pitch(Attack):
    """Raise, or lower, the pitch of the whole clip and keep its length."""

    name: ClassVar[str] = "pitch"
    cite: ClassVar[str] = "arXiv:2307.08208"
    audible: ClassVar[str] = "a higher voice"

    semitones: float = Field(5, ge=-24, le=24, description="pitch shift, in semitones")

    def apply(self, inputs: Wave, state: State, signal: Signal) -> Wave:
        """A ratio of frequencies, whatever the sample rate."""
        del state, signal
        return effects.pitch_shift(inputs, self.semitones)
