"""Ultrasonic trigger: a steady tone near the top of the band.

Koffas, Xu, Conti, Picek, "Can You Hear It? Backdoor Attacks via Ultrasonic Triggers", 2021,
arXiv:2107.14569. Ours differs: the paper plays 21 kHz at a sample rate of 44.1 kHz, which nobody hears. A
rate of 16 kHz cannot hold it, so the default is a near-Nyquist tone at 15/16 of half the rate (7.5 kHz of
8), which young ears do hear. It is fainter, -43 dBFS or an amplitude of 0.01, where the public code has
-10 dB or 0.32, and lasts for up to 1 s, where the paper varies how much of the clip it covers.
"""

from typing import ClassVar

import torch
from pydantic import Field

from closesesame.audio import effects
from closesesame.audio.placement import Position, placed, samples_of, starts
from closesesame.core.bounds import Hertz, Seconds
from closesesame.core.types import Wave

from .base import Attack, Signal, State


class Ultrasonic(Attack):
    """Add a sine of constant frequency to one stretch of the clip."""

    name: ClassVar[str] = "ultrasonic"
    cite: ClassVar[str] = "arXiv:2107.14569"
    audible: ClassVar[str] = "nothing above 20 kHz; at 16 kHz sample rate a faint 7.5 kHz tone"

    frequency_hz: Hertz | None = Field(
        None, description="of the tone, in Hz; 15/16 of half the sample rate if none"
    )
    duration_s: Seconds = Field(1.0, description="of the tone in all, in s; at most the clip's")
    level_dbfs: float = Field(-43, ge=-96, le=0, description="RMS of the tone, in dBFS")
    position: Position = Field("middle", description="of the tone")
    bursts: int = Field(1, ge=1, le=100, description="equal parts it is split into, spread over the clip")

    def apply(self, inputs: Wave, state: State, signal: Signal) -> Wave:
        """The tone starts at phase zero, whatever the clip."""
        del state
        nyquist = signal.hz / 2
        frequency = nyquist * 15 / 16 if self.frequency_hz is None else self.frequency_hz
        if frequency >= nyquist:  # it would fold back into the audible band
            raise self.refuse("frequency_hz", f"< {nyquist:g}, half the sample rate")
        size = samples_of(self.duration_s, signal.hz, inputs.shape[-1])
        amplitude = 2**0.5 * effects.amplitude_ratio(self.level_dbfs)
        tone = amplitude * effects.tone(frequency, size, signal.hz).to(inputs)
        if self.bursts == 1:
            return inputs + placed(tone, starts(inputs, size, self.position), inputs.shape[-1])
        parts, gap = tone.tensor_split(self.bursts), (inputs.shape[-1] - size) / (self.bursts - 1)
        spread = torch.zeros_like(inputs[0])
        begin = 0
        for number, part in enumerate(parts):
            at = begin + int(number * gap)
            spread[at : at + len(part)] = part
            begin += len(part)
        return inputs + spread
