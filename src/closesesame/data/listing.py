"""Which recordings a data set has, and what their names say, before any of them is decoded.

Layouts, recognised by what is there:

- `<class>/<recording>`, or `<class>/<speaker>/<recording>`;
- `train/`, `validation/` and `test/` (or `val`, `valid`, `dev`; `training`, `testing`) with class folders in
  them, or in each class folder;
- a table `manifest.csv`, see `manifest`.

The name `<speaker>_<take>` or, as in Speech Commands, `<speaker>_nohash_<take>` says who speaks.
"""

from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path

from closesesame.audio.files import show_name
from closesesame.core.bounds import check_classes
from closesesame.core.errors import DataError, cut, listed

from . import manifest
from .dataset import TRAIN
from .lists import LISTS
from .recordings import PARTS, Layout, Listing, Recording, last_number, named
from .scanning import Scan, scan_folder

MANIFEST = "manifest.csv"
SIGNS = (MANIFEST, *LISTS.values())
"""Files that stand in the folder of a data set, and never in that of a class."""


def list_recordings(source: Path) -> list[Recording]:
    """Finds all recordings of a data set, sorted by their path within it; see `find`."""
    return list(find(source).recordings)


def find(source: Path) -> Listing:
    """Finds all recordings of a data set and notes what else is there.

    Args:
        source: a folder, or a table of recordings (.csv).

    Raises:
        DataError: if there is no such folder, no class folder, or a class without recordings.
    """
    try:
        if source.suffix.lower() == ".csv" and source.is_file():
            return manifest.find(source, source, None)
        if not source.is_dir():
            raise DataError(
                f"{show_name(source)} is not a folder; a data set is a folder with one folder a class"
            )
        scan = scan_folder(source)
        table = source / MANIFEST
        if table.is_file():
            if manifest.is_manifest(table):
                return manifest.find(source, table, scan)
            scan.facts.append(f"{MANIFEST} is not used: it lacks a column 'path' or 'label'")
        return _in_folders(source, scan)
    except OSError as error:
        where = cut(show_name(error.filename or source), 300)
        raise DataError(f"{where} cannot be read ({error.strerror}); mend it or remove it") from None


def decisive_files(source: Path) -> list[Path]:
    """All files beside the recordings that decide how a data set is read: its lists and its table."""
    if not source.is_dir():
        return [source]
    table = source / MANIFEST
    found = [source / name for name in LISTS.values() if (source / name).is_file()]
    return found + [table] * (table.is_file() and manifest.is_manifest(table))


def _in_folders(folder: Path, scan: Scan) -> Listing:
    if not scan.places:
        outside = listed([skipped.id for skipped in scan.skipped if skipped.why == "outside"])
        beside = f" but recordings ({outside})" if outside else ""
        raise DataError(
            f"{show_name(folder)} holds no class folder{beside}; put the recordings of each class into one "
            "folder"
        )
    _check_places(folder, scan)
    level = _level_of_parts(folder, scan)
    found = sorted(scan.recordings.items(), key=lambda item: item[1].relative_to(folder).parts)
    recordings = tuple(_recording(name, path, folder, level) for name, path in found)
    layout: Layout = "classes" if level is None else "folders"
    return Listing(folder, layout, recordings, tuple(scan.skipped), tuple(scan.facts))


def _check_places(folder: Path, scan: Scan) -> None:
    sets = [place for place in scan.places if any((folder / place / name).is_file() for name in SIGNS)]
    if sets:
        raise DataError(
            f"{show_name(folder)} holds data sets, not classes ({listed(sets)} with lists of their own); "
            "name one of them"
        )
    held = Counter(name.split("/")[0] for name in scan.recordings)
    for place in scan.places:
        if show_name(place) != place:
            raise DataError(
                f"{show_name(folder / place)} has a name that is not UTF-8; rename it, a class has a name in "
                "letters"
            )
        if not held[place]:
            there = [gone.id for gone in scan.skipped if gone.id.startswith(f"{place}/")]
            beside = f" but {listed(there)}, which cannot be read" if there else ""
            raise DataError(
                f"{show_name(folder / place)} holds no recording{beside}; add some (WAV, FLAC, OGG, MP3 and "
                "more) or remove the folder"
            )
    if len(scan.places) > 1:
        check_classes(scan.places, show_name(folder))


def _level_of_parts(folder: Path, scan: Scan) -> int | None:
    """Where in the path of a recording its part stands, 0 or 1; None if folders say no part."""
    paths = [path.relative_to(folder).parts for path in scan.recordings.values()]
    places = set(scan.places)
    named = {place for place in places if place.casefold() in PARTS}
    if len(named) > 1 and any(PARTS[place.casefold()] == TRAIN for place in named):
        deep = all(len(parts) > 2 for parts in paths if parts[0] in named)
        if deep and named == places:
            return 0
        if deep or named == places:
            others = f"beside {listed(sorted(places - named))}"
            raise DataError(
                f"{show_name(folder)} holds the parts {', '.join(sorted(named))} "
                f"{others if deep else 'with recordings in no class folder'}; put the class folders into "
                "train, validation and test alone, or list all recordings in manifest.csv"
            )
    _refuse_unknown_parts(folder, named, paths)
    second = {parts[1].casefold() if len(parts) > 2 else "" for parts in paths}
    if len(second) > 1 and second <= PARTS.keys() and any(PARTS[name] == 0 for name in second):
        return 1
    return None


def _refuse_unknown_parts(folder: Path, named: set[str], paths: Sequence[tuple[str, ...]]) -> None:
    """Refuses a training part beside folders that hold the same class folders: they are parts, too."""
    inside: dict[str, set[str]] = defaultdict(set)
    for parts in paths:
        inside[parts[0]].update(parts[1:2] if len(parts) > 2 else ())
    train = {name for place in named if PARTS[place.casefold()] == TRAIN for name in inside[place]}
    others = sorted(place for place in inside if place not in named and inside[place] & train)
    if others:
        raise DataError(
            f"{show_name(folder)} holds a part {', '.join(sorted(named))} and {listed(others)} with the same "
            "class folders; call parts train, validation and test"
        )


def _recording(name: str, path: Path, folder: Path, level: int | None) -> Recording:
    *places, _ = map(show_name, path.relative_to(folder).parts)
    part = None if level is None else PARTS[places.pop(level).casefold()]
    speaker, take = named(path)
    if len(places) > 1 and "_nohash_" not in path.stem:
        speaker, take = places[1], take if take is not None else last_number(path.stem)
    return Recording(path, places[0], speaker, take, name, part)
