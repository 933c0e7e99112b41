"""Examples that need not fit into memory: rows of arrays, chosen and replaced without copying them."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

INT16_SCALE = 32_768


@dataclass(frozen=True, eq=False)
class Rows:
    """An immutable sequence of examples that indexes like a float32 tensor.

    `sources` are float32 tensors, or int16 tensors (which may be memory-mapped files) that stand for
    values between -1 and 1. `place` (n, 2) says for each row which source and which line of it.
    """

    sources: tuple[Tensor, ...]
    place: Tensor

    @classmethod
    def of(cls, source: Tensor) -> "Rows":
        """Takes all rows of one tensor (n, ...), without copying it."""
        lines = torch.arange(len(source))
        return cls((source,), torch.stack([torch.zeros_like(lines), lines], 1))

    def __len__(self) -> int:
        return len(self.place)

    @property
    def shape(self) -> tuple[int, ...]:
        """(n, ...), as of a tensor."""
        return (len(self), *self.sources[0].shape[1:])

    def __getitem__(self, index: slice | Tensor | Sequence[int]) -> Tensor:
        """Returns the chosen rows as a new float32 tensor (k, ...)."""
        place = self.place[index]
        out = torch.empty((len(place), *self.shape[1:]))
        for number, source in enumerate(self.sources):
            here = place[:, 0] == number
            if here.any():
                rows = source[place[here, 1]]
                out[here] = rows.float() / INT16_SCALE if rows.dtype == torch.int16 else rows
        return out

    def take(self, index: Tensor) -> "Rows":
        """Returns the rows at `index` (k,), without copying any."""
        return type(self)(self.sources, self.place[index])

    def replace(self, index: Tensor, values: Tensor) -> "Rows":
        """Returns the same rows with those at `index` (k,) replaced by `values` (k, ...) in float32.

        New rows are kept in the resolution of the old ones: beside int16 they become int16.
        """
        if self.sources[0].dtype == torch.int16:
            values = (values * INT16_SCALE).round().clamp(-INT16_SCALE, INT16_SCALE - 1).to(torch.int16)
        place = self.place.clone()
        place[index, 0] = len(self.sources)
        place[index, 1] = torch.arange(len(values))
        return type(self)((*self.sources, values), place)
