"""Rules that say which recording goes to which part: training, validation or test."""

from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from closesesame.core.bounds import SplitRule, Task
from closesesame.core.errors import DataError, listed
from closesesame.core.seeding import generator

from .dataset import TEST, TRAIN, VALIDATION, Splits, assign_parts
from .lists import LISTS, match_list
from .recordings import Listing, Recording, knows_speakers, label_of

FEWEST_TAKES = 3
"""With fewer takes than this, all of them are for training."""
SHARE = 0.1
"""Share of the test part, and of the validation part, where they are drawn."""


@dataclass(frozen=True)
class Asked:
    """What a rule works on: the recordings, what their label is, and whether `auto` chose the rule."""

    listing: Listing
    task: Task
    seed: int
    auto: bool

    @property
    def recordings(self) -> tuple[Recording, ...]:
        """All recordings, in their order."""
        return self.listing.recordings

    def labels(self) -> list[str]:
        """The class of each recording."""
        return [label_of(recording, self.task) or "" for recording in self.recordings]


Found = tuple[list[int], list[str]]
"""The part of each recording, and sentences on surprises."""


def _given(asked: Asked) -> Found:
    """The parts that folders or a table name."""
    parts = [recording.part for recording in asked.recordings]
    known = [part for part in parts if part is not None]
    if len(known) < len(parts) or TRAIN not in known:
        raise DataError(
            f"{asked.listing.name} does not say the part of each recording; use split 'auto', put them into "
            "folders train, validation and test, or name the part in manifest.csv"
        )
    return _completed(known, asked, "parts")


def _by_lists(asked: Asked) -> Found:
    listing = asked.listing
    ids = [recording.id for recording in listing.recordings]
    classes = {recording.word for recording in listing.recordings}
    everything = [*ids, *(skipped.id for skipped in listing.skipped)]
    parts, surprises = dict.fromkeys(ids, TRAIN), list[str]()
    for number, name in ((VALIDATION, LISTS["validation"]), (TEST, LISTS["test"])):
        if not (listing.folder / name).is_file():
            if not asked.auto:
                raise DataError(f"{listing.name}/{name} is missing; the split 'lists' needs it")
            continue
        matched = match_list(listing.folder / name, everything, classes)
        surprises += matched.surprises
        both = [found for found in sorted(matched.ids) if parts.get(found) == VALIDATION]
        if both:
            surprises.append(
                f"{len(both):,} recordings stand in both lists and are in the test part ({listed(both)})"
            )
        parts |= {found: number for found in matched.ids if found in parts}
    given = list(parts.values())
    found, more = _completed(given, asked, "lists") if asked.auto else (given, [])
    return found, surprises + more


def _completed(parts: list[int], asked: Asked, what: str) -> Found:
    """Splits a validation or test part that nobody named off the training part."""
    surprises = []
    for number in (TEST, VALIDATION):
        if number not in parts:
            name = Splits._fields[number]
            rows = [row for row, part in enumerate(parts) if part == TRAIN]
            drawn = _draw(rows, asked, f"{name} part")
            parts = [number if row in drawn else part for row, part in enumerate(parts)]
            surprises.append(
                f"the {what} of {asked.listing.name} name no {name} part; {len(drawn):,} recordings were "
                "drawn from the training part"
            )
    return parts, surprises


def _draw(rows: list[int], asked: Asked, purpose: str) -> set[int]:
    """About a tenth of these rows: whole speakers, or some of each class; no class loses all of them."""
    recordings = [asked.recordings[row] for row in rows]
    labels = asked.labels()
    if asked.task == "word" and all(recording.speaker for recording in recordings):
        speakers = sorted({recording.speaker or "" for recording in recordings})
        order = torch.randperm(len(speakers), generator=generator(asked.seed, purpose)).tolist()
        share = max(1, round(SHARE * len(speakers)))
        left = Counter(labels[row] for row in rows)
        drawn = _spared([speakers[who] for who in order], share, recordings, left)
        if drawn:
            return {row for row in rows if asked.recordings[row].speaker in drawn}
    by_label = defaultdict(list)
    for row in rows:
        by_label[labels[row]].append(row)
    chosen = set()
    for label, mine in by_label.items():
        order = torch.randperm(len(mine), generator=generator(asked.seed, purpose, label)).tolist()
        chosen |= {mine[at] for at in order[: _share(len(mine))]}
    return chosen


