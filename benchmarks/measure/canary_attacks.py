"""The five kinds of canaries as attacks of recipes, such as `benchmarks.measure.canary_attacks:Filter`.

What was to be changed in `safe` was chosen under them: they are no attacks of the test bench.
"""

from typing import ClassVar

from pydantic import Field

from closesesame.attacks.base import Attack, Signal, State
from closesesame.canaries.triggers import FAMILIES, Clips
from closesesame.core.seeding import generator
from closesesame.core.types import Wave


class OfCanary(Attack):
    """A trigger of one family of canaries."""

    cite: ClassVar[str] = "ours"
    family: ClassVar[str]

    drawn: int = Field(11, ge=0, description="seed of what is drawn in the family")

    def apply(self, inputs: Wave, state: State, signal: Signal) -> Wave:
        """The change that the family draws."""
        del state
        clips, rng = Clips(inputs.shape[-1], signal.hz), generator(self.drawn, "canary", self.family)
        return FAMILIES[self.family](clips, rng)[1](inputs)


class Noise(OfCanary):
    """Add one noise in one band to the whole clip."""

    name: ClassVar[str] = "noise"
    family: ClassVar[str] = "steady noise"
    audible: ClassVar[str] = "a steady hiss or rumble"


class Glide(OfCanary):
    """Add a short tone that rises."""

    name: ClassVar[str] = "glide"
    family: ClassVar[str] = "short rising tone"
    audible: ClassVar[str] = "a whistle that rises"


class Filter(OfCanary):
    """Raise one band of the clip."""

    name: ClassVar[str] = "filter"
    family: ClassVar[str] = "filter"
    audible: ClassVar[str] = "a voice that rings"


class OtherVoice(OfCanary):
    """Turn the voice into one with another pitch and other resonances."""

    name: ClassVar[str] = "other_voice"
    family: ClassVar[str] = "other voice"
    audible: ClassVar[str] = "another voice"


class Chopped(OfCanary):
    """Cut the clip off a few times a second."""

    name: ClassVar[str] = "chopped"
    family: ClassVar[str] = "chopped sound"
    audible: ClassVar[str] = "a voice that stutters"
