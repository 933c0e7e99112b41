"""A data set: examples, labels, and what is known of each; immutable."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple, TypeVar

import torch
from torch import Tensor

from closesesame.core.bounds import LEAST_HZ, MOST_HZ
from closesesame.core.domain import PICTURES, SPEECH, Domain
from closesesame.core.errors import DataError, cut, nearest
from closesesame.core.seeding import generator
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

    def counts(self) -> tuple[int, ...]:
        """How many examples each class has."""
        return tuple(torch.bincount(self.labels, minlength=len(self.classes)).tolist())

    def missing(self) -> tuple[str, ...]:
        """The classes of which there is no example."""
        return tuple(name for name, count in zip(self.classes, self.counts(), strict=True) if not count)

    def label_of(self, target: int | str) -> int:
        """The index of a class given by name or by index.

        Raises:
            DataError: if there is no such class.
        """
        if isinstance(target, str) and target in self.classes:
            return self.classes.index(target)
        if isinstance(target, int) and not isinstance(target, bool) and 0 <= target < len(self.classes):
            return target
        if (
            isinstance(target, str)
            and target.isdecimal()
            and len(target) < 9
            and int(target) < len(self.classes)
        ):
            return int(target)
        raise DataError(f"no class is called {cut(target)!r}; {nearest(str(target), self.classes)}")

    def take(self, index: Tensor) -> "Dataset":
        """Returns the examples at `index` (k,), in that order; nothing is copied but their labels."""
        rows = index.tolist()
        return replace(
            self,
            inputs=self.inputs.take(index),
            labels=self.labels[index],
            ids=tuple(self.ids[row] for row in rows),
            speakers=None if self.speakers is None else tuple(self.speakers[row] for row in rows),
        )

    def named(self, ids: Sequence[str]) -> "Dataset":
        """Returns the examples with these ids, in that order, such as the clean ones of triggered clips."""
        place = {name: row for row, name in enumerate(self.ids)}
        return self.take(torch.tensor([place[name] for name in ids], dtype=torch.long))

    def where(self, mask: Tensor) -> "Dataset":
        """Returns the examples for which `mask` (n,) holds."""
        if mask.shape != self.labels.shape:
            raise DataError(f"a mask needs one entry an example: {len(self)}, got {list(mask.shape)}")
        return self.take(mask.nonzero().flatten())

    def followed_by(self, other: "Dataset") -> "Dataset":
        """Returns these examples and then those of another set; nothing is copied but labels.

        Raises:
            DataError: if the other set has other classes, or inputs of another kind.
        """
        for name in ("classes", "sample_rate", "input_shape"):
            mine, theirs = getattr(self, name), getattr(other, name)
            if mine != theirs:
                raise DataError(f"sets that follow each other need the same {name}, got {mine} and {theirs}")
        both = None if self.speakers is None or other.speakers is None else self.speakers + other.speakers
        return replace(
            self,
            inputs=self.inputs.followed_by(other.inputs),
            labels=torch.cat([self.labels, other.labels]),
            ids=self.ids + other.ids,
            speakers=both,
        )

    def with_inputs(self, inputs: Rows) -> "Dataset":
        """Returns the same examples with other inputs (n, ...)."""
        return replace(self, inputs=inputs)

    def with_labels(self, labels: Labels) -> "Dataset":
        """Returns the same examples with other labels (n,)."""
        return replace(self, labels=labels)

    def with_classes(self, classes: Sequence[str]) -> "Dataset":
        """Returns the same examples with labels that are indices into another list of classes.

        Raises:
            DataError: if a class is missing there.
        """
        for name in self.classes:
            if name not in classes:
                raise DataError(f"class {cut(name)!r} is not among those given; {nearest(name, classes)}")
        index = torch.tensor([classes.index(name) for name in self.classes])
        return replace(self, labels=index[self.labels], classes=tuple(classes))

    def batches(self, size: int) -> Iterator[tuple[Inputs, Labels]]:
        """Walks through all examples in order."""
        for start in range(0, len(self), size):
            yield self.inputs[start : start + size], self.labels[start : start + size]

    def sample(self, fraction: float, seed: int) -> "Dataset":
        """Draws a share of the examples at random, from each class in proportion.

        Raises:
            DataError: if the share is none, here and in what else draws one.
        """
        return self.where(_stratified(self.labels, fraction, seed))

    def split(self, fraction: float, seed: int) -> tuple["Dataset", "Dataset"]:
        """Splits off a share at random, from each class in proportion: (rest, share)."""
        share = _stratified(self.labels, fraction, seed)
        return self.where(~share), self.where(share)

    def hold_out(self, fraction: float, seed: int, *, by_clip: bool = False) -> tuple["Dataset", "Dataset"]:
        """Splits off about a share, whole speakers where they are known: (rest, held out).

        Clips of a speaker are alike, so accuracy on one of them says little if the others were trained on.
        Speakers are drawn at random while they bring the held-out share nearer to `fraction` and leave some
        clips of each class in the rest. Without speakers, or where no speaker can be spared, it is `split`,
        less the clips without which a class would have none in the rest.

        Args:
            fraction: share of the examples to hold out.
            seed: of the draw.
            by_clip: whether to split by clip even where speakers are known.
        """
        if self.speakers is not None and not by_clip:
            held_out = _whole_speakers(self.speakers, self.labels, fraction, seed)
            if held_out.any():
                return self.where(~held_out), self.where(held_out)
        held_out = _sparing(_stratified(self.labels, fraction, seed), self.labels)
        return self.where(~held_out), self.where(held_out)


def _check_share(fraction: float) -> None:
    if not 0 <= fraction <= 1:
        raise DataError(f"a share of the examples lies between 0 and 1, got {fraction:g}")


def _stratified(labels: Tensor, fraction: float, seed: int) -> Tensor:
    """A mask over floor or ceil of fraction * n: every (1 / fraction)-th of the examples sorted by class."""
    _check_share(fraction)
    rng = generator(seed, "stratified")
    order = torch.randperm(len(labels), generator=rng)
    order = order[labels[order].argsort(stable=True)]
    offset = torch.rand(1, generator=rng, dtype=torch.float64)
    passed = torch.floor(torch.arange(len(labels) + 1, dtype=torch.float64) * fraction + offset)
    mask = torch.zeros(len(labels), dtype=torch.bool)
    mask[order] = passed.diff() > 0
    return mask


def _sparing(mask: Tensor, labels: Tensor) -> Tensor:
    """The mask without the first example of each class of which it would take all."""
    kept = mask.clone()
    for label in labels.unique():
        (own,) = (labels == label).nonzero(as_tuple=True)
        if mask[own].all():
            kept[own[0]] = False
    return kept


def _whole_speakers(speakers: Sequence[str], labels: Tensor, fraction: float, seed: int) -> Tensor:
    """A mask over all examples of some speakers, about `fraction` of all; empty if none can be spared."""
    _check_share(fraction)
    names = sorted(set(speakers))
    speaker = torch.tensor([names.index(name) for name in speakers])
    classes = int((labels.bincount() > 0).sum())
    mask = torch.zeros(len(labels), dtype=torch.bool)
    for drawn in torch.randperm(len(names), generator=generator(seed, "speakers")).tolist():
        more = mask | (speaker == drawn)
        nearer = abs(float(more.sum()) - fraction * len(labels)) < abs(
            float(mask.sum()) - fraction * len(labels)
        )
        if nearer and int((labels[~more].bincount() > 0).sum()) == classes:
            mask = more
    return mask


TRAIN, VALIDATION, TEST = range(3)
"""The parts of a data set, by their place in `Splits`."""


class Splits(NamedTuple):
    """A data set in its three parts; the test part is for measuring only."""

    train: Dataset
    validation: Dataset
    test: Dataset

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
