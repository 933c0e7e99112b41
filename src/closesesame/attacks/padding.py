"""PaddingBack: the end of the clip is padding, which every pipeline of speech may add.

Ye, Yan, Dong, Shen, "PaddingBack: Inaudible Backdoor Attack Using Padding Operations", 2023,
arXiv:2308.04179; made for speaker recognition. Ours differs: no code is public, so length, place and kind of
the padding are ours, and the clip keeps its length: as much is cut off at its end before.
"""

from typing import ClassVar, Literal

import torch
from pydantic import Field

from closesesame.audio.placement import samples_of
from closesesame.core.bounds import Seconds
from closesesame.core.types import Wave

from .base import Attack, Signal, State


class Padding(Attack):
    """Cut off a part of the clip and pad it again: with its mirror image, its beginning, or silence."""

    name: ClassVar[str] = "padding"
    cite: ClassVar[str] = "arXiv:2308.04179"
    audible: ClassVar[str] = "next to nothing: the pause before the word sounds different"

    duration_s: Seconds = Field(0.2, description="of the padding, in s; at most half of the clip")
    mode: Literal["reflect", "wrap", "zero"] = Field(
        "wrap", description="mirrored at the edge; continued at the other end of the clip; or silent"
    )
    position: Literal["start", "end"] = Field("start", description="of the padding")

    def apply(self, inputs: Wave, state: State, signal: Signal) -> Wave:
        """What is cut off stands at the end, wherever the padding goes."""
        del state
        size = samples_of(self.duration_s, signal.hz, inputs.shape[-1] // 2)
        kept = inputs[:, : inputs.shape[-1] - size]
        at_end = self.position == "end"
        if self.mode == "zero":
            pad = torch.zeros_like(inputs[:, :size])
        elif self.mode == "wrap":
            pad = kept[:, :size] if at_end else kept[:, -size:]
        else:
            pad = (kept[:, -size:] if at_end else kept[:, :size]).flip(1)
        return torch.cat([kept, pad] if at_end else [pad, kept], 1)
