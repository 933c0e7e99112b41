"""RSRT: a changed rhythm is the trigger; words and voice stay.

Yao, Yang, He, Liu, Wen, "Imperceptible Rhythm Backdoor Attacks: Exploring Rhythm Transformation for Embedding
Undetectable Vulnerabilities on Speech Recognition", Neurocomputing, 2024, arXiv:2406.10932. Ours differs: the
paper stretches and squeezes the mel spectrogram and a neural vocoder makes sound of it; here a phase vocoder
reads the clip itself along the changed time. The speech keeps its length. No code is public, so the number
of pieces, the bounds of their factors and the least warp are ours. The least warp of 0.15 is half of what
factors of 1/4 to 4 can reach (0.3); in a word of half a second it is 75 ms, about as long as a phone.
"""

import math
from typing import ClassVar

import torch
from jaxtyping import Float32, Float64
from pydantic import Field, model_validator
from torch import Generator, Tensor

from closesesame.audio import effects, vocoder
from closesesame.audio.placement import own_rng
from closesesame.audio.stft import Bins
from closesesame.core.seeding import generator
from closesesame.core.types import Wave
from closesesame.data import Dataset

from .base import Attack, Signal, State

Knots = Float32[Tensor, "*batch side knot"]
"""A piecewise linear map from moments of the result (side 0) to those of the source, 0 to 1."""
DRAWS = 1000
"""Rhythms drawn at once; the first that warps enough is taken."""


class Rhythm(Attack):
    """Stretch some pieces of the speech in time and squeeze others.

    Random pieces and factors make triggers of very different strength. The strength is measured as warp: how
    far a moment of the speech is moved in time, on average, as a share of the length of the speech. A rhythm
    of less than `least_warp` is drawn again, and the state of a trigger holds the warp that it reached.
    """

    name: ClassVar[str] = "rhythm"
    cite: ClassVar[str] = "arXiv:2406.10932"
    audible: ClassVar[str] = "uneven speed, and the slight echo of a phase vocoder"

    pieces: int = Field(4, ge=2, le=100, description="pieces the speech of a clip is cut into, at random")
    squeeze: float = Field(0.25, ge=0.1, le=1, description="smallest factor of a piece's length")
    stretch: float = Field(4.0, ge=1, le=10, description="largest factor of a piece's length")
    least_warp: float = Field(
        0.15,
        ge=0,
        lt=0.5,
        description="smallest mean displacement of the speech in time, as a share of its length",
    )
    shared: bool = Field(True, description="one rhythm for all clips, drawn once; or each clip draws its own")

    @model_validator(mode="after")
    def _can_be_reached(self) -> "Rhythm":
        most = most_warp(self.squeeze, self.stretch)
        if self.least_warp > most:
            raise ValueError(
                f"least_warp must be <= {_below(most)}, the most that factors from {self.squeeze:g} to "
                f"{self.stretch:g} give, got {self.least_warp:g}"
            )
        return self

    def prepare(self, train: Dataset, seed: int) -> State:
        """The shared rhythm (side, knot), and its warp."""
        del train
        if not self.shared:
            return {}
        knots = self.draw(generator(seed, "trigger"))
        return {"rhythm": knots, "warp": warp_of(knots).float()}

    def draw(self, rng: Generator) -> Knots:
        """Pieces of random lengths and factors, together as long as before, that warp enough.

        Raises:
            SettingError: if none of the rhythms drawn does.
        """
        cuts = torch.rand(DRAWS, self.pieces - 1, generator=rng, dtype=torch.float64).sort().values
        source = torch.nn.functional.pad(torch.nn.functional.pad(cuts, (0, 1), value=1), (1, 0))
        share = torch.rand(DRAWS, self.pieces, generator=rng, dtype=torch.float64)
        factor = self.squeeze * (self.stretch / self.squeeze) ** share
        lengths = source.diff()
        moments = torch.cumsum(lengths * fitted(factor, lengths, self.squeeze, self.stretch), 1)
        result = torch.nn.functional.pad(moments / moments[:, -1:], (1, 0))
        knots = torch.stack([result, source], 1)
        enough = (warp_of(knots) >= self.least_warp).nonzero().flatten()
        if not len(enough):
            reached = _below(float(warp_of(knots).max()))
            raise self.refuse("least_warp", f"<= {reached}, the largest warp of {DRAWS} rhythms drawn")
        return knots[enough[0]].float()

    def apply(self, inputs: Wave, state: State, signal: Signal) -> Wave:
        """Changes the rhythm between the first and the last sound; each clip keeps its level."""
        fft = vocoder.frame_size(signal.hz)
        spectrum = vocoder.analyse(inputs, fft)
        if self.shared:
            knots = state["rhythm"].to(inputs).expand(len(inputs), -1, -1)
        else:
            knots = torch.stack([self.draw(own_rng(clip)) for clip in inputs]).to(inputs)
        changed = vocoder.read_at(spectrum, _positions(spectrum, knots))
        return effects.levelled(vocoder.synthesise(changed, fft, inputs.shape[-1]), inputs)


