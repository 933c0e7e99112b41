"""Lists of clips as text files: which part each belongs to."""

import codecs
import unicodedata
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from closesesame.audio.files import show_name
from closesesame.core.errors import DataError, cut, listed

LISTS = {"validation": "validation_list.txt", "test": "testing_list.txt"}
MOST_BYTES = 256 * 2**20
_ENCODINGS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


def read_text(path: Path) -> str:
    """Reads a text file in UTF-8 or, if it says so, UTF-16; its lines end in a newline, whatever they did.

    Raises:
        DataError: if it is neither, too long, or cannot be read.
    """
    try:
        if path.stat().st_size > MOST_BYTES:
            raise DataError(f"{show_name(path)} has more than {MOST_BYTES / 2**20:.0f} MiB; it is no list")
        raw = path.read_bytes()
    except OSError as error:
        raise DataError(f"{show_name(path)} cannot be read ({error.strerror}); mend or remove it") from None
    encoding = next((name for mark, name in _ENCODINGS if raw.startswith(mark)), "utf-8")
    try:
        return raw.decode(encoding).replace("\r\n", "\n").replace("\r", "\n")
    except UnicodeDecodeError as error:
        line = raw[: error.start].count(b"\n") + 1
        raise DataError(f"{show_name(path)} is not UTF-8 (line {line}); save it in that encoding") from None


def normal(entry: str) -> str:
    """An entry without `./` and backslashes."""
    return str(PurePosixPath(entry.replace("\\", "/")))


@dataclass(frozen=True)
class Matched:
    """What a list says of a data set.

    Attributes:
        ids: the clips it names.
        surprises: sentences on entries that name none.
    """

    ids: frozenset[str]
    surprises: tuple[str, ...]


def match_list(path: Path, ids: Collection[str], classes: Collection[str]) -> Matched:
    """Finds the clips that a list names.

    Entries of classes that the data set does not have do not count: lists are often those of a larger set.

    Args:
        path: one entry a line, the path of a clip within the data set.
        ids: all clips, with those that cannot be used.
        classes: the names of the class folders.

    Raises:
        DataError: if it is no text, or most of its entries name no clip.
    """
    entries = [line for line in read_text(path).split("\n") if line.strip()]
    known = {_composed(name): name for name in ids} | {name: name for name in ids}
    found, foreign, lost, left_out = set(), [], [], 0
    for entry in entries:
        match = _match(entry, known)
        if match is not None:
            found.add(match)
        elif _is_there(path.parent / normal(entry.strip())):
            left_out += 1  # by a table that names some of the recordings
        elif _is_foreign(normal(entry), known, classes):
            foreign.append(entry)
        else:
            lost.append(entry)
    name = show_name(path)
    if len(entries) > left_out and (not found or len(lost) > len(entries) / 2 or len(lost) > len(found)):
        example = (lost or foreign)[0]
        raise DataError(
            f"{name} does not fit: {len(entries) - len(found):,} of {len(entries):,} entries name "
            f"no recording here, such as {cut(show_name(example))!r} (a recording here: "
            f"{cut(min(known))!r}); mend it, remove it or choose another split"
        )
    return Matched(frozenset(found), tuple(_surprises(name, lost, foreign)))


def _is_there(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):  # a name that no file can have
        return False


def _match(entry: str, known: Mapping[str, str]) -> str | None:
    ways = (entry, normal(entry), normal(entry.strip()))
    return next((known[way] for way in (*ways, *map(_composed, ways)) if way in known), None)


def _composed(text: str) -> str:
    """Letters with accents as one character each; file systems differ in that."""
    return unicodedata.normalize("NFC", text)


def _is_foreign(entry: str, known: Collection[str], classes: Collection[str]) -> bool:
    """Whether it names a clip of a class that is not there, and not one that is there by another path."""
    parts = entry.strip().split("/")
    return parts[0] not in classes and not any("/".join(parts[at:]) in known for at in range(1, len(parts)))


def _surprises(name: str, lost: Sequence[str], foreign: Sequence[str]) -> list[str]:
    kinds = {"without a recording here": lost, "of classes that are not here": foreign}
    return [
        f"{name} has {len(entries):,} entr{'y' if len(entries) == 1 else 'ies'} {what}: {listed(entries)}"
        for what, entries in kinds.items()
        if entries
    ]
