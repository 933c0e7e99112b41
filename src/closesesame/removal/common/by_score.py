"""What removals share that prune by a score of each channel."""

from abc import ABC
from collections.abc import Sequence
from typing import Any

from pydantic import Field
from torch import Tensor

from closesesame.core.types import PerUnit
from closesesame.models.channels import Channels
from closesesame.removal.base import Removal


class ByScore(Removal, ABC):
    """A removal that prunes the channels whose score is far above those of their layer."""

    u: float = Field(3, gt=0, le=100, description="standard deviations above the mean score of the layer")

    def prune_outliers(
        self, layers: Sequence[Channels], scores: Sequence[PerUnit], *, shift: bool
    ) -> dict[str, Any]:
        """Prunes the outliers of each layer for good.

        Args:
            layers: whose channels are judged.
            scores: (channel,) for each layer; high is suspicious, and NaN is not judged.
            shift: whether what is added to a pruned channel goes as well; if not, it becomes constant.

        Returns:
            How many channels were pruned, and of how many.
        """
        pruned = 0
        for layer, score in zip(layers, scores, strict=True):
            found = outliers(score, self.u)
            layer.prune(found, shift=shift)
            pruned += len(found)
        return {"pruned_channels": pruned, "of": sum(layer.count for layer in layers)}


def outliers(score: PerUnit, u: float) -> Tensor:
    """Indices (k,) of scores above mean + u * std; none among fewer than two."""
    judged = (~score.isnan()).nonzero().flatten()
    known = score[judged]
    if len(judged) < 2:
        return judged[:0]
    return judged[known > known.mean() + u * known.std()]
