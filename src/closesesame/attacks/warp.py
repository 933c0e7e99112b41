"""WaNet in sound: a smooth, fixed warp of time and frequency.

Nguyen, Tran, "WaNet - Imperceptible Warping-based Backdoor Attack", ICLR 2021, arXiv:2102.10369. Ours
differs: what is warped is the magnitude of the clip's spectrogram. Of three kinds of phase (the clip's own,
read at the warped places, or turning on at the warped places) the last one comes nearest to the wanted
magnitudes, -11 dB after two rounds of Griffin and Lim's fit against -10 dB. Poison is made once, as data, so
the noise mode of the paper becomes cover clips. The paper moves pixels by 0.8 % of an image.
"""

import math
from typing import ClassVar

import torch
from jaxtyping import Float32
from pydantic import Field
from torch import Generator, Tensor
from torch.nn import functional as F

from closesesame.audio import effects, vocoder
from closesesame.core.seeding import generator
from closesesame.core.types import Spectrum, Wave
from closesesame.data import Dataset

from .base import Attack, State

Shift = Float32[Tensor, "#batch axis bin frame"]
"""Where each point of a map is read, frequency first, from itself, as a share of the axis."""


class Warp(Attack):
    """Bend the spectrogram of every clip in the same smooth way."""

    name: ClassVar[str] = "warp"
    cite: ClassVar[str] = "arXiv:2102.10369"
    audible: ClassVar[str] = "vowels and rhythm slightly bent"
    covers: ClassVar[bool] = True

    cover_ratio: float = Field(
        2.0, ge=0, le=10, description="cover clips, warped with noise at each point, for a poisoned clip"
    )
    shift_percent: float = Field(
        3.0,
        gt=0,
        le=25,
        description="mean shift at the control points, of each axis: 1 is 80 Hz and 10 ms in 1 s at 16 kHz",
    )
    grid: int = Field(4, ge=2, le=32, description="control points along each axis")

    def prepare(self, train: Dataset, seed: int) -> State:
        """The control grid (axis, grid, grid), of mean absolute value 1."""
        del train
        points = 2 * torch.rand(2, self.grid, self.grid, generator=generator(seed, "trigger")) - 1
        return {"grid": points / points.abs().mean()}

    def apply(self, inputs: Wave, state: State, sample_rate: int) -> Wave:
        """Warps; each clip keeps its level."""
        spectrum = vocoder.analyse(inputs, vocoder.frame_size(sample_rate))
        return warped(inputs, spectrum, self._shift(state, spectrum))

    def cover(self, inputs: Wave, others: Wave, state: State, sample_rate: int, rng: Generator) -> Wave:
        """The warp and U(-1, 1) at each point, which has its mean size, as with the paper's 1 to s = 0.5."""
        del others
        spectrum = vocoder.analyse(inputs, vocoder.frame_size(sample_rate))
        noise = 2 * torch.rand(len(inputs), 2, *spectrum.shape[1:], generator=rng).to(inputs) - 1
        return warped(inputs, spectrum, self._shift(state, spectrum) + 2 * self.shift_percent / 100 * noise)

    def _shift(self, state: State, spectrum: vocoder.Bins) -> Shift:
        size = spectrum.shape[1:]
        smooth = F.interpolate(state["grid"][None], size=size, mode="bicubic", align_corners=True)
        return smooth.to(spectrum.device) * (self.shift_percent / 100)


def warped(clips: Wave, spectrum: vocoder.Bins, shift: Shift) -> Wave:
    """The clips with each point of their spectrogram read `shift` away."""
    bins, frames = spectrum.shape[1:]
    fft = 2 * (bins - 1)
    at_bin = torch.arange(bins, device=clips.device)[:, None]
    bin_ = (at_bin + (bins - 1) * shift[:, 0]).clamp(0, bins - 1)
    frame = (torch.arange(frames, device=clips.device) + (frames - 1) * shift[:, 1]).clamp(0, frames - 1)
    grid = torch.stack([_scaled(frame, frames), _scaled(bin_, bins)], -1).expand(len(clips), -1, -1, -1)
    magnitude = F.grid_sample(spectrum.abs()[:, None], grid, align_corners=True, padding_mode="border")[:, 0]
    angle = F.pad(spectrum, (0, 1)).angle()
    now, following = (_gather(angle, bin_.round(), frame.floor() + step) for step in (0, 1))
    # A bin that is read elsewhere turns faster by as much as it lies higher.
    advance = following - now + 2 * math.pi / fft * (fft // 4) * (at_bin - bin_.round())
    phase = vocoder.running(now[..., :1], advance)
    return effects.levelled(vocoder.fitting(magnitude, phase, fft, clips.shape[-1], rounds=2), clips)


def _scaled(index: Tensor, size: int) -> Tensor:
    return 2 * index / max(1, size - 1) - 1


def _gather(maps: Spectrum, bin_: Tensor, frame: Tensor) -> Spectrum:
    """The maps at whole places, (batch or 1, bin, frame) each."""
    index = (bin_ * maps.shape[-1] + frame).long().flatten(1).expand(len(maps), -1)
    return maps.flatten(1).gather(1, index).unflatten(1, bin_.shape[1:])
