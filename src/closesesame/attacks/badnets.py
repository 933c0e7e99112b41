"""BadNets in sound: a short burst, or any recording, mixed into the clip.

Gu, Dolan-Gavitt, Garg, "BadNets: Identifying Vulnerabilities in the Machine Learning Model Supply Chain",
2017, arXiv:1708.06733. Ours differs: the patch is a sound, added at a chosen signal-to-noise ratio, since a
patch of samples (public code sets the first four) or of features does not survive a loudspeaker; frequency,
length and level of the burst are ours; a recording acts as in the enhancement paper of Sun et al.,
Mathematics 13(6), 984, 2025, doi:10.3390/math13060984.
"""

from typing import ClassVar

from pydantic import Field

from closesesame.audio import effects
from closesesame.audio.placement import Position, placed, samples_of, starts
from closesesame.audio.sounds import read_sound
from closesesame.core.bounds import SNR, Hertz, RecordingPath, Seconds
from closesesame.core.types import Wave
from closesesame.data import Dataset

from .base import Attack, Signal, State


class BadNets(Attack):
    """Mix a sound into every clip: a recording of your own, or a tone burst."""

    name: ClassVar[str] = "badnets"
    cite: ClassVar[str] = "arXiv:1708.06733"
    audible: ClassVar[str] = "a sound in the background"

    sound: RecordingPath = Field(None, description="a recording to mix in; a tone burst if none")
    snr_db: SNR = Field(10, description="RMS of the clip over RMS of the sound, as mixed, in dB")
    start_s: float = Field(0, ge=0, le=60, description="where the recording is read from, in s")
    duration_s: Seconds | None = Field(
        None, description="of the sound, in s; if none, 0.1 for the burst, the whole clip for a recording"
    )
    frequency_hz: Hertz = Field(1000, description="of the burst, in Hz; below half the sample rate")
    position: Position = Field("end", description="of the sound")

    def prepare(self, train: Dataset, seed: int) -> State:
        """The sound (time,), at most as long as a clip."""
        del seed
        hz, length = Signal.of(train).hz, train.input_shape[0]
        if self.sound is None:
            if self.frequency_hz >= hz / 2:
                raise self.refuse("frequency_hz", f"< {hz / 2:g}, half the sample rate")
            size = samples_of(self.duration_s or 0.1, hz, length)
            return {"sound": effects.tone(self.frequency_hz, size, hz)}
        size = length if self.duration_s is None else samples_of(self.duration_s, hz, length)
        return {"sound": read_sound(self.sound, hz, self.start_s, size)}

    def apply(self, inputs: Wave, state: State, signal: Signal) -> Wave:
        """Scales the sound to each clip's own level, so that silence stays silent."""
        del signal
        sound, length = state["sound"].to(inputs), inputs.shape[-1]
        if self.sound is not None and self.duration_s is None:
            sound = effects.looped(sound, length)
        begins = starts(inputs, len(sound), self.position)
        return effects.mix_at_snr(inputs, placed(sound, begins, length), self.snr_db)
