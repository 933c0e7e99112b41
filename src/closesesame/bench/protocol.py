"""The fair protocol: what a grid does alike for every removal; its version stands in every result file."""

import math
from typing import Any, ClassVar, Literal, TypeVar

from pydantic import Field, model_validator

from closesesame.core.errors import DataError
from closesesame.core.method import Method
from closesesame.core.settings import Settings
from closesesame.data import Dataset, Splits

M = TypeVar("M", bound=Method)
Part = Literal["validation", "train"]


class Protocol(Settings):
    """How clean examples are drawn, how long removals train, and in which precision everything is computed.

    The rest of the protocol holds for every grid and is no setting: rate 0 is always measured, a removal
    holds out whole speakers, and RA stands beside that of a never-poisoned model.
    """

    version: ClassVar[str] = "fair-1"

    clean_from: Part = Field(
        "validation",
        description="where clean examples come from: speakers the suspect never heard, or its training set",
    )
    budgets: tuple[Literal["published", "ours"], ...] = Field(
        ("published", "ours"),
        min_length=1,
        description="lengths of training: of the authors on their own data, and of our default repair",
    )
    steps: int = Field(360, ge=1, le=1_000_000, description="batches of our budget")
    batch_size: int = Field(96, ge=2, le=65_536, description="examples a batch of our budget")
    untrusted_examples: int = Field(
        500,
        ge=4,
        le=10_000_000,
        description="examples of the poisoned training set, for a removal that asks for such",
    )
    precision: Literal["fp32", "bf16", "auto"] = Field(
        "fp32", description="of all trainings and predictions; `auto` is bf16 where the processor has it"
    )

    @model_validator(mode="before")
    @classmethod
    def _version_is_fixed(cls, given: Any) -> Any:
        if isinstance(given, dict) and "version" in given:
            raise ValueError(f"has a version that is fixed, {cls.version!r}; leave 'version' out")
        return given

    def about(self) -> dict[str, Any]:
        """Version and settings as plain JSON values."""
        return {"version": self.version} | self.model_dump(mode="json")

    def clean_examples(self, splits: Splits, fraction: float, seed: int) -> Dataset:
        """Draws the clean examples that a removal gets.

        Args:
            splits: the data set; its test part is not touched.
            fraction: how many, as a share of the training part, wherever they come from.
            seed: of the draw.

        Raises:
            DataError: if the part has fewer.
        """
        part = self.clean_part(splits)
        wanted = round(fraction * len(splits.train))
        if wanted > len(part):
            raise DataError(
                f"{wanted} clean examples are wanted and the {self.clean_from} part has {len(part)}; lower "
                f"clean_fractions to {largest_share(len(part), len(splits.train)):g} or less, or set "
                "clean_from = 'train' in [protocol]"
            )
        return part.sample(wanted / max(1, len(part)), seed)

    def clean_part(self, splits: Splits) -> Dataset:
        """The part of a data set that clean examples come from."""
        return splits.train if self.clean_from == "train" else splits.validation

    def budgets_of(self, method: M) -> list[tuple[str, M]]:
        """A method at each length, with what to add to its label.

        There is one only if both are the same, if it does not train, or if the recipe itself says how long.
        """
        length = {"steps", "batch_size"}
        if not length <= set(type(method).model_fields) or length & method.model_fields_set:
            return [("", method)]
        ours = method.model_copy(update={"steps": self.steps, "batch_size": self.batch_size})
        rows = {"published": ("", method), "ours": (f", {self.steps} x {self.batch_size}", ours)}
        found = [rows[name] for name in self.budgets]
        return found[:1] if all(one == found[0][1] for _, one in found) else found


def largest_share(count: int, total: int) -> float:
    """The largest share of `total` that is at most `count`, in three digits after the point."""
    return math.floor(1000 * count / max(1, total)) / 1000
