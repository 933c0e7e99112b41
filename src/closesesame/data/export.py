"""A data set as a folder of recordings that any other tool can train on."""

import csv
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from closesesame.audio import files
from closesesame.core.bounds import check_classes
from closesesame.core.errors import DataError
from closesesame.core.progress import Track

from .dataset import Dataset, Splits
from .listing import MANIFEST
from .lists import LISTS
from .recordings import PARTS, named
from .scanning import NO_CLASS, TRIGGER_FOLDER

LONGEST_SPEAKER_BYTES, LONGEST_NAME_BYTES = 150, 255
KEPT_SUFFIXES = {".wav", ".flac"}
"""What is written as it was called; a recording of another format becomes a FLAC of the same name."""
COLUMNS = ["path", "part", "label", "original"]


def export(
    splits: Splits,
    folder: Path,
    columns: Mapping[str, Mapping[str, Sequence[object]]] | None = None,
    originals: Collection[str] = (),
) -> None:
    """Writes `<class>/<recording>`, the two lists of Speech Commands, and a manifest.

    A clip keeps its path, so that lists of clips name the same clips in the copy. One whose path is not in
    the folder of its class, or is taken, gets another that no other clip had: its own name there or, where
    that will not do, `<speaker>_nohash_<n>`, or `<n>` without speakers. Where names of files do not say who
    speaks, the manifest has a column `speaker`.

    Args:
        splits: speech; `load_splits` reads it again with the same parts, labels and speakers.
        folder: must be empty.
        columns: more columns of the manifest, by part and name, one value an example.
        originals: ids of clips that were left out; no other clip gets their names.

    Raises:
        DataError: if a class name is no folder name, the data set is no speech, or it cannot be written.
    """
    _check(splits)
    try:
        _write(splits, folder, columns or {}, originals)
    except OSError as error:
        where = files.show_name(error.filename or folder)
        reason = error.strerror or type(error).__name__
        raise DataError(f"{where} cannot be written ({reason}); make room or choose another place") from None


def _write(
    splits: Splits,
    folder: Path,
    more: Mapping[str, Mapping[str, Sequence[object]]],
    originals: Collection[str],
) -> None:
    names = sorted({name for part in more.values() for name in part})
    rows: list[list[object]] = []
    lists: dict[str, list[str]] = {name: [] for name in LISTS}
    places = _Places(splits, originals)
    paths = {part: places.of(data) for part, data in splits._asdict().items()}
    all_named = all(
        named(Path(path))[0] == (data.speakers[row] if data.speakers else None)
        for part, data in splits._asdict().items()
        for row, path in enumerate(paths[part])
    )
    for part, data in zip(Splits._fields, splits, strict=True):
        for row in Track(range(len(data)), f"writing {part}", len(data)):
            path = paths[part][row]
            target = folder / path
            target.parent.mkdir(parents=True, exist_ok=True)
            files.write(target, data.inputs[row : row + 1][0], data.sample_rate or 0)
            extra = [more.get(part, {}).get(name, [""] * len(data))[row] for name in names]
            speaker = [] if all_named else [data.speakers[row] if data.speakers else ""]
            rows.append([path, part, data.classes[int(data.labels[row])], data.ids[row], *speaker, *extra])
            if part in lists:
                lists[part].append(path)
    for part, listed in lists.items():
        (folder / LISTS[part]).write_text("".join(f"{path}\n" for path in listed), encoding="utf-8")
    header = [*COLUMNS, *(["speaker"] * (not all_named)), *names]
    with (folder / MANIFEST).open("w", newline="", encoding="utf-8", errors="backslashreplace") as file:
        csv.writer(file).writerows([header, *rows])


def is_export(folder: Path) -> bool:
    """Whether a folder holds what `export` wrote, and triggers, and nothing else."""
    try:
        with (folder / MANIFEST).open(newline="", encoding="utf-8") as file:
            header, *rows = csv.reader(file)
    except (OSError, ValueError, csv.Error):
        return False
    known = {MANIFEST, *LISTS.values(), *(row[0] for row in rows if row)}
    there = {path.relative_to(folder) for path in folder.rglob("*") if not path.is_dir()}
    others = {path.as_posix() for path in there if not path.parts[0].startswith(TRIGGER_FOLDER)}
    return header[: len(COLUMNS)] == COLUMNS and others <= known


