"""Recordings that triggers are made of."""

from pathlib import Path

from jaxtyping import Float32
from torch import Tensor

from closesesame.core.errors import DataError

from .effects import looped
from .files import read_wave

SILENT = 1e-5
"""Peak under which nothing is heard, -100 dBFS."""


def read_sound(
    path: Path | str, sample_rate: int, start_s: float = 0.0, size: int | None = None
) -> Float32[Tensor, " time"]:
    """Reads a recording from `start_s` on; repeated and cut to `size` samples, if that is given.

    Raises:
        DataError: if it ends before, or nothing is heard from there on.
    """
    path = Path(path)
    recording = read_wave(path, sample_rate)[0]
    length_s = len(recording) / sample_rate
    rest = recording[round(start_s * sample_rate) :]
    if not len(rest):
        raise DataError(f"{path.name} lasts {length_s:.3g} s, and start_s is {start_s:g} s; lower start_s")
    if rest.abs().max() < SILENT:
        later = f" from {start_s:g} s on" if start_s else ""
        raise DataError(f"{path.name} is silent{later}; choose another recording")
    return rest if size is None else looped(rest, size).clone()
