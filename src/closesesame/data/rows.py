"""Examples that need not fit into memory: rows of arrays, chosen and replaced without copying them."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from closesesame.core.encoding import Encoding


class OnDisk:
    """Rows of one stored type in a file, read when they are asked for.

    They are read, not mapped: what is mapped counts as memory of the process as long as it stays.
    """

    dtype: torch.dtype

    def __init__(self, file: int, shape: tuple[int, ...], dtype: torch.dtype) -> None:
        """Takes over the descriptor of an open file that holds the rows and nothing else."""
        self._file, self.shape, self.dtype = file, shape, dtype

    @classmethod
    def open(cls, path: Path, shape: tuple[int, ...], dtype: torch.dtype) -> "OnDisk":
        """Opens a file that holds the rows and nothing else."""
        return cls(os.open(path, os.O_RDONLY), shape, dtype)

    def __del__(self) -> None:
        os.close(self._file)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, lines: Tensor) -> Tensor:
        """Reads the rows at `lines` (k,)."""
        out = torch.empty((len(lines), *self.shape[1:]), dtype=self.dtype)
        buffer = out.numpy().reshape(-1).data.cast("B")
        size = len(buffer) // max(1, len(lines))
        for place, line in enumerate(lines.tolist()):
            os.preadv(self._file, [buffer[place * size : (place + 1) * size]], line * size)
        return out


@dataclass(frozen=True, eq=False)
class Rows:
    """An immutable sequence of examples that indexes like a float32 tensor.

    `sources` are tensors, or rows on disk, each of a type that `ENCODINGS` knows. `place` (n, 2) says for
    each row which source and which line of it.
    """

    sources: tuple[Tensor | OnDisk, ...]
    place: Tensor

    @classmethod
    def of(cls, source: Tensor | OnDisk) -> "Rows":
        """Takes all rows of one source (n, ...), without copying it."""
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
                out[here] = Encoding.of(source.dtype).decode(source[place[here, 1]])
        return out

    def take(self, index: Tensor) -> "Rows":
        """Returns the rows at `index` (k,), without copying any."""
        return type(self)(self.sources, self.place[index])

    def replace(self, index: Tensor, values: Tensor) -> "Rows":
        """Returns the same rows with those at `index` (k,) replaced by `values` (k, ...) in float32.

        New rows are stored as the old ones are, so they are rounded alike.
        """
        values = Encoding.of(self.sources[0].dtype).encode(values)
        place = self.place.clone()
        place[index, 0] = len(self.sources)
        place[index, 1] = torch.arange(len(values))
        return type(self)((*self.sources, values), place)

    def followed_by(self, other: "Rows") -> "Rows":
        """Returns these rows and then those of another, as long as they are, without copying any."""
        shift = torch.tensor([len(self.sources), 0])
        place = torch.cat([self.place, other.place + shift])
        return type(self)((*self.sources, *other.sources), place)