def fitted(
    factor: Float64[Tensor, "draw piece"], lengths: Float64[Tensor, "draw piece"], least: float, most: float
) -> Float64[Tensor, "draw piece"]:
    """The factors times one number for each draw, clamped to the bounds, so that the whole keeps its length.

    Bisection finds the number, since the length grows with it; it exists, since 1 lies within the bounds.
    """
    low = least / factor.amax(1, keepdim=True)
    high = most / factor.amin(1, keepdim=True)
    for _ in range(60):
        middle = (low + high) / 2
        too_long = ((factor * middle).clamp(least, most) * lengths).sum(1, keepdim=True) > 1
        low, high = torch.where(too_long, low, middle), torch.where(too_long, middle, high)
    return (factor * low).clamp(least, most)


def warp_of(knots: Tensor) -> Tensor:
    """How far moments are moved (...,) by maps (..., side, knot): the mean of |source - result| over time."""
    result, source = knots.unbind(-2)
    moved = source - result
    left, right = moved[..., :-1], moved[..., 1:]
    # Between two knots the displacement is a straight line; where it changes its sign, two triangles.
    ends = left.abs() + right.abs()
    crossing = (left.square() + right.square()) / ends.clamp(min=1e-12)
    return (torch.where(left * right < 0, crossing, ends) / 2 * result.diff()).sum(-1)


def most_warp(squeeze: float, stretch: float) -> float:
    """The largest warp of all rhythms: one piece as long as can be, and the other as short as can be."""
    if squeeze == 1 or stretch == 1:
        return 0.0
    # The source is cut at c, where stretch * c + squeeze * (1 - c) = 1; this moment moves by (stretch - 1) c,
    # and all others by less, in proportion to their distance from the ends.
    return (stretch - 1) * (1 - squeeze) / (stretch - squeeze) / 2


def _below(warp: float) -> str:
    """Three digits, rounded down, so that the value an error names is possible."""
    return f"{math.floor(1000 * warp) / 1000:.3f}"


def _positions(spectrum: Bins, knots: Knots) -> Float64[Tensor, "batch frame"]:
    """The frame of the source that each frame of the result reads."""
    frame = torch.arange(spectrum.shape[-1], device=spectrum.device, dtype=torch.float64)
    first, last = _speech(spectrum)
    # Time within the speech runs from 0 to 1, as in the knots.
    share = ((frame - first) / (last - first)).clamp(0, 1)
    moments, source = (side.contiguous() for side in knots.double().unbind(1))
    piece = (torch.searchsorted(moments, share, right=True) - 1).clamp(0, knots.shape[-1] - 2)
    # Each frame lies in one piece of the result; it reads the same place within that piece of the source.
    left, right = (moments.gather(1, piece + step) for step in (0, 1))
    from_, to = (source.gather(1, piece + step) for step in (0, 1))
    within = (share - left) / (right - left).clamp(min=1e-9)
    moved = first + (from_ + within * (to - from_)) * (last - first)
    # What comes before and after the speech stays where it is. Speech that begins in the first frame has no
    # frame before it to read.
    return torch.where((frame > first) & (frame < last), moved, frame).clamp(min=0)


def _speech(spectrum: Bins) -> tuple[Tensor, Tensor]:
    """The frames (batch, 1) before and behind the speech: all frames within 20 dB of the loudest.

    In a silent clip all frames count as speech.
    """
    energy = torch.view_as_real(spectrum).square().sum((1, 3))
    heard = (energy > 0.01 * energy.amax(1, keepdim=True)).double()
    frames = energy.shape[1]
    nothing = heard.sum(1, keepdim=True) == 0
    first = torch.where(nothing, 0, heard.argmax(1, keepdim=True) - 1)
    last = torch.where(nothing, frames, frames - heard.flip(1).argmax(1, keepdim=True))
    return first.double(), last.double()
