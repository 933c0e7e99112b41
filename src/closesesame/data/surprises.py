"""Sentences on what a user may not expect of a data set."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence

from closesesame.audio.files import SPARED_S
from closesesame.core.errors import counted, cut, listed

from .recordings import Skipped, Why
from .report import Clip, ReadingReport

NOTABLE_S = 0.05
"""Less than this cut off a recording is no surprise."""
MOST = 0.5
"""Share of recordings from which on it is said again that they were cut or padded."""
NOTABLE_SHARE = 0.05
"""Fewer clipped recordings in each class are no surprise."""
SILENCE_CLASSES = frozenset({"_silence_", "silence"})
SPLIT_ELSEWHERE = frozenset({"manifest", "folders", "lists"})
"""Rules that take the parts as others made them."""
_SKIPPED: dict[Why, tuple[str, str]] = {
    "format": (
        "was not read, since its format is not supported ({}); convert it to WAV or FLAC",
        "were not read, since their formats are not supported ({}); convert them to WAV or FLAC",
    ),
    "hidden": (
        "was not read, since it is a hidden file ({})",
        "were not read, since they are hidden files ({})",
    ),
    "outside": (
        "was not read, since it lies outside of the class folders ({})",
        "were not read, since they lie outside of the class folders ({})",
    ),
    "link": (
        "was not read, since it is a broken link or no file ({})",
        "were not read, since they are broken links or no files ({})",
    ),
    "bad": ("was skipped: {}", "were skipped: {}"),
}


def say(report: ReadingReport, *, length_known: bool = False) -> list[str]:
    """One sentence on each thing.

    Args:
        report: on a data set.
        length_known: whether the length of clips was not chosen here but is that of a model. That some
            recordings are cut or padded was said when it was trained, and is said again only of most.
    """
    lengths = _say_lengths(report, length_known=length_known)
    return [
        *report.said,
        *_say_skipped(report.skipped),
        *lengths,
        *_say_sounds(report),
        *_say_split(report),
    ]


def _say_skipped(skipped: Sequence[Skipped]) -> list[str]:
    """On files that were not read, by reason."""
    said = []
    for why, (one, many) in _SKIPPED.items():
        names = [f"{file.id} {file.reason}".strip() for file in skipped if file.why == why]
        if names:
            sentence = (one if len(names) == 1 else many).format(listed(names))
            said.append(f"{counted(len(names), 'recording')} {sentence}")
    return said


def _say_lengths(report: ReadingReport, *, length_known: bool) -> list[str]:
    """On recordings that are longer or shorter than their clips."""
    clips, seconds = report.clips, f"{report.duration_s:g} s"
    remedy = "" if length_known else "; read more with --duration-s (duration_s)"
    cut = [clip for clip in clips if report.lost_s(clip) > NOTABLE_S]
    brief = [clip for clip in clips if clip.note.length_s < report.duration_s / 2]
    if length_known:
        cut, brief = (own if len(own) > MOST * len(clips) else [] for own in (cut, brief))
    said = []
    if cut:
        longest = max(cut, key=lambda clip: clip.note.length_s)
        lost = sum(map(report.lost_s, cut))
        said.append(
            f"{_some(cut, clips)} longer than {seconds} and cut, {lost:,.1f} s are lost (the longest has "
            f"{longest.note.length_s:.2f} s: {_names([longest])}){remedy}"
        )
    if brief:
        shortest = min(brief, key=lambda clip: clip.note.length_s)
        said.append(
            f"{_some(brief, clips)} shorter than half of {seconds} and padded with silence (the shortest "
            f"has {shortest.note.length_s:.2f} s: {_names([shortest])})"
        )
    return said


def _say_sounds(report: ReadingReport) -> list[str]:
    """On clips that are silent, clipped, or lack a part of their recordings."""
    clips = report.clips
    kinds = {
        f"recorded at less than half of {report.sample_rate:,} Hz, so high tones are missing": [
            clip for clip in clips if 2 * clip.note.rate_hz < report.sample_rate
        ],
        "truncated behind what is used of it": [c for c in clips if c.note.missing_s > SPARED_S],
        "silent, since channels cancel out when mixed down": [c for c in clips if c.note.cancelled],
        "silent": [clip for clip in clips if _is_silent(clip)],
        "clipped: samples stay at full scale again and again": _clipped(report),
    }
    return [f"{_some(c, clips)} {what} ({_names(c)})" for what, c in kinds.items() if c]


def _is_silent(clip: Clip) -> bool:
    return clip.note.silent and not clip.note.cancelled and clip.label not in SILENCE_CLASSES


def _some(clips: Sequence[Clip], total: Sequence[Clip]) -> str:
    return f"{len(clips):,} of {counted(len(total), 'recording')} {'is' if len(clips) == 1 else 'are'}"


def _clipped(report: ReadingReport) -> list[Clip]:
    """All clipped ones, if they are many in some class."""
    total = Counter(clip.label for clip in report.clips)
    clipped = [clip for clip in report.clips if clip.note.clipped]
    some = Counter(clip.label for clip in clipped)
    return clipped if any(some[label] > NOTABLE_SHARE * total[label] for label in some) else []


def _say_split(report: ReadingReport) -> list[str]:
    """On equal clips, speakers in several parts, and classes that a part lacks."""
    said = [
        f"{counted(len(groups), 'sound')} {what}, equal in each sample "
        f"({listed(list(map(_pair, groups)), longest=130)})"
        for what, groups in _sort_duplicates(report.duplicates).items()
    ]
    speakers = defaultdict(set)
    for clip in report.clips:
        if clip.speaker is not None:
            speakers[clip.speaker].add(clip.part)
    shared = sorted(speaker for speaker, parts in speakers.items() if len(parts) > 1)
    if shared and report.split in SPLIT_ELSEWHERE and report.task == "word":
        said.append(
            f"{len(shared):,} of {counted(len(speakers), 'speaker')} "
            f"{'is' if len(shared) == 1 else 'are'} in several parts ({listed(shared)})"
        )
    return said + [
        _say_missing(row["part"], row["classes missing"]) for row in report.parts() if row["classes missing"]
    ]


def _sort_duplicates(groups: Iterable[Sequence[Clip]]) -> dict[str, list[Sequence[Clip]]]:
    """Groups of equal clips by what is wrong with them."""
    found = defaultdict(list)
    for group in groups:
        if len({clip.part for clip in group}) > 1:
            found["in several parts"].append(group)
        elif len({clip.label for clip in group}) > 1:
            found["in several classes"].append(group)
        else:
            found["several times in one class"].append(group)
    return {f"{'are' if len(alike) > 1 else 'is'} {what}": alike for what, alike in found.items()}


def _say_missing(part: str, missing: Sequence[str]) -> str:
    what = {
        "train": "which no model can learn",
        "validation": "which no training is watched on",
        "test": "which nothing is measured on",
    }
    classes = "class" if len(missing) == 1 else "classes"
    return f"the {part} part lacks {len(missing):,} {classes}, {what[part]} ({listed(missing)})"


def _names(clips: Iterable[Clip]) -> str:
    return listed([clip.note.id for clip in clips])


def _pair(group: Sequence[Clip]) -> str:
    return " = ".join(cut(clip.note.id) for clip in group[:2])
