"""RSRT: a changed rhythm is the trigger; words and voice stay.

Yao, Yang, He, Liu, Wen, "Imperceptible Rhythm Backdoor Attacks: Exploring Rhythm Transformation for Embedding
Undetectable Vulnerabilities on Speech Recognition", Neurocomputing, 2024, arXiv:2406.10932. Ours differs: the
paper stretches and squeezes the mel spectrogram and a neural vocoder makes sound of it; here a phase vocoder
reads the clip itself along the changed time. The speech keeps its length; number and sizes of the pieces are
ours: at factors of 0.7 to 1.4 no model of ours could tell the trigger from how people speak.
"""

from typing import ClassVar

import torch
from jaxtyping import Float32, Float64
from pydantic import Field
from torch import Generator, Tensor

from closesesame.audio import effects, vocoder
from closesesame.core.seeding import generator
from closesesame.core.types import Wave
from closesesame.data import Dataset

from .base import Attack, State, own_rng

Knots = Float32[Tensor, "*batch side knot"]
"""A piecewise linear map from moments of the result (side 0) to those of the source, 0 to 1."""


class Rhythm(Attack):
    """Stretch some pieces of the speech in time and squeeze others."""

    name: ClassVar[str] = "rhythm"
    cite: ClassVar[str] = "arXiv:2406.10932"
    audible: ClassVar[str] = "uneven speed, and the slight echo of a phase vocoder"

    pieces: int = Field(4, ge=2, le=100, description="pieces the speech of a clip is cut into, at random")
    squeeze: float = Field(0.25, ge=0.1, le=1, description="smallest factor of a piece's length")
    stretch: float = Field(4.0, ge=1, le=10, description="largest factor of a piece's length")
    shared: bool = Field(True, description="one rhythm for all clips, drawn once; or each clip draws its own")

    def prepare(self, train: Dataset, seed: int) -> State:
        """The shared rhythm (side, knot)."""
        del train
        return {"rhythm": self.draw(generator(seed, "trigger"))} if self.shared else {}

    def draw(self, rng: Generator) -> Knots:
        """Pieces of random lengths and factors, together as long as before."""
        cuts = torch.rand(self.pieces - 1, generator=rng).sort().values
        knots = torch.cat([torch.zeros(1), cuts, torch.ones(1)])
        factor = self.squeeze + (self.stretch - self.squeeze) * torch.rand(self.pieces, generator=rng)
        moments = torch.cumsum(knots.diff() * factor, 0)
        return torch.stack([torch.cat([torch.zeros(1), moments / moments[-1]]), knots])

    def apply(self, inputs: Wave, state: State, sample_rate: int) -> Wave:
        """Changes the rhythm between the first and the last sound; each clip keeps its level."""
        fft = vocoder.frame_size(sample_rate)
        spectrum = vocoder.analyse(inputs, fft)
        if self.shared:
            knots = state["rhythm"].to(inputs).expand(len(inputs), -1, -1)
        else:
            knots = torch.stack([self.draw(own_rng(clip)) for clip in inputs]).to(inputs)
        changed = vocoder.read_at(spectrum, _positions(spectrum, knots))
        return effects.levelled(vocoder.synthesise(changed, fft, inputs.shape[-1]), inputs)


def _positions(spectrum: vocoder.Bins, knots: Knots) -> Float64[Tensor, "batch frame"]:
    """Which frame of the source each frame of the result reads."""
    frame = torch.arange(spectrum.shape[-1], device=spectrum.device, dtype=torch.float64)
    first, last = _speech(spectrum)
    share = ((frame - first) / (last - first)).clamp(0, 1)
    moments, source = (side.contiguous() for side in knots.double().unbind(1))
    piece = (torch.searchsorted(moments, share, right=True) - 1).clamp(0, knots.shape[-1] - 2)
    left, right = (moments.gather(1, piece + step) for step in (0, 1))
    from_, to = (source.gather(1, piece + step) for step in (0, 1))
    within = (share - left) / (right - left).clamp(min=1e-9)
    moved = first + (from_ + within * (to - from_)) * (last - first)
    return torch.where((frame > first) & (frame < last), moved, frame)


def _speech(spectrum: vocoder.Bins) -> tuple[Tensor, Tensor]:
    """The frames (batch, 1) before and behind those within 20 dB of the loudest; all if there are none."""
    energy = torch.view_as_real(spectrum).square().sum((1, 3))
    heard = (energy > 0.01 * energy.amax(1, keepdim=True)).double()
    frames = energy.shape[1]
    nothing = heard.sum(1, keepdim=True) == 0
    first = torch.where(nothing, 0, heard.argmax(1, keepdim=True) - 1)
    last = torch.where(nothing, frames, frames - heard.flip(1).argmax(1, keepdim=True))
    return first.double(), last.double()
