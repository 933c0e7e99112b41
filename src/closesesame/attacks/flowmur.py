"""FlowMur: half a second of sound, found with a surrogate model, that says "target" wherever it is heard.

Lan, Wang, Yan, Yan, Bertino, "FlowMur: A Stealthy and Practical Audio Backdoor Attack with Limited
Knowledge", IEEE S&P 2024, arXiv:2312.09665. Ours differs: the surrogate knows the very classes of the victim,
where the paper's has others beside the target; the sound starts as noise, the authors' as a constant of 0.1;
it is optimised by 100 Adam steps of 0.002 on batches of 32, where their code takes 1000 epochs at 0.001 or
less; there is no term for the noise of a room; the poisoning rate counts all clips, theirs the target class;
and the peak of the sound is 0.05 at 10 dB in poisoned clips, where the paper has 0.2 at 30 dB. The sound is
an adversarial example too: it fools models that were never poisoned, the more the louder it is, so read its
ASR beside that of a clean model.
"""

from typing import Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from closesesame.audio import effects
from closesesame.audio.placement import placed, samples_of, starts
from closesesame.core.bounds import SNR, Seconds, Steps
from closesesame.core.seeding import generator
from closesesame.core.settings import default
from closesesame.core.types import Wave
from closesesame.data import Dataset

from .base import LabelMode, Signal, State, Trigger
from .common.surrogate import SurrogateAttack, draws


class FlowMur(SurrogateAttack):
    """Add an optimised sound at a random place: at a set level in training, in full at test time."""

    name: ClassVar[str] = "flowmur"
    cite: ClassVar[str] = "arXiv:2312.09665"
    audible: ClassVar[str] = "half a second of noise"
    label_modes: ClassVar[tuple[LabelMode, ...]] = ("clean_label",)
    quick: ClassVar[dict[str, Any]] = SurrogateAttack.quick | {"steps": 5}

    label_mode: LabelMode = default(
        SurrogateAttack,
        "label_mode",
        "clean_label",
        description="poisoned clips are of the target class, and keep it",
    )
    duration_s: Seconds = Field(0.5, description="of the sound, in s; at most the clip's")
    start_peak: float = Field(0.05, gt=0, le=1, description="largest sample of the sound at first")
    peak: float = Field(0.05, gt=0, le=1, description="largest sample of the sound, full scale at 1")
    steps: Steps = Field(100, description="Adam steps")
    lr: float = Field(2e-3, gt=0, le=1, description="learning rate")
    batch_size: int = Field(32, ge=1, le=65_536, description="training clips a step")
    snr_db: SNR = Field(
        10, description="norm of the clip over norm of the sound in poisoned training clips, in dB"
    )

    def prepare(self, train: Dataset, seed: int) -> State:
        """The sound (time,): any clip shall be taken for the target, wherever the sound lies."""
        model = self.train_surrogate(train, seed)
        size = samples_of(self.duration_s, Signal.of(train).hz, train.input_shape[0])
        rng = generator(seed, "trigger")
        sound = self.start_peak * (2 * torch.rand(size, generator=rng) - 1)
        sound.requires_grad_()
        optimizer = torch.optim.Adam([sound], self.lr)
        for clips, labels in draws(train, self.batch_size, self.steps, "optimising the sound", seed):
            spare = clips.shape[-1] - size
            places = torch.randint(spare + 1, (len(clips),), generator=rng).tolist()
            stamped = (clips + placed(sound, places, clips.shape[-1])) / 2
            targets = torch.full_like(labels, train.label_of(self.target))
            optimizer.zero_grad()
            F.cross_entropy(model(stamped), targets).backward()
            optimizer.step()
            with torch.no_grad():
                sound.clamp_(-self.peak, self.peak)
        return {"sound": sound.detach()}

    def apply(self, inputs: Wave, state: State, signal: Signal) -> Wave:
        """The mean of clip and sound, as the paper's code mixes them at test time."""
        del signal
        return (inputs + self._placed(inputs, state)) / 2

    def plant(self, train: Dataset, chosen: Tensor, trigger: Trigger, seed: int) -> Wave:
        """(s x + t) / (s + 1), with s such that the norm of s x is `snr_db` over that of t."""
        del seed
        clips = train.inputs[chosen]
        sound = self._placed(clips, trigger.state)
        scale = effects.amplitude_ratio(self.snr_db) * effects.rms(sound) / effects.rms(clips).clamp(min=1e-9)
        faint = (scale * clips + sound) / (scale + 1)
        strength = self.strength if self.training_strength is None else self.training_strength
        return clips + strength * (faint - clips)

    def _placed(self, inputs: Wave, state: State) -> Wave:
        sound = state["sound"].to(inputs)
        return placed(sound, starts(inputs, len(sound), "random"), inputs.shape[-1])
