"""JingleBack: a style, made by guitar pedals, is the trigger.

Koffas, Pajola, Picek, Conti, "Going in Style: Audio Backdoors Through Stylistic Transformations", ICASSP
2023, arXiv:2211.03117. Ours differs: the six chains are the paper's, but the effects in them are our own, of
their textbook forms, not those of the Pedalboard package: levels and sweeps are alike, samples are not. Its
chorus depth of 5 is read as a sweep of 5 ms; reverberation is noise that dies away, the same for all; the
ladder filter has no resonance and no drive of its own.
"""

from typing import ClassVar, Literal

from pydantic import Field

from closesesame.audio import effects, rooms, styles
from closesesame.core.bounds import Hertz
from closesesame.core.seeding import generator
from closesesame.core.types import Wave
from closesesame.data import Dataset

from .base import Attack, Signal, State

Style = Literal[
    "pitch", "distortion", "chorus", "pitch_distortion_chorus", "chorus_distortion_reverb", "phaser"
]
"""The paper's styles 0 to 5, by what is in them, in order; a gain and a high-pass come before the phaser."""


class JingleBack(Attack):
    """Send every clip through one of six chains of guitar pedals."""

    name: ClassVar[str] = "jingleback"
    cite: ClassVar[str] = "arXiv:2211.03117"
    audible: ClassVar[str] = "a guitar pedal: a thin swept sound, distortion, chorus, or a raised voice"

    style: Style = Field("phaser", description="the pedals of the chain, in order")
    semitones: float = Field(10, ge=-24, le=24, description="pitch shift, in semitones")
    gain_db: float = Field(12, ge=-24, le=36, description="gain before the phaser, in dB")
    cutoff_hz: Hertz = Field(
        1000, description="of the high-pass before the phaser, in Hz; below half the sample rate"
    )

    def prepare(self, train: Dataset, seed: int) -> State:
        """The reverberation (tap,), if there is one; no seed changes it."""
        del seed
        hz = Signal.of(train).hz
        if self.style == "phaser" and self.cutoff_hz >= hz / 2:
            raise self.refuse("cutoff_hz", f"< {hz / 2:g}, half the sample rate")
        if self.style != "chorus_distortion_reverb":
            return {}
        # A room of size 0.6 in Schroeder's reverberator with Freeverb's constants: 31 ms, gain 0.87.
        return {"tail": rooms.decaying_noise(1.5, hz, generator(0, "reverb"))}

    def apply(self, inputs: Wave, state: State, signal: Signal) -> Wave:
        """The chain."""
        wav, hz = inputs, signal.hz
        match self.style:
            case "pitch":
                wav = effects.pitch_shift(wav, self.semitones)
            case "distortion":
                wav = styles.distortion(wav, 30)
            case "chorus":
                wav = _chorus(wav, hz, 10)
            case "pitch_distortion_chorus":
                wav = effects.pitch_shift(wav, self.semitones)
                wav = _chorus(styles.distortion(wav, 20), hz, 8)
            case "chorus_distortion_reverb":
                wav = styles.distortion(_chorus(wav, hz, 15), 20)
                wav = styles.reverb(wav, state["tail"].to(wav), dry=0.5, wet=0.25)
            case "phaser":
                wav = effects.amplitude_ratio(self.gain_db) * wav
                wav = styles.phaser(styles.ladder_high_pass(wav, hz, self.cutoff_hz), hz)
        return wav


def _chorus(wav: Wave, hz: int, delay_ms: float) -> Wave:
    return styles.chorus(wav, hz, rate_hz=1, delay_ms=delay_ms, sweep_ms=5, mix=0.5)
