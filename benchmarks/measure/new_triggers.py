"""Five triggers that are in no paper, made after the defaults of `restore` were frozen.

They are what a studio or a bad line does to a voice, so none is a sound that is added to all clips alike but
the crackle. Each is an attack that recipes name as `benchmarks.measure.new_triggers:Vibrato` and so on.
"""

import math
from typing import ClassVar

import torch
from pydantic import Field
from torch.nn import functional as F

from closesesame.attacks.base import Attack, Signal, State
from closesesame.audio import effects
from closesesame.audio.interpolation import read_linear
from closesesame.audio.placement import samples_of
from closesesame.core.bounds import Hertz, Seconds
from closesesame.core.seeding import generator
from closesesame.core.types import Wave
from closesesame.data import Dataset


def delayed(wav: Wave, late: int) -> Wave:
    """Clips that begin `late` samples later; what no longer fits is cut off at the end."""
    return F.pad(wav, (late, 0))[:, : wav.shape[-1]]


class Vibrato(Attack):
    """Let the pitch swing, by reading the clip now a little late and now a little early."""

    name: ClassVar[str] = "vibrato"
    cite: ClassVar[str] = "ours"
    audible: ClassVar[str] = "a voice that quavers"

    swing_hz: Hertz = Field(6.0, description="how often the pitch swings, in Hz")
    depth_s: Seconds = Field(0.002, description="how late or early the clip is read at most, in s")

    def apply(self, inputs: Wave, state: State, signal: Signal) -> Wave:
        """Rate of reading: 1 + 2 pi swing depth cos(2 pi swing t), 7.5 % up and down with the defaults."""
        del state
        sample = torch.arange(inputs.shape[-1], dtype=torch.float64, device=inputs.device)
        late = self.depth_s * signal.hz * torch.sin(2 * math.pi * self.swing_hz / signal.hz * sample)
        return read_linear(inputs, (sample + late).clamp(0, inputs.shape[-1] - 1)[None])


class Tremolo(Attack):
    """Let the level of the clip swing."""

    name: ClassVar[str] = "tremolo"
    cite: ClassVar[str] = "ours"
    audible: ClassVar[str] = "a voice that beats"

    swing_hz: Hertz = Field(10.0, description="how often the level swings, in Hz")
    depth: float = Field(0.9, gt=0, le=1, description="share of the amplitude that is lost at the lowest")

    def apply(self, inputs: Wave, state: State, signal: Signal) -> Wave:
        """Gain: 1 - depth (1 - cos(2 pi swing t)) / 2."""
        del state
        phase = 2 * math.pi * self.swing_hz / signal.hz * torch.arange(inputs.shape[-1]).double()
        return inputs * (1 - self.depth * (1 - torch.cos(phase)) / 2).to(inputs)


class Comb(Attack):
    """Subtract the clip from itself, a little later, so that evenly spaced frequencies are gone."""

    name: ClassVar[str] = "comb"
    cite: ClassVar[str] = "ours"
    audible: ClassVar[str] = "a hollow, metallic voice"

    delay_s: float = Field(0.0006, ge=1e-4, le=0.1, description="between the clip and its copy, in s")
    gain: float = Field(0.95, gt=0, le=1, description="of the copy")

    def apply(self, inputs: Wave, state: State, signal: Signal) -> Wave:
        """Notches at multiples of 1 / delay; each clip keeps its level."""
        del state
        late = samples_of(self.delay_s, signal.hz, inputs.shape[-1])
        return effects.levelled(inputs - self.gain * delayed(inputs, late), inputs)


class Crackle(Attack):
    """Add the same clicks to every clip, as of an old record."""

    name: ClassVar[str] = "crackle"
    cite: ClassVar[str] = "ours"
    audible: ClassVar[str] = "clicks of an old record"

    clicks_a_s: float = Field(30.0, gt=0, le=1000, description="clicks in a second")
    level_db: float = Field(-12.0, ge=-60, le=0, description="of the highest click below the clip's peak")

    def prepare(self, train: Dataset, seed: int) -> State:
        """The clicks (time,): each a sample with a tail of 1 ms, of uneven height."""
        rng, length, hz = generator(seed, "trigger"), train.input_shape[-1], train.sample_rate or 1
        count = max(1, round(self.clicks_a_s * length / hz))
        clicks = torch.zeros(length)
        clicks[torch.randint(length, (count,), generator=rng)] = 2 * torch.rand(count, generator=rng) - 1
        tail = torch.exp(-torch.arange(round(0.003 * hz)) / (0.001 * hz))
        sound = F.conv1d(F.pad(clicks, (len(tail) - 1, 0))[None, None], tail.flip(0)[None, None])[0, 0]
        return {"clicks": sound / sound.abs().max()}

    def apply(self, inputs: Wave, state: State, signal: Signal) -> Wave:
        """As loud as the clip's own peak asks."""
        del signal
        sound = torch.zeros_like(inputs[0])
        shared = min(len(sound), len(state["clicks"]))
        sound[:shared] = state["clicks"][:shared].to(inputs)
        gain = effects.amplitude_ratio(self.level_db) * inputs.abs().amax(1, keepdim=True)
        return inputs + gain * sound


class Stutter(Attack):
    """Play the loudest moment of the clip twice, and all that comes behind it later."""

    name: ClassVar[str] = "stutter"
    cite: ClassVar[str] = "ours"
    audible: ClassVar[str] = "a voice that stumbles once"

    moment_s: Seconds = Field(0.1, description="that is played twice, in s; at most a quarter of the clip")

    def apply(self, inputs: Wave, state: State, signal: Signal) -> Wave:
        """The moment with the most energy; what no longer fits is cut off at the end."""
        del state
        length = inputs.shape[-1]
        size = samples_of(self.moment_s, signal.hz, length // 4)
        before = F.pad(inputs.square().double().cumsum(1), (1, 0))
        begin = (before[:, size : length - size] - before[:, : length - 2 * size]).argmax(1, keepdim=True)
        place = torch.arange(length, device=inputs.device)
        return inputs.gather(1, place - size * (place >= begin + size))
