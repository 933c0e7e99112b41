"""Tables of recordings: a CSV file with a row a recording.

Columns: `path` (or `file`, `filename`, `file_name`), relative to the table's folder; `label`; if known
`speaker`; if the parts are given `part` (or `split`): train, validation or test. Other columns are ignored.
Columns are separated by commas, semicolons or tabs.
"""

import csv
import io
import os
from collections.abc import Collection, Mapping
from pathlib import Path

from closesesame.audio.files import SUFFIXES, UNREADABLE, show_name
from closesesame.core.bounds import check_classes
from closesesame.core.errors import DataError, cut, listed, short

from .lists import normal, read_text
from .recordings import PARTS, Listing, Recording, Skipped, named
from .scanning import Scan

_COLUMNS = {
    "path": "path",
    "file": "path",
    "filename": "path",
    "file_name": "path",
    "label": "label",
    "speaker": "speaker",
    "part": "part",
    "split": "part",
}
_HEADER_BYTES = 65_536


def is_manifest(table: Path) -> bool:
    """Whether a CSV file has the columns of a table of recordings."""
    with table.open("rb") as file:
        first = file.read(_HEADER_BYTES).replace(b"\0", b"").decode("latin-1")
    try:
        header = _header(first.lstrip("\xef\xbb\xbf\xff\xfe"))[0]
    except csv.Error:
        return False
    return {"path", "label"} <= _columns(header).keys()


def _header(text: str) -> tuple[list[str], str]:
    """The first row, and the sign between its columns."""
    line = text.replace("\r", "\n").split("\n", 1)[0]
    sign = max(",;\t", key=line.count)
    return next(csv.reader([line], delimiter=sign), []), sign


def _columns(header: list[str]) -> dict[str, int]:
    """Where each column stands; the first of two that mean the same counts."""
    found: dict[str, int] = {}
    for at, name in enumerate(header):
        meaning = _COLUMNS.get(name.strip().casefold())
        if meaning is not None:
            found.setdefault(meaning, at)
    return found


def find(source: Path, table: Path, scan: Scan | None) -> Listing:
    """Reads a table of recordings.

    Args:
        source: what the user named: the table or its folder.
        table: the CSV file.
        scan: what lies in the folder, if the folder was named; recordings that the table leaves out are said.

    Raises:
        DataError: naming the row that cannot be used, or if most recordings are not there.
    """
    rows, columns = _read(table)
    folder, name = table.parent, show_name(table)
    found: dict[str, Recording] = {}
    skipped: list[Skipped] = []
    lost: list[str] = []
    doubled: list[str] = []
    for line, row in rows:
        place = f"{name}, row {line}"
        values = {meaning: row[at].strip() if at < len(row) else "" for meaning, at in columns.items()}
        values["path"] = _inside(row[columns["path"]] if columns["path"] < len(row) else "", folder, place)
        recording = _recording(values, folder, place)
        known = found.get(recording.id)
        if known is not None:
            if known != recording:
                raise DataError(f"{place}: {recording.id} stands there twice with other values; remove one")
            doubled.append(recording.id)
        elif not recording.path.is_file():
            lost.append(recording.id)
        elif recording.path.suffix.lower() in UNREADABLE - SUFFIXES:
            skipped.append(Skipped(recording.id, "format"))
        else:
            found[recording.id] = recording
    if not found or len(lost) > len(rows) / 2:
        gone = f"; {len(lost):,} of {len(rows):,} rows name files that are not there ({listed(lost)})" * bool(
            lost
        )
        raise DataError(f"{name} names {len(found):,} recordings that can be read{gone}; mend or remove it")
    said = _surprises(name, lost, doubled, _left_out(scan, found))
    recordings = tuple(sorted(found.values(), key=lambda recording: recording.id.split("/")))
    classes = sorted({recording.word for recording in recordings})
    if len(classes) > 1:
        check_classes(classes, name)
    facts = tuple(scan.facts) if scan else ()
    hidden = [gone for gone in scan.skipped if gone.why == "hidden"] if scan else []
    return Listing(source, "manifest", recordings, (*skipped, *hidden), facts, tuple(said))


def _left_out(scan: Scan | None, found: Collection[str]) -> list[str]:
    """Recordings that lie in the folder and are not in its table."""
    if scan is None:
        return []
    outside = {skipped.id for skipped in scan.skipped if skipped.why == "outside"}
    return sorted((scan.recordings.keys() | outside) - set(found))


def _read(table: Path) -> tuple[list[tuple[int, list[str]]], dict[str, int]]:
    name = show_name(table)
    try:
        text = read_text(table)
        header, sign = _header(text)
        lines = list(enumerate(csv.reader(io.StringIO(text), delimiter=sign), start=1))
    except csv.Error as error:
        raise DataError(f"{name} is no CSV table ({short(error)}); mend it") from None
    columns = _columns(header)
    if not {"path", "label"} <= columns.keys():
        raise DataError(
            f"{name} lacks a column 'path' or 'label'; its columns are {show_name(listed(header, 8))}"
        )
    return [(number, row) for number, row in lines[1:] if any(map(str.strip, row))], columns


def _inside(entry: str, folder: Path, place: str) -> str:
    """The path of a recording within the folder."""
    for way in (entry, normal(entry.strip())):
        absolute = os.path.normpath(folder.absolute() / way)
        relative = os.path.relpath(absolute, folder.absolute())
        if not way.strip() or "\0" in way or Path(relative).parts[:1] in {("..",), ()}:
            raise DataError(
                f"{place}: {cut(show_name(entry))!r} is no path of a recording within the folder of the table"
            )
        if Path(absolute).is_file():
            break
    return Path(relative).as_posix()


def _recording(values: Mapping[str, str], folder: Path, place: str) -> Recording:
    path = folder / values["path"]
    if not values["label"]:
        raise DataError(f"{place} has no label; add one or remove the row")
    said = values.get("part")
    if said is not None and said.casefold() not in PARTS:
        raise DataError(f"{place}: part {cut(said)!r} is not known; write train, validation or test")
    speaker, take = named(path)
    return Recording(
        path,
        values["label"],
        values["speaker"] or None if "speaker" in values else speaker,
        take,
        show_name(values["path"]),
        None if said is None else PARTS[said.casefold()],
    )


def _surprises(name: str, lost: list[str], doubled: list[str], left_out: list[str]) -> list[str]:
    said = {
        f"of the files that {name} names are not there": lost,
        f"of the rows of {name} name a recording again": doubled,
        f"of the recordings beside {name} are not in it and are left out": left_out,
    }
    return [f"{len(ids):,} {what} ({listed(ids)})" for what, ids in said.items() if ids]
