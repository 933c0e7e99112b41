"""What methods share that put a part of their clean examples aside, to choose and to check by."""

from abc import ABC
from typing import ClassVar

from pydantic import Field

from closesesame.core.method import Method

from .dataset import Dataset


class HoldsOut(Method, ABC):
    """A method that never trains on a part of its clean examples."""

    data_free: ClassVar[bool] = False
    """Whether it works without clean examples."""

    hold_out: float = Field(
        0.2, gt=0, lt=1, description="share of the clean set put aside to choose and check, by whole speakers"
    )

    def put_aside(self, clean: Dataset, seed: int) -> tuple[Dataset, Dataset]:
        """Hook: splits clean examples into those to train on and those to choose by: (tune, held out)."""
        return clean.hold_out(self.hold_out, seed)
