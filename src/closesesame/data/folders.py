"""Recordings on disk as data sets; `listing` says which layouts are read."""

import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

import torch

from closesesame.core.bounds import SplitRule, Task, check_classes, check_reading
from closesesame.core.errors import DataError, DataWarning, SettingError, cut, listed

from .dataset import Dataset, Splits
from .listing import decisive_files, find, list_recordings
from .reading import Clips, read_clips
from .recordings import Listing, Recording, knows_speakers, label_of
from .report import ReadingReport
from .splitting import partition

__all__ = [
    "Read",
    "ReadFolder",
    "Recording",
    "SplitRule",
    "Task",
    "decisive_files",
    "list_recordings",
    "load_folder",
    "load_splits",
    "read_folder",
    "read_splits",
]


@dataclass(frozen=True, eq=False)
class Read:
    """A data set in its parts, and the report on how it was read."""

    splits: Splits
    report: ReadingReport


@dataclass(frozen=True, eq=False)
class ReadFolder:
    """A data set, and the report on how it was read."""

    data: Dataset
    report: ReadingReport


def load_folder(
    folder: Path | str,
    *,
    sample_rate: int = 16_000,
    duration_s: float = 1.0,
    task: Task = "word",
    skip_bad: bool = False,
) -> Dataset:
    """Loads a data set; every recording is resampled, mixed down, and cut or padded.

    Surprises are given as `DataWarning`s; `read_folder` returns them instead.

    Args:
        folder: a folder of recordings, see `listing` for the layouts, or a table of them (.csv).
        sample_rate: the wanted rate, Hz.
        duration_s: the length of every clip.
        task: whether the label is the class folder or the speaker.
        skip_bad: leave out recordings that cannot be used.

    Raises:
        DataError: naming what cannot be used.
        SettingError: if the rate or the length is none of speech.
    """
    read = read_folder(folder, sample_rate=sample_rate, duration_s=duration_s, task=task, skip_bad=skip_bad)
    _warn(read.report.surprises())
    return read.data


def load_splits(
    folder: Path | str,
    *,
    sample_rate: int = 16_000,
    duration_s: float = 1.0,
    task: Task = "word",
    split: SplitRule = "auto",
    seed: int = 0,
    skip_bad: bool = False,
) -> Splits:
    """Loads a data set and splits it into training, validation and test part.

    The rule `auto` takes the first that fits: `manifest` or `folders` (the parts are named there), `lists`
    (those of Speech Commands), `speakers` (no speaker in two parts; needs 10 of them), `takes` (of each
    speaker and word the first 10 % of the takes are for the test, the next 10 % for validation), `random`
    (of each class 10 % each). Where the label is the speaker it is `takes`. Every part that is drawn leaves
    recordings of each class for training. Surprises are given as `DataWarning`s; `read_splits` returns them.

    Raises:
        DataError: as `load_folder`, or if the rule does not fit the data.
        SettingError: as `load_folder`.
    """
    read = read_splits(
        folder,
        sample_rate=sample_rate,
        duration_s=duration_s,
        task=task,
        split=split,
        seed=seed,
        skip_bad=skip_bad,
    )
    _warn(read.report.surprises())
    return read.splits


def read_folder(
    folder: Path | str,
    *,
    sample_rate: int = 16_000,
    duration_s: float = 1.0,
    task: Task = "word",
    skip_bad: bool = False,
) -> ReadFolder:
    """Loads a data set as `load_folder` does, with a report and without warnings."""
    check_reading(sample_rate, duration_s)
    _check_choices(task)
    listing = find(Path(folder))
    _classes(listing, task)
    clips = read_clips(listing, sample_rate, duration_s, skip_bad=skip_bad)
    listing = listing.without(clips.bad)
    data = _dataset(listing, clips, sample_rate, task)
    return ReadFolder(data, ReadingReport.made(listing, data, clips.notes, duration_s, task, None))


def read_splits(
    folder: Path | str,
    *,
    sample_rate: int = 16_000,
    duration_s: float = 1.0,
    task: Task = "word",
    split: SplitRule = "auto",
    seed: int = 0,
    skip_bad: bool = False,
    whole: bool = False,
    fewest_classes: int = 2,
) -> Read:
    """Loads and splits a data set as `load_splits` does, with a report and without warnings.

    Args:
        folder: as `load_splits` takes it, and so are the others.
        sample_rate: the wanted rate, Hz.
        duration_s: the length of every clip.
        task: whether the label is the class folder or the speaker.
        split: the rule.
        seed: of the rule.
        skip_bad: leave out recordings that cannot be used.
        whole: whether all parts are used as one, so that some may be empty.
        fewest_classes: 1 if there need be no second class, as of inputs of a model that is trained already.
    """
    check_reading(sample_rate, duration_s)
    _check_choices(task, split)
    listing = find(Path(folder))
    _classes(listing, task, fewest_classes)
    parted = partition(listing, task, split, seed, may_be_empty=whole)
    clips = read_clips(listing, sample_rate, duration_s, skip_bad=skip_bad)
    if clips.bad:
        listing = listing.without(clips.bad)
        parted = partition(listing, task, split, seed, may_be_empty=whole)
    data = _dataset(listing, clips, sample_rate, task, fewest_classes)
    report = ReadingReport.made(listing, data, clips.notes, duration_s, task, parted)
    return Read(Splits.of(data, parted.parts), report)


def _dataset(
    listing: Listing, clips: Clips, sample_rate: int, task: Task, fewest_classes: int = 2
) -> Dataset:
    classes = _classes(listing, task, fewest_classes)
    index = {name: number for number, name in enumerate(classes)}
    recordings = listing.recordings
    return Dataset(
        inputs=clips.rows,
        labels=torch.tensor([index[label_of(recording, task) or ""] for recording in recordings]),
        classes=classes,
        ids=tuple(recording.id for recording in recordings),
        sample_rate=sample_rate,
        speakers=tuple(r.speaker or r.id for r in recordings) if knows_speakers(recordings) else None,
    )


def _classes(listing: Listing, task: Task, fewest: int = 2) -> tuple[str, ...]:
    """The names of the classes, sorted."""
    labels = {recording.id: label_of(recording, task) for recording in listing.recordings}
    nameless = [name for name, label in labels.items() if label is None]
    if nameless:
        raise DataError(
            f"{len(nameless):,} of {len(labels):,} recordings of {listing.name} name no speaker "
            f"({listed(nameless)}); call them <speaker>_<take>, or name the speaker in manifest.csv"
        )
    classes = sorted({label for label in labels.values() if label is not None})
    if len(classes) < fewest:
        raise DataError(
            f"{listing.name} has one class, {classes[0]!r}; two are needed: add recordings of another"
        )
    check_classes(classes, listing.name, fewest)
    return tuple(classes)


def _check_choices(task: str, split: str = "auto") -> None:
    for name, value, known in (("task", task, get_args(Task)), ("split", split, get_args(SplitRule))):
        if value not in known:
            raise SettingError(f"{name} must be one of {', '.join(known)}, got {cut(repr(value))}")


def _warn(surprises: Iterable[str]) -> None:
    for sentence in surprises:
        warnings.warn(sentence, DataWarning, stacklevel=3)
