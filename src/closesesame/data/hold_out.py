"""What methods share that put a part of their clean examples aside, to choose and to check by."""

from abc import ABC
from typing import ClassVar, final

from pydantic import Field

from closesesame.core.errors import DataError, counted
from closesesame.core.method import Method

from .dataset import Dataset


class HoldsOut(Method, ABC):
    """A method that never trains on a part of its clean examples."""

    data_free: ClassVar[bool] = False
    """Whether it works without clean examples."""
    chooses: ClassVar[bool] = True
    """Whether it chooses something by the examples that it puts aside, and so needs some."""

    hold_out: float = Field(
        0.2, gt=0, lt=1, description="share of the clean set put aside to choose and check, by whole speakers"
    )

    def put_aside(self, clean: Dataset, seed: int) -> tuple[Dataset, Dataset]:
        """Hook: splits clean examples into those to train on and those to choose by: (tune, held out)."""
        return clean.hold_out(self.hold_out, seed)

    @final
    def divided(self, clean: Dataset, seed: int) -> tuple[Dataset, Dataset]:
        """Clean examples to train on and those put aside; both may be empty for a method that is `data_free`.

        Raises:
            DataError: if the method is not, and there are too few.
        """
        if not len(clean):
            if self.data_free:
                return clean, clean
            raise DataError(f"{self.name} needs clean examples; give it some")
        tune, held_out = self.put_aside(clean, seed)
        if not self.data_free:
            if len(tune) < 2:
                raise DataError(f"{self.name} needs two clean examples or more to train on, got {len(tune)}")
            if self.chooses and not len(held_out):
                raise DataError(
                    f"{self.name} got {counted(len(clean), 'clean example')}, and none is left to choose by: "
                    "it trains on most of them, and on one of each class at least; give it more"
                )
        return tune, held_out
