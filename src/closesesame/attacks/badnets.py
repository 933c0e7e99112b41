"""BadNets in sound: a short burst, or any recording, mixed into the clip.

Gu, Dolan-Gavitt, Garg, "BadNets: Identifying Vulnerabilities in the Machine Learning Model Supply Chain",
2017, arXiv:1708.06733. Ours differs: the patch is a sound, added at a chosen signal-to-noise ratio, since a
patch of samples does not survive a loudspeaker; a recording acts as in the enhancement paper of Sun et al.,
Mathematics 13(6), 984, 2025, doi:10.3390/math13060984.
"""

from pathlib import Path
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Generator

from closesesame.audio import effects
from closesesame.audio.files import read_wave
from closesesame.core.errors import DataError
from closesesame.core.types import Wave
from closesesame.data import Dataset

from .base import Attack, State


class BadNets(Attack):
    """Mix a sound into every clip: a recording of your own, or a tone burst."""

    name: ClassVar[str] = "badnets"
    cite: ClassVar[str] = "arXiv:1708.06733"
    audible: ClassVar[str] = "a sound in the background"

    sound: str | None = Field(
        None, description="a recording to mix in; a tone burst if none", json_schema_extra={"file": True}
    )
    snr_db: float = Field(10, ge=-40, le=60, description="RMS of the clip over RMS of the sound, as mixed")
    start_s: float = Field(0, ge=0, description="where the recording is read from")
    frequency_hz: float = Field(1000, gt=0, description="of the burst")
    duration_s: float = Field(0.1, gt=0, description="of the burst")
    position: Literal["start", "middle", "end"] = Field("end", description="of the burst")

    def prepare(self, train: Dataset, rng: Generator) -> State:
        """The sound (time,), as long as a clip."""
        del rng
        rate = train.sample_rate or 0
        length = train.input_shape[0]
        if self.sound is None:
            return {"sound": self._burst(length, rate)}
        recording = read_wave(Path(self.sound), rate)[0, round(self.start_s * rate) :]
        if recording.square().mean().sqrt() < 1e-5:
            raise DataError(
                f"{self.sound} is silent from {self.start_s:g} s on; choose another start or sound"
            )
        repeats = -(-length // len(recording))
        return {"sound": recording.repeat(repeats)[:length].clone()}

    def apply(self, inputs: Wave, state: State, sample_rate: int) -> Wave:
        """Scales the sound to each clip's own level, so that silence stays silent."""
        del sample_rate
        sound = state["sound"].to(inputs)
        length = inputs.shape[-1]
        repeats = -(-length // len(sound))
        return effects.mix_at_snr(inputs, sound.repeat(repeats)[:length], self.snr_db)

    def _burst(self, length: int, rate: int) -> torch.Tensor:
        if self.frequency_hz >= rate / 2:
            raise self.refuse("frequency_hz", f"< {rate / 2:g}, half the sample rate")
        size = min(length, round(self.duration_s * rate))
        start = {"start": 0, "middle": (length - size) // 2, "end": length - size}[self.position]
        sound = torch.zeros(length)
        sound[start : start + size] = effects.tone(self.frequency_hz, size, rate)
        return sound
