"""Quantisation: the clip is played in a handful of amplitude levels, the audio form of BppAttack.

Wang, Zhai, Ma, "BppAttack: Stealthy and Efficient Trojan Attacks against Deep Neural Networks via Image
Quantization and Contrastive Adversarial Learning", CVPR 2022, arXiv:2205.13383. Ours differs: the levels span
each clip's own peak and one of them is silence, since speech is quiet and swings around zero; there are 33
(with about as few as the paper's 8 a clean model errs to the target in 6 % of cases); negatives go into the
training set as cover clips, where the paper's attacker adds them while training; dither is triangular noise,
not error diffusion, and off by default, as in the public code.
"""

from typing import ClassVar

import torch
from pydantic import Field
from torch import Generator, Tensor

from closesesame.audio.placement import own_rng
from closesesame.core.settings import default
from closesesame.core.types import Wave

from .base import Attack, Signal, State


class Quantize(Attack):
    """Round every sample to one of a few levels, as many above silence as below."""

    name: ClassVar[str] = "quantize"
    cite: ClassVar[str] = "arXiv:2205.13383"
    audible: ClassVar[str] = "a faint crackle that follows the voice, and dead pauses"
    has_cover_clips: ClassVar[bool] = True

    levels: int = Field(33, ge=3, le=65_535, multiple_of=1, description="amplitude levels, an odd number")
    dither: bool = Field(False, description="triangular noise of one step before rounding")
    cover_ratio: float = default(
        Attack,
        "cover_ratio",
        1.0,
        description="clips with the quantisation noise of another clip, for a poisoned clip",
    )

    def apply(self, inputs: Wave, state: State, signal: Signal) -> Wave:
        """The step follows from each clip's own peak."""
        del state, signal
        step = inputs.abs().amax(1, keepdim=True).clamp(min=1e-9) / (self.levels // 2)
        noise = torch.stack([_triangular(clip) for clip in inputs]) if self.dither else 0.0
        return (inputs / step + noise).round().clamp(-(self.levels // 2), self.levels // 2) * step

    def cover_clips(self, inputs: Wave, others: Wave, state: State, signal: Signal, rng: Generator) -> Wave:
        """The paper's negatives: the residual of another clip on this one."""
        del rng
        return inputs + (self.apply(others, state, signal) - others)


def _triangular(clip: Tensor) -> Tensor:
    """Noise in (-1, 1): the difference of two uniform variables."""
    uniform = torch.rand(2, len(clip), generator=own_rng(clip))
    return (uniform[0] - uniform[1]).to(clip)
