"""All files of a folder, sorted into recordings, what is skipped, and the rest."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from closesesame.audio.files import SUFFIXES, UNREADABLE, show_name
from closesesame.core.errors import listed

from .recordings import Skipped

NO_CLASS = {"_background_noise_": "noise, no class", "__MACOSX": "of macOS, no class"}
TRIGGER = "trigger.json"
TRIGGER_FOLDER = "_trigger"
"""How folders of triggers beside recordings begin."""


@dataclass(frozen=True)
class Scan:
    """All files of a folder: recordings by their path in it, what is skipped, other facts, class folders."""

    recordings: dict[str, Path]
    skipped: list[Skipped]
    facts: list[str]
    places: list[str]


def scan_folder(folder: Path) -> Scan:
    """Looks at all files of a folder; none is opened."""
    scan, others = Scan({}, [], [], []), Counter[str]()
    for entry in sorted(folder.iterdir()):
        if not entry.is_dir():
            if entry.suffix.lower() in SUFFIXES | UNREADABLE:
                hidden = entry.name.startswith(".")
                scan.skipped.append(Skipped(show_name(entry.name), "hidden" if hidden else "outside"))
            continue
        if entry.name.startswith("."):
            continue
        no_class = NO_CLASS.get(entry.name) or ("a trigger, no class" * (entry / TRIGGER).is_file())
        if no_class:
            scan.facts.append(f"{show_name(entry.name)} is {no_class}")
            continue
        scan.places.append(entry.name)
        for path in sorted(_walk(entry)):
            _sort_in(path, folder, scan, others)
    if others:
        kinds = listed(
            [f"{count:,} {suffix or 'without suffix'}" for suffix, count in sorted(others.items())], 5
        )
        scan.facts.append(f"other files in class folders: {kinds}")
    return scan


def _walk(place: Path) -> Iterator[Path]:
    """All files below a folder, each folder once, whatever links lead there; hidden folders are left out."""
    waiting, seen = [place], set[Path]()
    while waiting:
        folder = waiting.pop()
        if (real := folder.resolve()) in seen:
            continue
        seen.add(real)
        for entry in folder.iterdir():
            if not entry.is_dir():
                yield entry
            elif not entry.name.startswith("."):
                waiting.append(entry)


def _sort_in(path: Path, folder: Path, scan: Scan, others: Counter[str]) -> None:
    name, suffix = show_name(path.relative_to(folder).as_posix()), path.suffix.lower()
    if suffix not in SUFFIXES | UNREADABLE:
        if not path.name.startswith("."):
            others[show_name(suffix)] += 1
    elif path.name.startswith("."):
        scan.skipped.append(Skipped(name, "hidden"))
    elif not path.is_file():
        scan.skipped.append(Skipped(name, "link"))
    elif suffix in UNREADABLE:
        scan.skipped.append(Skipped(name, "format"))
    else:
        scan.recordings[name] = path
