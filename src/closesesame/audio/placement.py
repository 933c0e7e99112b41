"""Where in a clip a sound is placed."""

import zlib
from collections.abc import Sequence
from typing import Literal

import torch
from jaxtyping import Float32
from torch import Generator, Tensor
from torch.nn import functional as F

from closesesame.core.seeding import generator
from closesesame.core.types import Wave

Position = Literal["start", "middle", "end", "random"]


def samples_of(duration_s: float, sample_rate: int, most: int) -> int:
    """How many samples a sound of this length has: one or more, and no more than `most`."""
    return min(most, max(1, round(duration_s * sample_rate)))


def own_rng(clip: Tensor, seed: int = 0) -> Generator:
    """A generator seeded by the content of a clip (time,), so that draws do not depend on its batch."""
    return generator(seed, zlib.crc32(clip.detach().cpu().contiguous().numpy().tobytes()))


def starts(inputs: Wave, size: int, position: Position) -> list[int]:
    """Where a sound of `size` samples begins in each clip; `random` is another place in each clip."""
    spare = max(0, inputs.shape[-1] - size)
    if position == "random":
        return [int(torch.randint(spare + 1, (), generator=own_rng(clip))) for clip in inputs]
    return [{"start": 0, "middle": spare // 2, "end": spare}[position]] * len(inputs)


def placed(sounds: Float32[Tensor, "*each sound"], begins: Sequence[int], length: int) -> Wave:
    """Clips (batch, length) that are silent but for a sound; gradients reach the sound.

    Args:
        sounds: one for all clips, or one each.
        begins: where it begins in each clip, in samples; what reaches over the end is cut.
        length: of the clips.
    """
    if not begins:
        return sounds.new_zeros(0, length)
    each = [sounds] * len(begins) if sounds.ndim == 1 else sounds
    behind = (max(0, length - begin - sounds.shape[-1]) for begin in begins)
    return torch.stack(
        [F.pad(one, (begin, rest))[:length] for one, begin, rest in zip(each, begins, behind, strict=True)]
    )
