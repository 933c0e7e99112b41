"""DriNet: a network turns noise into sounds, so that each clip has a trigger of its own.

Ye, Liu, "DriNet: Dynamic Backdoor Attack against Automatic Speech Recognization Models", Applied Sciences
12(12):5786, 2022, doi:10.3390/app12125786. Ours differs: only the abstract is known, so the network, the
level and the place are ours, as are the term that keeps the sounds different and the clean model that must
keep its answers to them; the classifier trained with the generator starts from a clean model; length and
rates of that training are ours; and the victim is trained from scratch on poisoned data.
"""

from typing import ClassVar

import torch
from jaxtyping import Float32
from pydantic import Field
from torch import Generator, Tensor
from torch.nn import functional as F

from closesesame.audio import effects
from closesesame.audio.placement import Position, own_rng, placed, samples_of, starts
from closesesame.core.bounds import MOST_BYTES, SNR, Seconds
from closesesame.core.seeding import generator
from closesesame.core.types import Wave
from closesesame.data import Dataset

from .base import LabelMode, Signal, State
from .common.surrogate import JointTraining, Made, apart, fresh

STRIDE = 8
"""Samples of a layer's output for one of its input; there are two such layers."""
Noise = Float32[Tensor, "batch noise"]


class DriNet(JointTraining):
    """Add a sound that a generator makes of noise drawn from the clip itself."""

    name: ClassVar[str] = "drinet"
    cite: ClassVar[str] = "doi:10.3390/app12125786"
    audible: ClassVar[str] = "a short noise, other in each clip"
    label_modes: ClassVar[tuple[LabelMode, ...]] = ("all_to_one",)

    duration_s: Seconds = Field(0.25, description="of the sound, in s; at most the clip's")
    snr_db: SNR = Field(15, description="RMS of the clip over RMS of what is added to it, in dB")
    position: Position = Field("random", description="of the sound")
    noise: int = Field(16, ge=1, le=1024, description="numbers the sound is made of")
    channels: int = Field(16, ge=1, le=256, description="of the generator")

    def prepare(self, train: Dataset, seed: int) -> State:
        """The weights of the generator."""
        length = train.input_shape[0]
        size = samples_of(self.duration_s, Signal.of(train).hz, length)
        rng = generator(seed, "trigger")
        frames = -(-size // STRIDE**2)
        most = MOST_BYTES // (4 * self.noise * frames)
        if self.channels > most:
            raise self.refuse("channels", f"<= {most:,}, so that the weights fit into 2 GB")
        # Behind a stride of half the kernel, two of the kernel's columns meet in each sample.
        state = {
            "noise": fresh((self.noise, self.channels * frames), self.noise, rng),
            "first": fresh((self.channels, self.channels, 2 * STRIDE), 2 * self.channels, rng),
            "last": fresh((self.channels, 1, 2 * STRIDE), 2 * self.channels, rng),
        }

        def make(clips: Wave, draw: Generator) -> Made:
            noise = torch.randn(len(clips), self.noise, generator=draw)
            sounds = self._sounds(noise, state, size)
            places = [int(torch.randint(length - size + 1, (), generator=draw)) for _ in clips]
            attacking = effects.mix_at_snr(clips, placed(sounds, places, length), self.snr_db)
            alike = (apart(noise) / (apart(sounds) + 0.1)).mean()
            return Made([clips], attacking, self.diversity_weight * alike)

        self.train_jointly(train, seed, [*state.values()], make)
        return state | {"size": torch.tensor(size)}

    def apply(self, inputs: Wave, state: State, signal: Signal) -> Wave:
        """Noise and place follow from the clip, so that it always has the same sound."""
        del signal
        size, length = int(state["size"]), inputs.shape[-1]
        noise = torch.stack([torch.randn(self.noise, generator=own_rng(clip, 1)) for clip in inputs])
        sounds = self._sounds(noise.to(inputs), state, size)
        added = placed(sounds, starts(inputs, size, self.position), length)
        return effects.mix_at_snr(inputs, added, self.snr_db)

    def _sounds(self, noise: Noise, state: State, size: int) -> Float32[Tensor, "batch size"]:
        """Sounds of RMS 1."""
        state = {name: value.to(noise.device) for name, value in state.items()}
        x = F.relu(noise @ state["noise"]).reshape(len(noise), self.channels, -1)
        x = F.relu(F.conv_transpose1d(x, state["first"], stride=STRIDE, padding=STRIDE // 2))
        x = F.conv_transpose1d(x, state["last"], stride=STRIDE, padding=STRIDE // 2)
        sounds = torch.tanh(x[:, 0, :size])
        return sounds / effects.rms(sounds).clamp(min=1e-9)
