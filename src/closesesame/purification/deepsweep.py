"""DeepSweep: two lists of transformations under which clips keep their label and triggers fail.

Qiu, Zeng, Guo, Zhang, Qiu, Thuraisingham, "DeepSweep: An Evaluation Framework for Mitigating DNN Backdoor
Attacks using Data Augmentation", AsiaCCS 2021, arXiv:2012.07006. The model is fine-tuned on clean examples
after the intensive list, and then sees all inputs after the light one. The light list is a median filter, a
median filter at 180/224 of the resolution, and a random affine change. The intensive list is optical
distortion, gamma 0.6, a median filter, a gain of 1.53, gamma 2.6, a quarter of the resolution, the median
filters of the light list, random resizing and padding, and the affine change. Ranges are those of the
authors' code.

Ours differs: the lists are for sound. The resolution is the sample rate, and medians are of samples. Optical
distortion plays a clip faster at one end and slower at the other. Gamma bends the amplitude within the clip's
peak, at which the gain clips. Resizing and padding play the clip faster amid silence, and the affine change
shifts it in time and sets its speed. A purifier does not fine-tune; the removal `deepsweep_ft` does,
and puts the light list in front. What is random is drawn by the content of the clip, so that an answer
repeats.
"""

import math
from functools import partial
from typing import ClassVar, Literal

import torch
from jaxtyping import Float32
from pydantic import Field
from torch import Tensor, nn

from closesesame.audio.effects import resample_by
from closesesame.audio.interpolation import read_linear
from closesesame.audio.placement import own_rng
from closesesame.core.types import Wave

from .base import Purification
from .common.waveforms import Fixed, Odd, down_and_up, median, rate_of_waveforms

GAMMAS = (0.6, 2.6)
GAIN = 1.53
COARSE, RESIZED = 0.25, 180 / 224
DISTORTION = 0.05
PADDING = 1.1
LEAST = 1e-6
"""Amplitude, as a share of the peak, below which gamma has no slope; at 0 it would be infinite."""
Draw = Float32[Tensor, "batch 1"]
Draws = Float32[Tensor, "five batch 1"]
"""Five numbers from -1 to 1 for each clip."""


class DeepSweep(Purification):
    """Filter every clip by medians and resampling, then shift it and change its speed at random."""

    name: ClassVar[str] = "deepsweep"
    cite: ClassVar[str] = "arXiv:2012.07006"
    data_free: ClassVar[bool] = True

    policy: Literal["light", "intensive"] = Field(
        "light", description="the list for inputs of a model, or the one for fine-tuning it"
    )
    taps: Odd = Field(5, ge=3, le=31, description="length of the median filters in samples, odd")
    shift: float = Field(0.16, ge=0, le=1, description="largest shift in time, as a share of the clip")
    speed: float = Field(0.16, ge=0, lt=1, description="largest change of the speed, as a share of it")

    def network(self, sample_rate: int | None, input_shape: tuple[int, ...]) -> nn.Module:
        """Transformations without weights to learn.

        Raises:
            ModelError: if the inputs are no waveforms.
        """
        rate_of_waveforms(self.name, sample_rate, input_shape)
        return Fixed(partial({"light": light, "intensive": intensive}[self.policy], method=self))


def light(wav: Wave, method: DeepSweep) -> Wave:
    """The list for inputs of a model."""
    return affine(softened(wav, method.taps), draws(wav), method)


def intensive(wav: Wave, method: DeepSweep, drawn: Draws | None = None) -> Wave:
    """The list for fine-tuning a model; what is random follows from `drawn`, or from the clips."""
    drawn = draws(wav) if drawn is None else drawn
    peak = wav.detach().abs().amax(1, keepdim=True).clamp(min=1e-9)
    changed = gamma(distorted(wav, drawn[2]) / peak, GAMMAS[0])
    changed = (GAIN * median(changed, method.taps)).clamp(-1, 1)
    changed = down_and_up(gamma(changed, GAMMAS[1]), COARSE) * peak
    changed = amid_silence(softened(changed, method.taps), drawn[3], drawn[4])
    return affine(changed, drawn, method)


def draws(wav: Wave) -> Draws:
    """Five numbers from -1 to 1 for each clip, which follow from the clip."""
    drawn = [2 * torch.rand(5, generator=own_rng(clip)) - 1 for clip in wav]
    return torch.stack(drawn, 1)[..., None].to(wav)


def softened(wav: Wave, taps: int) -> Wave:
    """A median filter, and another at a lower sample rate."""
    length = wav.shape[-1]
    small = resample_by(median(wav, taps), RESIZED, round(length * RESIZED))
    return resample_by(median(small, taps), 1 / RESIZED, length)


def gamma(wav: Wave, power: float) -> Wave:
    """Amplitudes within 1, bent by a power."""
    return wav.sign() * wav.abs().clamp(min=LEAST) ** power


def distorted(wav: Wave, bend: Draw) -> Wave:
    """Clips that begin and end where they did, and between are up to `DISTORTION` of their length off."""
    at = torch.linspace(0, 1, wav.shape[-1], device=wav.device)
    return played(wav, at + DISTORTION * bend * torch.sin(math.pi * at))


def amid_silence(wav: Wave, size: Draw, place: Draw) -> Wave:
    """Clips up to `PADDING` times faster, somewhere in silence."""
    faster = 1 + (PADDING - 1) * (1 + size) / 2
    return played(wav, faster * _at(wav) - (faster - 1) * (1 + place) / 2)


def affine(wav: Wave, drawn: Draws, method: DeepSweep) -> Wave:
    """Clips shifted in time and faster or slower, about their middle."""
    shift, faster = method.shift * drawn[0], 1 + method.speed * drawn[1]
    return played(wav, 0.5 + faster * (_at(wav) - 0.5) - shift)


def played(wav: Wave, place: Float32[Tensor, "batch time"]) -> Wave:
    """Clips read at these places, from 0 at their beginning to 1 at their end; around them is silence."""
    found: Wave = read_linear(wav, place * (wav.shape[-1] - 1)) * ((place >= 0) & (place <= 1))
    return found


def _at(wav: Wave) -> Float32[Tensor, " time"]:
    return torch.linspace(0, 1, wav.shape[-1], device=wav.device)