def _check(splits: Splits) -> None:
    if any(data.sample_rate is None for data in splits):
        raise DataError("only speech can be written as recordings; this data set has no sample rate")
    classes = splits.train.classes
    check_classes(classes, "the data set")
    for name in classes:
        unfit = "/" in name or name[0] == "." or name != name.strip() or name.startswith(TRIGGER_FOLDER)
        if unfit or name in NO_CLASS:
            raise DataError(f"class {name!r} cannot be a folder name; rename it")


def _short_names(splits: Splits) -> dict[str, str]:
    """The name of each speaker in the names of files."""
    speakers = sorted({speaker for data in splits for speaker in data.speakers or ()})
    return {
        speaker: speaker if _can_name(speaker) else f"speaker{number}"
        for number, speaker in enumerate(speakers)
    }


def _can_name(speaker: str) -> bool:
    """Whether the name of a file can give a speaker's name, and be read again."""
    name = Path(f"{speaker}_nohash_0.flac")
    short = len(speaker.encode("utf-8", "replace")) <= LONGEST_SPEAKER_BYTES
    plain = speaker.isprintable() and speaker[:1] != "." and "/" not in speaker
    return short and plain and named(name)[0] == speaker


class _Places:
    """Where clips go: no two to one place, and none to that of another."""

    def __init__(self, splits: Splits, originals: Collection[str]) -> None:
        self._short = _short_names(splits)
        self._originals = {*originals, *(name for data in splits for name in data.ids)}
        self._reserved = {_stem(name) for name in self._originals}
        self._taken: set[str] = set()
        self._numbers: dict[tuple[str, str], int] = {}

    def of(self, data: Dataset) -> list[str]:
        """The path of each clip of a part."""
        labels = [data.classes[label] for label in data.labels.tolist()]
        speakers = data.speakers or [None] * len(data)
        return [self._place(*clip) for clip in zip(data.ids, labels, speakers, strict=True)]

    def _place(self, original: str, label: str, speaker: str | None) -> str:
        suffix = Path(original).suffix
        written = suffix if suffix.lower() in KEPT_SUFFIXES else ".flac"
        kept = _stem(original) + written
        may_stay = kept == original or kept not in self._originals
        if not (_in_class(kept, label) and may_stay and kept not in self._taken):
            kept = self._new(original, label, speaker) + written
        self._taken.add(kept)
        self._reserved.add(_stem(kept))
        return kept

    def _new(self, original: str, label: str, speaker: str | None) -> str:
        """A path without suffix that no clip has: the name of the file in the label's folder, or a number."""
        name = _stem(original).rpartition("/")[2]
        path = f"{label}/{name}"
        says_who = named(Path(f"{name}.flac"))[0] == speaker
        if _is_recording(original) and says_who and _in_class(path, label) and path not in self._reserved:
            return path
        who = "" if speaker is None else self._short[speaker]
        while True:
            number = self._numbers.get((label, who), 0)
            self._numbers[label, who] = number + 1
            path = f"{label}/{who}_nohash_{number}" if who else f"{label}/{number}"
            if path not in self._reserved:
                return path


def _is_recording(name: str) -> bool:
    return Path(name).suffix.lower() in files.SUFFIXES


def _stem(name: str) -> str:
    """A path without the suffix of a recording."""
    return name[: -len(Path(name).suffix)] if _is_recording(name) else name


def _in_class(path: str, label: str) -> bool:
    """Whether a path within a data set can be written and is read again, as a clip of this class."""
    place, *parts = path.split("/")
    says_part = len(parts) > 1 and parts[0].casefold() in PARTS
    if place != label or not parts or says_part or not path.isprintable():
        return False
    return all(part[:1] not in {"", "."} and len(part.encode()) <= LONGEST_NAME_BYTES for part in parts)
