"""A data set as a folder of recordings that any other tool can train on."""

import csv
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from closesesame.audio import files
from closesesame.core.errors import DataError
from closesesame.core.progress import Track

from .dataset import Dataset, Splits

MANIFEST = "manifest.csv"
LISTS = {"validation": "validation_list.txt", "test": "testing_list.txt"}


@contextmanager
def new_folder(folder: Path) -> Iterator[Path]:
    """Gives a temporary folder that becomes `folder` if the block succeeds, and vanishes if it fails.

    Raises:
        DataError: if `folder` exists and is not empty.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise DataError(f"{folder} exists and is not empty; choose another name or remove it")
    folder.parent.mkdir(parents=True, exist_ok=True)
    made = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}-"))
    try:
        yield made
        made.chmod(0o755)
        made.replace(folder)
    except BaseException:
        shutil.rmtree(made, ignore_errors=True)
        raise


def export(
    splits: Splits, folder: Path, columns: Mapping[str, Mapping[str, Sequence[object]]] | None = None
) -> None:
    """Writes `<class>/<speaker>_nohash_<n>.flac`, the two lists of Speech Commands, and a manifest.

    Args:
        splits: speech; what was read by `load_splits` is read again by it with the same parts.
        folder: must be empty or not there.
        columns: more columns of the manifest, by part and name, one value an example.

    Raises:
        DataError: if a class name is no folder name, or the data set is no speech.
    """
    more = columns or {}
    names = sorted({name for part in more.values() for name in part})
    rows: list[list[object]] = []
    taken: dict[tuple[str, str], int] = {}
    lists: dict[str, list[str]] = {name: [] for name in LISTS}
    for part, data in zip(Splits._fields, splits, strict=True):
        for row in Track(range(len(data)), f"writing {part}", len(data)):
            path = _place(data, row, taken)
            target = folder / path
            target.parent.mkdir(exist_ok=True)
            files.write(target, data.inputs[row : row + 1][0], data.sample_rate or 0)
            extra = [more.get(part, {}).get(name, [""] * len(data))[row] for name in names]
            rows.append([path, part, data.classes[int(data.labels[row])], data.ids[row], *extra])
            if part in lists:
                lists[part].append(path)
    for part, paths in lists.items():
        (folder / LISTS[part]).write_text("".join(f"{path}\n" for path in paths), encoding="utf-8")
    with (folder / MANIFEST).open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([["path", "part", "label", "original", *names], *rows])


def _place(data: Dataset, row: int, taken: dict[tuple[str, str], int]) -> str:
    label = data.classes[int(data.labels[row])]
    if data.sample_rate is None:
        raise DataError("only speech can be written as recordings; this data set has no sample rate")
    if not label or "/" in label or "\0" in label or label[0] in "._":
        raise DataError(f"class {label!r} cannot be a folder name; rename it")
    speaker = data.speakers[row] if data.speakers else "anyone"
    number = taken.get((label, speaker), 0)
    taken[label, speaker] = number + 1
    return f"{label}/{speaker}_nohash_{number}.flac"
