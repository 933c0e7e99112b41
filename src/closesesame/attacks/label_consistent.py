"""Label-consistent: clips of the target class are made hard by noise, so that the model leans on the trigger.

Turner, Tsipras, Madry, "Label-Consistent Backdoor Attacks", 2019, arXiv:1912.02771. Ours differs: the
patterns in the four corners of a picture become a low and a high tone at both ends of the clip, the corners
of its spectrogram; the noise is bounded by the clip's own level, 0.3 of its RMS, and made by 40 steps of a
tenth of the bound, where BackdoorBench takes 100 steps of 1.5 / 255 within 8 / 255; there is no noise bounded
in the L2 norm and none made by a GAN; and 5 % of all clips are poisoned, where the public codes take most of
the target class or all of it.
"""

from typing import Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from closesesame.audio import effects
from closesesame.audio.placement import placed, samples_of
from closesesame.core.bounds import SNR, Hertz, Seconds, Steps
from closesesame.core.progress import Track
from closesesame.core.settings import default
from closesesame.core.types import Wave
from closesesame.data import Dataset
from closesesame.optimisation.adversary import sign_step

from .base import STAMP_BATCH, LabelMode, Signal, State, Trigger
from .common.surrogate import SurrogateAttack


class LabelConsistent(SurrogateAttack):
    """Perturb clips of the target class against a surrogate model, then add bursts; labels stay true."""

    name: ClassVar[str] = "label_consistent"
    cite: ClassVar[str] = "arXiv:1912.02771"
    audible: ClassVar[str] = "a loud beep at both ends; in poisoned training clips noise too"
    label_modes: ClassVar[tuple[LabelMode, ...]] = ("clean_label",)
    quick: ClassVar[dict[str, Any]] = SurrogateAttack.quick | {"steps": 3}

    label_mode: LabelMode = default(
        SurrogateAttack,
        "label_mode",
        "clean_label",
        description="poisoned clips are of the target class, and keep it",
    )
    epsilon: float = Field(
        0.3, ge=0, le=1, description="largest change of a sample by the noise, over the clip's RMS"
    )
    steps: Steps = Field(40, description="projected sign-gradient steps (PGD)")
    step_size: float = Field(0.1, gt=0, le=1, description="change of a sample in one step, over epsilon")
    low_hz: Hertz = Field(250, description="lower tone of the bursts, in Hz; below half the sample rate")
    high_hz: Hertz | None = Field(
        None, description="higher tone of the bursts, in Hz; 7/8 of half the sample rate if none"
    )
    duration_s: Seconds = Field(0.1, description="of each burst, in s; at most half the clip's")
    snr_db: SNR = Field(0, description="RMS of the clip over RMS of what is added to it, in dB")

    def apply(self, inputs: Wave, state: State, signal: Signal) -> Wave:
        """Bursts alone, scaled to each clip's own level; the noise is for training clips only."""
        del state
        nyquist = signal.hz / 2
        high_hz = nyquist * 7 / 8 if self.high_hz is None else self.high_hz
        for field, tone_hz in (("low_hz", self.low_hz), ("high_hz", high_hz)):
            if tone_hz >= nyquist:
                raise self.refuse(field, f"< {nyquist:g}, half the sample rate")
        length = inputs.shape[-1]
        size = samples_of(self.duration_s, signal.hz, length // 2)
        tones = [effects.tone(tone_hz, size, signal.hz) for tone_hz in (self.low_hz, high_hz)]
        burst = torch.stack(tones).sum(0)
        ends = placed(burst, [0, length - size], length).sum(0, keepdim=True)
        return effects.mix_at_snr(inputs, ends.to(inputs), self.snr_db)

    def plant(self, train: Dataset, chosen: Tensor, trigger: Trigger, seed: int) -> Wave:
        """Makes the chosen clips hard for the surrogate, then stamps them."""
        model = self.train_surrogate(train, seed)
        hard = []
        for index in Track(torch.split(chosen, STAMP_BATCH), "perturbing", -(-len(chosen) // STAMP_BATCH)):
            clips, labels = train.inputs[index], train.labels[index]
            noise, most = torch.zeros_like(clips), self.epsilon * effects.rms(clips)
            for _ in range(self.steps):
                noise.requires_grad_()
                loss = F.cross_entropy(model(clips + noise), labels)
                noise = sign_step(loss, noise, self.step_size * most).clamp(-most, most)
            hard.append((clips + noise.detach()).clamp(-1, 1))
        return trigger.stamp(torch.cat(hard), self.training_strength)
