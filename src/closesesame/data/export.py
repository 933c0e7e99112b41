"""A data set as a folder of recordings that any other tool can train on."""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path

from closesesame.audio import files
from closesesame.core.bounds import check_classes
from closesesame.core.errors import DataError
from closesesame.core.progress import Track

from .dataset import Dataset, Splits
from .listing import MANIFEST
from .lists import LISTS
from .recordings import named
from .scanning import NO_CLASS, TRIGGER_FOLDER

LONGEST_SPEAKER_BYTES = 150
COLUMNS = ["path", "part", "label", "original"]


def export(
    splits: Splits, folder: Path, columns: Mapping[str, Mapping[str, Sequence[object]]] | None = None
) -> None:
    """Writes `<class>/<speaker>_nohash_<n>.flac`, the two lists of Speech Commands, and a manifest.

    A speaker whose name cannot stand in the name of a file gets another name there, and the manifest has a
    column `speaker`. Without speakers, files are called `<n>.flac`.

    Args:
        splits: speech; `load_splits` reads it again with the same parts, labels and speakers.
        folder: must be empty.
        columns: more columns of the manifest, by part and name, one value an example.

    Raises:
        DataError: if a class name is no folder name, the data set is no speech, or it cannot be written.
    """
    _check(splits)
    try:
        _write(splits, folder, columns or {})
    except OSError as error:
        where = files.show_name(error.filename or folder)
        reason = error.strerror or type(error).__name__
        raise DataError(f"{where} cannot be written ({reason}); make room or choose another place") from None


def _write(splits: Splits, folder: Path, more: Mapping[str, Mapping[str, Sequence[object]]]) -> None:
    names = sorted({name for part in more.values() for name in part})
    rows: list[list[object]] = []
    taken: dict[tuple[str, str], int] = {}
    lists: dict[str, list[str]] = {name: [] for name in LISTS}
    short = _short_names(splits)
    all_named = all(name == speaker for speaker, name in short.items())
    for part, data in zip(Splits._fields, splits, strict=True):
        for row in Track(range(len(data)), f"writing {part}", len(data)):
            path = _place(data, row, short, taken)
            target = folder / path
            target.parent.mkdir(exist_ok=True)
            files.write(target, data.inputs[row : row + 1][0], data.sample_rate or 0)
            extra = [more.get(part, {}).get(name, [""] * len(data))[row] for name in names]
            speaker = [] if all_named else [data.speakers[row] if data.speakers else ""]
            rows.append([path, part, data.classes[int(data.labels[row])], data.ids[row], *speaker, *extra])
            if part in lists:
                lists[part].append(path)
    for part, paths in lists.items():
        (folder / LISTS[part]).write_text("".join(f"{path}\n" for path in paths), encoding="utf-8")
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


def _place(data: Dataset, row: int, short: Mapping[str, str], taken: dict[tuple[str, str], int]) -> str:
    label = data.classes[int(data.labels[row])]
    speaker = short[data.speakers[row]] if data.speakers else ""
    number = taken.get((label, speaker), 0)
    taken[label, speaker] = number + 1
    return f"{label}/{speaker}_nohash_{number}.flac" if speaker else f"{label}/{number}.flac"
