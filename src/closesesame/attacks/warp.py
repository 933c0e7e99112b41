"""WaNet in sound: a smooth, fixed warp of time and frequency.

Nguyen, Tran, "WaNet - Imperceptible Warping-based Backdoor Attack", ICLR 2021, arXiv:2102.10369. Ours
differs: the magnitude of a clip's spectrogram is warped, over time and the mel scale, and further than the
paper's 0.8 % of each axis, which hardly changes speech. Phases advance as at the warped places, and two
rounds of Griffin and Lim fit them to the magnitudes: the result is within -14 dB of the warped spectrogram,
with the clip's own phases within -10 dB. The training set is poisoned once, so the clips of the paper's noise
mode become cover clips.
"""

import math
from typing import ClassVar

import torch
from jaxtyping import Float32
from pydantic import Field
from torch import Generator, Tensor
from torch.nn import functional as F

from closesesame.audio import effects, vocoder
from closesesame.audio.stft import Bins
from closesesame.core.seeding import generator
from closesesame.core.settings import default
from closesesame.core.types import Spectrum, Wave
from closesesame.data import Dataset

from .base import Attack, Signal, State

Shift = Float32[Tensor, "#batch axis bin frame"]
"""Where each point of a map is read, frequency first, from itself, as a share of the axis."""


class Warp(Attack):
    """Bend the spectrogram of every clip in the same smooth way."""

    name: ClassVar[str] = "warp"
    cite: ClassVar[str] = "arXiv:2102.10369"
    audible: ClassVar[str] = "vowels and rhythm slightly bent"
    has_cover_clips: ClassVar[bool] = True

    cover_ratio: float = default(
        Attack,
        "cover_ratio",
        2.0,
        description="cover clips, warped with noise at each point, for a poisoned clip",
    )
    shift_percent: float = Field(
        5.0,
        gt=0,
        le=25,
        description="mean shift at the control points, in % of each axis: of 1 s at 16 kHz, 28 mel and 10 ms",
    )
    grid: int = Field(4, ge=2, le=32, description="control points along each axis")

    def prepare(self, train: Dataset, seed: int) -> State:
        """The control grid (axis, grid, grid), of mean absolute value 1."""
        del train
        points = 2 * torch.rand(2, self.grid, self.grid, generator=generator(seed, "trigger")) - 1
        return {"grid": points / points.abs().mean()}

    def apply(self, inputs: Wave, state: State, signal: Signal) -> Wave:
        """Warps; each clip keeps its level."""
        spectrum = vocoder.analyse(inputs, vocoder.frame_size(signal.hz))
        return warped(inputs, spectrum, self._shift(state, spectrum, signal.hz), signal.hz)

    def cover_clips(self, inputs: Wave, others: Wave, state: State, signal: Signal, rng: Generator) -> Wave:
        """The warp and U(-1, 1) at each point, of the same mean size, as with the paper's 1 to s = 0.5."""
        del others
        spectrum = vocoder.analyse(inputs, vocoder.frame_size(signal.hz))
        noise = 2 * torch.rand(len(inputs), 2, *spectrum.shape[1:], generator=rng).to(inputs) - 1
        shift = self._shift(state, spectrum, signal.hz) + 2 * self.shift_percent / 100 * noise
        return warped(inputs, spectrum, shift, signal.hz)

    def _shift(self, state: State, spectrum: Bins, hz: int) -> Shift:
        """Bicubic between the control points; each bin has its place on the mel scale."""
        bins, frames = spectrum.shape[1:]
        mel = _mel(torch.linspace(0, hz / 2, bins))
        points = _points((mel / mel[-1])[:, None], torch.linspace(0, 1, frames))
        smooth = F.grid_sample(
            state["grid"][None], points, mode="bicubic", padding_mode="border", align_corners=True
        )
        return smooth.to(spectrum.device) * (self.shift_percent / 100)


def warped(clips: Wave, spectrum: Bins, shift: Shift, hz: int) -> Wave:
    """The clips with each point of their spectrogram read `shift` away."""
    bins, frames = spectrum.shape[1:]
    fft = 2 * (bins - 1)
    # Where each point is read: the shift along frequency is a share of the mel scale, that in time of frames.
    at_bin = torch.arange(bins, device=clips.device)[:, None]
    mel = _mel(at_bin * (hz / fft))
    bin_ = (_hz(mel + mel[-1] * shift[:, 0]) * (fft / hz)).clamp(0, bins - 1)
    frame = (torch.arange(frames, device=clips.device) + (frames - 1) * shift[:, 1]).clamp(0, frames - 1)
    points = _points(bin_ / (bins - 1), frame / max(1, frames - 1)).expand(len(clips), -1, -1, -1)
    # Magnitudes are interpolated between the four points around; phases cannot be, since they are angles.
    magnitude = F.grid_sample(spectrum.abs()[:, None], points, align_corners=True)[:, 0]
    angle = F.pad(spectrum, (0, 1)).angle()
    # So a phase starts at that of the nearest bin, and advances as that bin does from this frame to the next.
    now, following = (_gather(angle, bin_.round(), frame.floor() + step) for step in (0, 1))
    # A bin turns by pi / 2 more in a frame than the bin below it, so one that is read from another bin turns
    # faster by as much as it lies higher.
    advance = following - now + math.pi / 2 * (at_bin - bin_.round())
    phase = vocoder.running(now[..., :1], advance)
    return effects.levelled(vocoder.fitting(magnitude, phase, fft, clips.shape[-1], rounds=2), clips)


def _mel(hz: Tensor) -> Tensor:
    """The scale of `features.mel_filters`, by natural logarithms."""
    return 1127 * torch.log1p(hz / 700)


def _hz(mel: Tensor) -> Tensor:
    return 700 * torch.expm1(mel / 1127)


def _points(place: Tensor, moment: Tensor) -> Float32[Tensor, "batch bin frame axis"]:
    """Bins and frames, from 0 to 1, as grid_sample takes them: time first, from -1 to 1."""
    both = torch.stack([moment.expand_as(place * moment), place.expand_as(place * moment)], -1)
    return 2 * both.reshape(-1, *both.shape[-3:]) - 1


def _gather(maps: Tensor, bin_: Tensor, frame: Tensor) -> Spectrum:
    """The maps (batch, bin, frame) at whole places, (batch or 1, bin, frame) each."""
    index = (bin_ * maps.shape[-1] + frame).long().flatten(1).expand(len(maps), -1)
    return maps.flatten(1).gather(1, index).reshape(-1, *bin_.shape[1:])
