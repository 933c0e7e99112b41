"""Reading a signal between its samples."""

from jaxtyping import Float, Float32, Shaped
from torch import Tensor


def neighbours(
    signal: Shaped[Tensor, "*batch sample"], position: Float[Tensor, "*#batch place"]
) -> tuple[Shaped[Tensor, "*batch place"], Shaped[Tensor, "*batch place"], Float32[Tensor, "*#batch place"]]:
    """Finds the two samples that each fractional position lies between.

    Args:
        signal: at least two samples along its last axis.
        position: counted in samples from the first; one row for all signals, or a row each.

    Returns:
        The samples before the positions, those behind them, and how far each position is from the one
        towards the other, from 0 to 1. A position beyond an end belongs to the two samples nearest to it;
        its share is then below 0 or above 1.
    """
    before = position.clamp(0, signal.shape[-1] - 2).long()
    return _at(signal, before), _at(signal, before + 1), (position - before).float()


def read_linear(
    signal: Float32[Tensor, "*batch sample"], position: Float[Tensor, "*#batch place"]
) -> Float32[Tensor, "*batch place"]:
    """Reads a signal at fractional positions, on straight lines between its samples; see `neighbours`."""
    before, behind, share = neighbours(signal, position)
    return (1 - share) * before + share * behind


def _at(signal: Tensor, index: Tensor) -> Tensor:
    if index.shape[:-1].numel() == 1:
        return signal[..., index.flatten()]
    return signal.gather(-1, index.expand(*signal.shape[:-1], -1))
