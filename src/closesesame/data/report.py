"""What happened when a data set was read; every command that reads one shows it."""

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from closesesame.audio.files import is_clipped, to_int16

from .dataset import Dataset, Splits
from .reading import Note, silence_and_digest
from .recordings import Listing, Skipped, knows_speakers
from .splitting import Partition

CHANGES = ("resampled", "mixed down", "cut", "padded", "silent", "clipped", "duplicate")
TOLERANCE_S = 1e-3
"""A difference in length that is rounding."""
CHUNK = 256


@dataclass(frozen=True)
class Clip:
    """One clip: what happened to its recording, its class, who speaks if that is known, and its part."""

    note: Note
    label: str
    speaker: str | None
    part: str | None


@dataclass(frozen=True, eq=False)
class ReadingReport:
    """What happened when a data set was read.

    Attributes:
        source: where it is, or what it is.
        sample_rate: the rate everything was read at, Hz.
        duration_s: the length of every clip.
        task: whether the label is the class folder or the speaker.
        split: the rule that chose the parts; None if there are none.
        why: why that rule, in a few words.
        classes: all names of classes.
        clips: all clips, in their order.
        skipped: files that were not read.
        facts: what else is there.
        said: surprises that were found before anything was decoded.
    """

    source: str
    sample_rate: int
    duration_s: float
    task: str
    split: str | None
    why: str
    classes: tuple[str, ...]
    clips: tuple[Clip, ...]
    skipped: tuple[Skipped, ...] = ()
    facts: tuple[str, ...] = ()
    said: tuple[str, ...] = ()

    @classmethod
    def made(
        cls,
        listing: Listing,
        data: Dataset,
        notes: Sequence[Note],
        duration_s: float,
        task: str,
        parted: Partition | None,
    ) -> "ReadingReport":
        """The report on recordings that were read."""
        known = knows_speakers(listing.recordings)
        parts = [None] * len(data) if parted is None else [Splits._fields[part] for part in parted.parts]
        labels = (data.classes[label] for label in data.labels.tolist())
        speakers = (recording.speaker if known else None for recording in listing.recordings)
        return cls(
            source=listing.name,
            sample_rate=data.sample_rate or 0,
            duration_s=duration_s,
            task=task,
            split=None if parted is None else parted.rule,
            why="" if parted is None else parted.why,
            classes=data.classes,
            clips=tuple(map(Clip, notes, labels, speakers, parts)),
            skipped=listing.skipped,
            facts=listing.facts,
            said=(*listing.surprises, *(parted.surprises if parted else ())),
        )

    @classmethod
    def of(cls, splits: Splits, source: str = "synthetic speech") -> "ReadingReport":
        """The report on clips that were synthesised, not read."""
        rate = splits.train.sample_rate or 1
        duration_s = splits.train.input_shape[0] / rate
        return cls(
            source=source,
            sample_rate=rate,
            duration_s=duration_s,
            task="word",
            split="speakers",
            why="no speaker is in two parts",
            classes=splits.train.classes,
            clips=tuple(
                clip
                for part, data in splits._asdict().items()
                for clip in _look(data, part, rate, duration_s)
            ),
        )

    @property
    def parted(self) -> bool:
        """Whether the data set was split."""
        return self.split is not None

    @property
    def silent(self) -> bool:
        """Whether there are clips, and none has sound."""
        return bool(self.clips) and all(clip.note.silent for clip in self.clips)

    @cached_property
    def duplicates(self) -> list[list[Clip]]:
        """Clips that are equal sample by sample; silent ones do not count."""
        alike = defaultdict(list)
        for clip in self.clips:
            if not clip.note.silent:
                alike[clip.note.digest].append(clip)
        return [clips for clips in alike.values() if len(clips) > 1]

    @cached_property
    def _copies(self) -> set[str]:
        return {clip.note.id for clips in self.duplicates for clip in clips[1:]}

    def lost_s(self, clip: Clip) -> float:
        """How much of a recording is not in its clip."""
        return max(0.0, clip.note.length_s - self.duration_s)

    def changes(self, clip: Clip) -> Iterator[str]:
        """What happened to a recording, of `CHANGES`."""
        note = clip.note
        happened = {
            "resampled": note.rate_hz != self.sample_rate,
            "mixed down": note.channels > 1,
            "cut": self.lost_s(clip) > TOLERANCE_S,
            "padded": note.length_s < self.duration_s - TOLERANCE_S,
            "silent": note.silent,
            "clipped": note.clipped,
            "duplicate": note.id in self._copies,
        }
        return (name for name in CHANGES if happened[name])

    def by_class(self) -> list[dict[str, Any]]:
        """One row a class: clips, by part if there are any, speakers, and what happened to how many."""
        parts = Splits._fields if self.parted else ("clips",)
        counts = {name: Counter[str]() for name in self.classes}
        speakers = {name: set[str]() for name in self.classes}
        for clip in self.clips:
            counts[clip.label].update([clip.part or "clips", *self.changes(clip)])
            if clip.speaker is not None:
                speakers[clip.label].add(clip.speaker)
        return [
            {"class": name}
            | {part: counts[name][part] for part in parts}
            | {"speakers": len(speakers[name]) or None}
            | {change: counts[name][change] for change in CHANGES}
            for name in self.classes
        ]

    def parts(self) -> list[dict[str, Any]]:
        """One row a part: its clips, speakers and the classes it lacks; none if there are no parts."""
        rows: list[dict[str, Any]] = []
        for part in Splits._fields if self.parted else ():
            clips = [clip for clip in self.clips if clip.part == part]
            there = {clip.label for clip in clips}
            speakers = {clip.speaker for clip in clips if clip.speaker is not None}
            rows.append(
                {
                    "part": part,
                    "clips": len(clips),
                    "speakers": len(speakers) or None,
                    "classes missing": [name for name in self.classes if name not in there],
                }
            )
        return rows

    def surprises(self, *, length_known: bool = False) -> list[str]:
        """One sentence on each thing that a user may not expect; empty if there is none.

        Args:
            length_known: whether the clips have the length of a model, see `surprises.say`.
        """
        from .surprises import say

        return say(self, length_known=length_known)

    def as_json(self) -> dict[str, Any]:
        """As plain JSON values."""
        return {
            "source": self.source,
            "sample_rate": self.sample_rate,
            "duration_s": self.duration_s,
            "task": self.task,
            "split": self.split,
            "why": self.why,
            "clips": len(self.clips),
            "classes": self.by_class(),
            "parts": self.parts(),
            "skipped": [{"file": s.id, "why": s.why, "reason": s.reason} for s in self.skipped],
            "surprises": self.surprises(),
            "facts": list(self.facts),
        }


def _look(data: Dataset, part: str, rate: int, duration_s: float) -> Iterator[Clip]:
    for start in range(0, len(data), CHUNK):
        for row, samples in enumerate(data.inputs[start : start + CHUNK].numpy(), start=start):
            silent, digest = silence_and_digest(to_int16(samples))
            note = Note(
                id=data.ids[row],
                rate_hz=rate,
                channels=1,
                length_s=duration_s,
                missing_s=0.0,
                clipped=is_clipped(samples[:, None]),
                cancelled=False,
                silent=silent,
                digest=digest,
            )
            speaker = data.speakers[row] if data.speakers else None
            yield Clip(note, data.classes[int(data.labels[row])], speaker, part)