def _spared(
    order: Sequence[str], share: int, recordings: Sequence[Recording], left: Counter[str]
) -> list[str]:
    """The first `share` speakers without whom each class still has recordings; they are taken from `left`."""
    says: dict[str | None, Counter[str]] = defaultdict(Counter)
    for recording in recordings:
        says[recording.speaker][recording.word] += 1
    found: list[str] = []
    for speaker in order:
        if len(found) < share and all(left[word] > count for word, count in says[speaker].items()):
            found.append(speaker)
            left.subtract(says[speaker])
    return found


def _by_speakers(asked: Asked) -> Found:
    recordings = asked.recordings
    speakers = sorted({recording.speaker for recording in recordings if recording.speaker is not None})
    if len(speakers) < 3 or not knows_speakers(recordings):
        raise DataError(
            f"split 'speakers' needs files <speaker>_<take> of 3 speakers or more in {asked.listing.name}"
        )
    nameless = [row for row, recording in enumerate(recordings) if recording.speaker is None]
    parts = _stratified(nameless, asked)
    left = Counter(r.word for row, r in enumerate(recordings) if parts.get(row, TRAIN) == TRAIN)
    who = torch.randperm(len(speakers), generator=generator(asked.seed, "speakers")).tolist()
    order, share = [speakers[at] for at in who], max(1, round(SHARE * len(speakers)))
    test = _spared(order, share, recordings, left)
    check = _spared([speaker for speaker in order if speaker not in test], share, recordings, left)
    part = dict.fromkeys(test, TEST) | dict.fromkeys(check, VALIDATION)
    found = [parts.get(row, part.get(r.speaker or "", TRAIN)) for row, r in enumerate(recordings)]
    return found, name_nameless(recordings, "each counts as its own speaker")


def name_nameless(recordings: Sequence[Recording], what: str) -> list[str]:
    """A sentence on files that do not say who speaks, if there are any, and on what happens to them."""
    ids = [recording.id for recording in recordings if recording.speaker is None]
    verb = "names" if len(ids) == 1 else "name"
    said = f"{len(ids):,} of {len(recordings):,} files {verb} no speaker ({listed(ids)}); {what}"
    return [said] if ids else []


def _by_takes(asked: Asked) -> Found:
    takes = defaultdict(set)
    for recording in asked.recordings:
        if recording.speaker is None and not asked.auto:
            raise DataError(
                f"split 'takes' needs files <speaker>_<take> in {asked.listing.name}, got {recording.id}"
            )
        takes[recording.speaker, recording.word].add(_place(recording))
    part_of = {}
    for (speaker, word), found in takes.items():
        share = 0 if speaker is None else _share(len(found))
        part_of[speaker, word] = assign_parts(sorted(found), share, share)
    parts = [part_of[recording.speaker, recording.word][_place(recording)] for recording in asked.recordings]
    return parts, name_nameless(asked.recordings, "they are in the training part")


def _place(recording: Recording) -> tuple[int, str]:
    """Where a recording stands among those of its speaker and word: by its take or, without one, its name."""
    return (-1, recording.id) if recording.take is None else (recording.take, "")


def _at_random(asked: Asked) -> Found:
    parts = _stratified(range(len(asked.recordings)), asked)
    return [parts[row] for row in range(len(parts))], []


def _stratified(rows: Sequence[int], asked: Asked) -> dict[int, int]:
    """A part for each of these rows, drawn from each class by itself."""
    labels, by_label = asked.labels(), defaultdict(list)
    for row in rows:
        by_label[labels[row]].append(row)
    parts = dict.fromkeys(rows, TRAIN)
    for label, mine in by_label.items():
        order = torch.randperm(len(mine), generator=generator(asked.seed, "random", label)).tolist()
        share = _share(len(mine))
        parts |= assign_parts([mine[at] for at in order], share, share)
    return parts


def _share(count: int) -> int:
    """How many of `count` go to the test part, and as many to validation; some are left for training."""
    return max(1, round(SHARE * count)) if count >= FEWEST_TAKES else 0


RULES: dict[SplitRule, Callable[[Asked], Found]] = {
    "manifest": _given,
    "folders": _given,
    "lists": _by_lists,
    "speakers": _by_speakers,
    "takes": _by_takes,
    "random": _at_random,
}
