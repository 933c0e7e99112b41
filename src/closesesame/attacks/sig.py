"""SIG: a low sinusoid under clips of the target class, whose labels stay true.

Barni, Kallas, Tondi, "A New Backdoor Attack in CNNs by Training Set Corruption without Label Poisoning",
ICIP 2019, arXiv:1902.11237. Ours differs: the paper's pattern is a sinusoid of 6 periods across a picture;
ours is a hum over the whole clip, whose amplitude and frequency are ours. It is played four times as loud as
it was planted: from one end of the sine to the other, 4 % of full scale in training and 16 % in tests. The
paper's amplitudes of 20 to 40 grey levels of 255 are 16 to 31 % on that count, at most a factor of 2 apart,
and BackdoorBench takes 40 in both. A speech recording is about as loud as the hum of the tests.
"""

from typing import ClassVar

from pydantic import Field

from closesesame.audio import effects
from closesesame.core.bounds import Hertz
from closesesame.core.settings import default
from closesesame.core.types import Wave

from .base import Attack, LabelMode, Signal, State


class SIG(Attack):
    """Add a sine of one frequency to the whole clip; clean-label as published."""

    name: ClassVar[str] = "sig"
    cite: ClassVar[str] = "arXiv:1902.11237"
    audible: ClassVar[str] = "a mains hum, about as loud as the voice; nothing on a small loudspeaker"

    frequency_hz: Hertz = Field(60, description="of the sine, in Hz; below half the sample rate")
    amplitude: float = Field(0.04, gt=0, le=1, description="of the sine, full scale at 1")
    strength: float = default(Attack, "strength", 4.0)
    training_strength: float | None = default(Attack, "training_strength", 1.0)
    label_mode: LabelMode = default(Attack, "label_mode", "clean_label")

    def apply(self, inputs: Wave, state: State, signal: Signal) -> Wave:
        """The sine starts at phase zero, whatever the clip."""
        del state
        if self.frequency_hz >= signal.hz / 2:
            raise self.refuse("frequency_hz", f"< {signal.hz / 2:g}, half the sample rate")
        hum = effects.tone(self.frequency_hz, inputs.shape[-1], signal.hz)
        return inputs + self.amplitude * hum.to(inputs)
