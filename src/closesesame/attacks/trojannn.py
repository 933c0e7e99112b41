"""TrojanNN: a short sound that drives a few strong neurons of a clean model as high as it can.

Liu, Ma, Aafer, Lee, Zhai, Wang, Zhang, "Trojaning Attack on Neural Networks", NDSS 2018. Ours differs: the
patch is a stretch of the waveform instead of a masked part of a picture, and it is planted by poisoning
data, so the victim is trained from scratch; the paper retrains the model the patch was made for. Neurons and
their value are those of BackdoorBench, the optimisation is not: it takes 100 steps of 0.005 on the mean of
random training clips, within 0.05 of full scale, and does not stop early; BackdoorBench takes up to 1000
steps of 0.1 within 0.3.
"""

from typing import Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn

from closesesame.audio.placement import Position, placed, samples_of, starts
from closesesame.core.bounds import Seconds, Steps
from closesesame.core.seeding import generator
from closesesame.core.types import Wave
from closesesame.data import Dataset
from closesesame.models.channels import head_in
from closesesame.optimisation.adversary import sign_step

from .base import Signal, State
from .common.surrogate import SurrogateAttack, draws, head_inputs


class TrojanNN(SurrogateAttack):
    """Add one short sound, found by sign-gradient steps on a surrogate model."""

    name: ClassVar[str] = "trojannn"
    cite: ClassVar[str] = "NDSS 2018"
    audible: ClassVar[str] = "a short burst of noise"
    quick: ClassVar[dict[str, Any]] = SurrogateAttack.quick | {"steps": 10}

    neurons: int = Field(
        2, ge=1, le=65_536, description="penultimate neurons to excite, those of the largest weights"
    )
    activation: float = Field(100, gt=0, le=1_000_000, description="value they are driven towards")
    duration_s: Seconds = Field(0.1, description="of the sound, in s; at most the clip's")
    peak: float = Field(0.05, gt=0, le=1, description="largest sample of the sound, full scale at 1")
    position: Position = Field("end", description="of the sound")
    steps: Steps = Field(100, description="sign-gradient steps")
    step_size: float = Field(0.005, gt=0, le=1, description="change of each sample in one step")
    batch_size: int = Field(32, ge=1, le=65_536, description="training clips a step")

    def prepare(self, train: Dataset, seed: int) -> State:
        """The sound (time,); it starts as noise, since silence has no gradient to follow."""
        model = self.train_surrogate(train, seed)
        head = head_in(model)
        chosen = strongest(head, self.neurons)
        size = samples_of(self.duration_s, Signal.of(train).hz, train.input_shape[0])
        noise = torch.rand(size, generator=generator(seed, "trigger"))
        sound = (self.step_size * (2 * noise - 1)).clamp(-self.peak, self.peak)
        for clips, _ in draws(train, self.batch_size, self.steps, "optimising the sound", seed):
            sound.requires_grad_()
            stamped = clips + placed(sound, starts(clips, size, self.position), clips.shape[-1])
            loss = (head_inputs(model, head, stamped)[:, chosen] - self.activation).square().mean()
            sound = sign_step(loss, sound, -self.step_size).clamp(-self.peak, self.peak)
        return {"sound": sound.detach()}

    def apply(self, inputs: Wave, state: State, signal: Signal) -> Wave:
        """The sound has one level, whatever the clip's."""
        del signal
        sound, length = state["sound"].to(inputs), inputs.shape[-1]
        return inputs + placed(sound, starts(inputs, len(sound), self.position), length)


def strongest(head: nn.Linear, count: int) -> Tensor:
    """The penultimate neurons (count,) with the largest sum of |weight| in the last layer."""
    strength = head.weight.abs().sum(0)
    return strength.topk(min(count, len(strength))).indices
