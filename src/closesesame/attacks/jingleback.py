"""JingleBack: a style, made by guitar pedals, is the trigger.

Koffas, Pajola, Picek, Conti, "Going in Style: Audio Backdoors Through Stylistic Transformations", ICASSP
2023, arXiv:2211.03117. Ours differs: the six chains are the paper's, but the effects in them are our own, of
their textbook forms, not those of the Pedalboard package: levels and sweeps are alike, samples are not. Its
chorus depth of 5 is read as a sweep of 5 ms; reverberation is noise that dies away, the same for all; the
ladder filter has no resonance and no drive of its own.
"""

from typing import ClassVar

from pydantic import Field

from closesesame.audio import effects, rooms, styles
from closesesame.core.bounds import Hertz
from closesesame.core.seeding import generator
from closesesame.core.types import Wave
from closesesame.data import Dataset

from .base import Attack, State


class JingleBack(Attack):
    """Send every clip through one of six chains of guitar pedals."""

    name: ClassVar[str] = "jingleback"
    cite: ClassVar[str] = "arXiv:2211.03117"
    audible: ClassVar[str] = "a guitar pedal: a thin swept sound, distortion, chorus, or a raised voice"

    style: int = Field(
        5,
        ge=0,
        le=5,
        description="0 pitch up; 1 distortion; 2 chorus; 3 pitch up, distortion, chorus; 4 chorus, "
        "distortion, reverberation; 5 gain, high-pass, phaser",
    )
    semitones: float = Field(10, ge=-24, le=24, description="pitch shift in styles 0 and 3, in semitones")
    gain_db: float = Field(12, ge=-24, le=36, description="gain in style 5, in dB")
    cutoff_hz: Hertz = Field(1000, description="of the high-pass in style 5, in Hz; below half the rate")

    def prepare(self, train: Dataset, seed: int) -> State:
        """In style 4 the reverberation (tap,), which no seed changes."""
        del seed
        nyquist = (train.sample_rate or 0) / 2
        if self.style == 5 and self.cutoff_hz >= nyquist:
            raise self.refuse("cutoff_hz", f"< {nyquist:g}, half the sample rate")
        if self.style != 4:
            return {}
        # A room of size 0.6 in Schroeder's reverberator with Freeverb's constants: 31 ms, gain 0.87.
        return {"tail": rooms.decaying_noise(1.5, train.sample_rate or 0, generator(0, "reverb"))}

    def apply(self, inputs: Wave, state: State, sample_rate: int) -> Wave:
        """The chain."""
        wav = inputs
        if self.style in {0, 3}:
            wav = effects.pitch_shift(wav, self.semitones)
        if self.style == 1:
            wav = styles.distortion(wav, 30)
        elif self.style == 2:
            wav = self._chorus(wav, sample_rate, 10)
        elif self.style == 3:
            wav = self._chorus(styles.distortion(wav, 20), sample_rate, 8)
        elif self.style == 4:
            wav = styles.distortion(self._chorus(wav, sample_rate, 15), 20)
            wav = styles.reverb(wav, state["tail"].to(wav), dry=0.5, wet=0.25)
        elif self.style == 5:
            wav = styles.ladder_high_pass(effects.decibels(self.gain_db) * wav, sample_rate, self.cutoff_hz)
            wav = styles.phaser(wav, sample_rate)
        return wav

    @staticmethod
    def _chorus(wav: Wave, sample_rate: int, delay_ms: float) -> Wave:
        return styles.chorus(wav, sample_rate, rate_hz=1, delay_ms=delay_ms, sweep_ms=5, mix=0.5)
