"""What is known of recordings before any of them is decoded."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from closesesame.audio.files import show_name
from closesesame.core.bounds import Task

from .dataset import TEST, TRAIN, VALIDATION

PARTS = {
    **dict.fromkeys(("train", "training"), TRAIN),
    **dict.fromkeys(("validation", "valid", "val", "dev"), VALIDATION),
    **dict.fromkeys(("test", "testing"), TEST),
}
"""The part that each name of a folder, or entry of a table, stands for."""

Why = Literal["format", "hidden", "outside", "link", "bad"]
Layout = Literal["classes", "folders", "manifest"]
_TAKE = re.compile(r"^(?P<speaker>.+?)_(?:nohash_)?(?P<take>\d+)$")


@dataclass(frozen=True)
class Recording:
    """One file of a data set, and what its name or a table says.

    Attributes:
        path: the file.
        word: the class it lies in.
        speaker: who speaks, if that is known.
        take: the number of the take, if that is known.
        id: its path within the data set, as the lists of Speech Commands write it.
        part: `TRAIN`, `VALIDATION` or `TEST`, if that is said.
    """

    path: Path
    word: str
    speaker: str | None
    take: int | None
    id: str
    part: int | None = None


@dataclass(frozen=True)
class Skipped:
    """A file that is not read: its path within the data set, what kind of reason, and for bad ones which."""

    id: str
    why: Why
    reason: str = ""


@dataclass(frozen=True)
class Listing:
    """The recordings of a data set, sorted; the skipped files; facts and surprises, a sentence each."""

    source: Path
    layout: Layout
    recordings: tuple[Recording, ...]
    skipped: tuple[Skipped, ...] = ()
    facts: tuple[str, ...] = ()
    surprises: tuple[str, ...] = ()

    @property
    def folder(self) -> Path:
        """Where the lists are looked for."""
        return self.source if self.source.is_dir() else self.source.parent

    @property
    def name(self) -> str:
        """Its path for a sentence."""
        return show_name(self.source)

    def without(self, bad: Sequence[Skipped]) -> "Listing":
        """The same without recordings that turned out to be bad."""
        gone = {skipped.id for skipped in bad}
        kept = tuple(recording for recording in self.recordings if recording.id not in gone)
        return replace(self, recordings=kept, skipped=(*self.skipped, *bad))


def named(path: Path) -> tuple[str | None, int | None]:
    """The speaker and the take that the name of a file says."""
    found = _TAKE.match(show_name(path.stem))
    return (found["speaker"], int(found["take"])) if found else (None, None)


def last_number(stem: str) -> int | None:
    """The number at the end of a name."""
    found = re.search(r"\d+$", stem)
    return int(found[0]) if found else None


def label_of(recording: Recording, task: Task) -> str | None:
    """The name of a recording's class."""
    return recording.word if task == "word" else recording.speaker


def knows_speakers(recordings: Sequence[Recording]) -> bool:
    """Whether at least half of the recordings say who speaks; each other one counts as its own speaker."""
    return 2 * sum(recording.speaker is not None for recording in recordings) >= len(recordings) > 0
