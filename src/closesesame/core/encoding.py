"""How values are stored: float32 numbers in a few bits each, and back.

A whole number of the stored type stands for full scale, 1.0. It is the same for recordings, data sets on disk
and pictures, so that what is read twice is the same twice.
"""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Encoding:
    """One way to store float32 values.

    Attributes:
        stored: the type they are stored in.
        full_scale: the stored number that stands for 1.0; None if values are stored as they are.
    """

    stored: torch.dtype
    full_scale: int | None

    @classmethod
    def of(cls, stored: torch.dtype) -> "Encoding":
        """The encoding that stores values in a type."""
        return ENCODINGS[stored]

    def encode(self, values: Tensor) -> Tensor:
        """Rounds to the nearest stored value; what is out of range becomes the nearest that is in it."""
        if self.full_scale is None:
            return values
        limits = torch.iinfo(self.stored)
        return (values * self.full_scale).round().clamp(limits.min, limits.max).to(self.stored)

    def decode(self, stored: Tensor) -> Tensor:
        """Stored values as float32."""
        return stored if self.full_scale is None else stored.float() / self.full_scale


ENCODINGS = {
    encoding.stored: encoding
    for encoding in (
        Encoding(torch.float32, None),
        Encoding(torch.int16, 32_768),
        Encoding(torch.uint8, 255),
    )
}
