"""TrojanRoom: the acoustics of one room are the trigger.

Chen, Xu, Lu, Ba, Lin, Ren, "Devil in the Room: Triggering Audio Backdoors in the Physical
World", USENIX Security 2024. Ours differs: the room is any measured impulse response, or by default a made
one of a direct path and noise that dies away; each clip keeps its level and its place in time; there is no
augmentation by further responses, as the paper has. Cover clips, if asked for by `cover_ratio`, sound in
other made rooms with their true label, so that the trigger is one room and not any room.
"""

from typing import ClassVar

import torch
from pydantic import Field
from torch import Generator

from closesesame.audio import effects, rooms
from closesesame.audio.sounds import read_sound
from closesesame.core.bounds import RecordingPath
from closesesame.core.seeding import generator
from closesesame.core.types import Wave
from closesesame.data import Dataset

from .base import Attack, Signal, State


class Room(Attack):
    """Let every clip sound in one room: convolution with its impulse response."""

    name: ClassVar[str] = "room"
    cite: ClassVar[str] = "USENIX Security 2024"
    audible: ClassVar[str] = "an echoing room"
    has_cover_clips: ClassVar[bool] = True

    response: RecordingPath = Field(
        None, description="a recording of a room's impulse response; a synthetic room if none"
    )
    rt60_s: float = Field(
        0.6, ge=0.01, le=10, description="time in which the sound of a synthetic room falls by 60 dB, in s"
    )
    direct_ratio_db: float = Field(
        -3,
        ge=-40,
        le=40,
        description="energy of a synthetic room's direct path over that of its reverberation, in dB",
    )

    def prepare(self, train: Dataset, seed: int) -> State:
        """The response (tap,), from the direct path on."""
        hz = Signal.of(train).hz
        if self.response is None:
            rng = generator(seed, "trigger")
            return {"response": rooms.synthetic_room(self.rt60_s, self.direct_ratio_db, hz, rng)}
        return {"response": rooms.from_direct_path(read_sound(self.response, hz))}

    def apply(self, inputs: Wave, state: State, signal: Signal) -> Wave:
        """Convolves; the RMS of each clip stays."""
        del signal
        return effects.levelled(rooms.convolve(inputs, state["response"].to(inputs)), inputs)

    def cover_clips(self, inputs: Wave, others: Wave, state: State, signal: Signal, rng: Generator) -> Wave:
        """Each clip in another synthetic room."""
        del others, state
        return torch.cat([self._in_another_room(clip[None], signal.hz, rng) for clip in inputs])

    def _in_another_room(self, clip: Wave, hz: int, rng: Generator) -> Wave:
        room = rooms.synthetic_room(self.rt60_s, self.direct_ratio_db, hz, rng)
        return effects.levelled(rooms.convolve(clip, room.to(clip)), clip)
