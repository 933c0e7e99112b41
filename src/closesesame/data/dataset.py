"""A data set: examples, labels, and what is known of each; immutable."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor

from closesesame.core.bounds import LEAST_HZ, MOST_HZ
from closesesame.core.domain import PICTURES, SPEECH, Domain
from closesesame.core.errors import DataError, cut
from closesesame.core.types import Inputs, Labels

from .rows import Rows

LOUDEST = 100.0
"""Float sounds may pass full scale a little; one that is not scaled at all passes it by thousands."""


def domain_of(sample_rate: int | None) -> Domain:
    """The domain of inputs: speech has a sample rate, pictures have none."""
    return PICTURES if sample_rate is None else SPEECH


def check_bounds(inputs: Inputs, domain: Domain) -> None:
    """Refuses inputs (n, ...) that are not scaled to the bounds of their domain.

    Raises:
        DataError: with the value that is out of bounds.
    """
    if not inputs.numel():
        return
    low, high = float(inputs.min()), float(inputs.max())
    if domain is SPEECH and max(-low, high) > LOUDEST:
        raise DataError(f"sounds have full scale 1, and these reach {max(-low, high):g}; scale them")
    if domain is not SPEECH and not domain.low <= low <= high <= domain.high:
        raise DataError(
            f"{domain.name} have values from {domain.low:g} to {domain.high:g}, and these reach from "
            f"{low:g} to {high:g}; scale them, and let the model's front end normalise them"
        )


@dataclass(frozen=True, eq=False, kw_only=True)
class Dataset:
    """Examples with labels.

    Attributes:
        inputs: (n, ...) rows; waveforms are (n, time), full scale at 1, pictures (n, channels, height,
            width) from 0 to 1.
        labels: (n,) indices into `classes`.
        classes: the names of the classes.
        ids: a name for each example, such as its path within the data set.
        sample_rate: Hz; None for pictures.
        speakers: who speaks in each example, if known.

    Raises:
        DataError: if the parts do not fit together, or the inputs hold NaN.
    """

    inputs: Rows
    labels: Labels
    classes: tuple[str, ...]
    ids: tuple[str, ...]
    sample_rate: int | None = None
    speakers: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        n = len(self.labels)
        for name in ("inputs", "ids", "speakers"):
            part = getattr(self, name)
            if part is not None and len(part) != n:
                raise DataError(f"Dataset.{name} must have one entry a label: {n}, got {len(part)}")
        if len(set(self.classes)) < len(self.classes):
            twice = next(name for name in self.classes if self.classes.count(name) > 1)
            raise DataError(f"Dataset.classes: {cut(twice)!r} is named twice; names tell classes apart")
        if self.labels.ndim != 1 or self.labels.dtype != torch.int64:
            shape = list(self.labels.shape)
            raise DataError(f"Dataset.labels must be int64 of shape (n,), got {self.labels.dtype}, {shape}")
        if self.sample_rate is not None and not LEAST_HZ <= self.sample_rate <= MOST_HZ:
            raise DataError(
                f"Dataset.sample_rate must be {LEAST_HZ:,} to {MOST_HZ:,} Hz, got {self.sample_rate:,}"
            )
        if n and not 0 <= int(self.labels.min()) <= int(self.labels.max()) < len(self.classes):
            raise DataError(
                f"Dataset.labels must be indices below {len(self.classes)}, the number of classes"
            )

    @classmethod
    def of(
        cls,
        inputs: Inputs,
        labels: Labels,
        *,
        classes: Sequence[str] | None = None,
        sample_rate: int | None = None,
        speakers: Sequence[str] | None = None,
    ) -> "Dataset":
        """Makes a data set from tensors: inputs (n, ...) in float32, labels (n,).

        Raises:
            DataError: if the inputs are not float32, hold NaN or infinite values, naming the first example,
                or are sounds that are not at full scale 1, or pictures (n, channels, height, width) with
                values outside of 0 to 1.
        """
        if not isinstance(inputs, Tensor) or inputs.dtype != torch.float32 or inputs.ndim < 2:
            kind = inputs.dtype if isinstance(inputs, Tensor) else type(inputs).__name__
            raise DataError(f"inputs must be a float32 tensor of shape (n, ...), got {kind}")
        if not isinstance(labels, Tensor):
            raise DataError(f"labels must be an int64 tensor of shape (n,), got {type(labels).__name__}")
        finite = inputs.flatten(1).isfinite().all(1)
        if not finite.all():
            raise DataError(f"example {int((~finite).nonzero()[0])} holds NaN or infinite values; remove it")
        if sample_rate is not None or inputs.ndim == 4:  # vectors and maps have no bounds
            check_bounds(inputs, domain_of(sample_rate))
        if classes is None and not len(labels):
            raise DataError("without examples the classes must be named")
        known = classes or [str(label) for label in range(int(labels.max()) + 1)]
        ids = tuple(f"{number:06d}" for number in range(len(labels)))
        return cls(
            inputs=Rows.of(inputs),
            labels=labels,
            classes=tuple(known),
            ids=ids,
            sample_rate=sample_rate,
            speakers=None if speakers is None else tuple(speakers),
        )

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def domain(self) -> Domain:
        """What kind of inputs they are: speech if there is a sample rate, else pictures."""
        return domain_of(self.sample_rate)

    @property
    def input_shape(self) -> tuple[int, ...]:
        """The shape of one example."""
        return self.inputs.shape[1:]

    @classmethod
    def of(cls, whole: Dataset, parts: Sequence[int]) -> "Splits":
        """Splits a data set by the part of each example: `TRAIN`, `VALIDATION` or `TEST`."""
        which = torch.tensor(parts)
        return cls(*(whole.where(which == part) for part in (TRAIN, VALIDATION, TEST)))


T = TypeVar("T")


def assign_parts(order: Sequence[T], test: int, validation: int) -> dict[T, int]:
    """Gives the first `test` of an order to the test part, the next to validation, the rest to training."""
    sizes = {TEST: test, VALIDATION: validation, TRAIN: max(0, len(order) - test - validation)}
    parts = [part for part, size in sizes.items() for _ in range(size)]
    return dict(zip(order, parts, strict=False))
