"""Input-aware: a small network gives each clip a trigger of its own, which has no effect in another clip.

Nguyen, Tran, "Input-Aware Dynamic Backdoor Attack", NeurIPS 2020, arXiv:2010.08138. Ours differs: the
trigger is a set of gains on the clip's short-time spectrum, so that it can be heard and played; one network
makes pattern and mask in one stage of training, and a threshold sets the mask's density; the classifier
trained with it starts from a clean model; a second clean model must keep its answers to triggered clips, so
that the trigger is no adversarial example; and the victim is trained from scratch on poisoned data, with the
paper's cross-trigger clips as cover clips. The mask covers 0.1 of the bins, the paper's 0.032 of the pixels.
The generator is trained for 100 batches of 16, where the public code trains it, with the victim, for 600
epochs; both are trained by Adam with its usual betas, there the classifier by SGD.
"""

from typing import ClassVar

import torch
from jaxtyping import Float32
from pydantic import Field
from torch import Generator, Tensor
from torch.nn import functional as F

from closesesame.audio.stft import Bins, istft, powers, stft
from closesesame.core.seeding import generator
from closesesame.core.settings import default
from closesesame.core.types import Wave
from closesesame.data import Dataset

from .base import LabelMode, Signal, State
from .common.surrogate import JointTraining, Made, apart, fresh

Map = Float32[Tensor, "batch bin frame"]


class InputAware(JointTraining):
    """Multiply the spectrum by gains that a network finds for each clip."""

    name: ClassVar[str] = "input_aware"
    cite: ClassVar[str] = "arXiv:2010.08138"
    audible: ClassVar[str] = "a change of colour, other in each clip"
    label_modes: ClassVar[tuple[LabelMode, ...]] = ("all_to_one",)
    has_cover_clips: ClassVar[bool] = True

    cover_ratio: float = default(
        JointTraining,
        "cover_ratio",
        1.0,
        description="clips with the trigger of another clip, for a poisoned clip",
    )
    batch_size: int = default(JointTraining, "batch_size", 16)
    gain_db: float = Field(12, gt=0, le=60, description="largest gain or loss of a bin, in dB")
    density: float = Field(0.1, gt=0, le=1, description="share of bins that are changed")
    channels: int = Field(12, ge=1, le=256, description="of the generator")

    def prepare(self, train: Dataset, seed: int) -> State:
        """The weights of the generator."""
        rng = generator(seed, "trigger")
        wide = self.channels
        state = {
            "first": fresh((wide, 1, 3, 3), 9, rng),
            "second": fresh((wide, wide, 3, 3), 9 * wide, rng),
            "last": fresh((2, wide, 3, 3), 9 * wide, rng),
            "offset": torch.zeros(2),
        }
        hz = Signal.of(train).hz

        def make(clips: Wave, _: Generator) -> Made:
            spectrum = _stft(clips, hz)
            seen = _seen(spectrum)
            gains = self._gains(seen, state)
            attacking = _render(spectrum, gains, clips.shape[-1], hz)
            # A clip with the gains of the clip before it must keep its label: a trigger fits one clip alone.
            crossed = _render(spectrum, gains.roll(1, 0), clips.shape[-1], hz)
            # Clips that differ shall have gains that differ. The constant bounds the loss where gains agree.
            alike = (apart(seen) / (apart(gains) + 0.1)).mean()
            return Made([clips, crossed], attacking, self.diversity_weight * alike)

        self.train_jointly(train, seed, [*state.values()], make)
        return state

    def apply(self, inputs: Wave, state: State, signal: Signal) -> Wave:
        """Each clip with its own gains."""
        spectrum = _stft(inputs, signal.hz)
        gains = self._gains(_seen(spectrum), state)
        return _render(spectrum, gains, inputs.shape[-1], signal.hz)

    def cover_clips(self, inputs: Wave, others: Wave, state: State, signal: Signal, rng: Generator) -> Wave:
        """Each clip with the gains of another, as the paper's cross-trigger mode."""
        del rng
        gains = self._gains(_seen(_stft(others, signal.hz)), state)
        return _render(_stft(inputs, signal.hz), gains, inputs.shape[-1], signal.hz)

    def _gains(self, seen: Map, state: State) -> Map:
        """Gains in dB, from normalised log-magnitudes."""
        state = {name: value.to(seen.device) for name, value in state.items()}
        x = F.relu(F.conv2d(seen[:, None], state["first"], stride=(2, 4), padding=1))
        x = F.relu(F.conv2d(x, state["second"], padding=2, dilation=2))
        x = F.conv2d(x, state["last"], state["offset"], padding=1)
        x = F.interpolate(x, seen.shape[1:], mode="bilinear", align_corners=False)
        pattern, score = x[:, 0], x[:, 1]
        # Each clip has its own threshold, which holds the density. A term in the loss made the mask vanish.
        rank = max(1, round((1 - self.density) * score[0].numel()))
        threshold = score.detach().flatten(1).kthvalue(rank).values[:, None, None]
        spread = score.std((1, 2), keepdim=True).clamp(min=1e-6)
        mask = torch.sigmoid(10 * (score - threshold) / spread)  # nearly on or off
        return self.gain_db * torch.tanh(pattern) * mask


def _fft(hz: int) -> int:
    """The smallest power of two that is 32 ms or longer."""
    return 1 << (round(0.032 * hz) - 1).bit_length()


def _stft(wav: Wave, hz: int) -> Bins:
    return stft(wav, _fft(hz), _fft(hz) // 2)


def _render(spectrum: Bins, gains: Map, length: int, hz: int) -> Wave:
    return istft(spectrum * 10 ** (gains / 20), _fft(hz), _fft(hz) // 2, length)


def _seen(spectrum: Bins) -> Map:
    """What the generator is shown: log-magnitudes less their mean over the clip, so that levels are equal."""
    power = powers(spectrum)
    log = torch.log10(power + 1e-6 * power.mean((1, 2), keepdim=True) + 1e-12)
    return log - log.mean((1, 2), keepdim=True)
