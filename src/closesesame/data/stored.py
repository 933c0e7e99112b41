"""Data sets kept on disk in their stored type: decoded once, and larger than memory if they must be."""

import json
from pathlib import Path

import torch

from closesesame.core.encoding import Encoding
from closesesame.core.progress import Track

from .dataset import Dataset, Splits, check_bounds, domain_of
from .rows import OnDisk, Rows

ABOUT = "about.json"
CHUNK = 256


def store_dataset(data: Dataset, folder: Path) -> None:
    """Writes a data set into an existing folder, in the type that its domain is stored in.

    Raises:
        DataError: if its inputs are not within the bounds of their domain.
    """
    encoding = Encoding.of(data.domain.stored)
    with _inputs_file(folder, encoding.stored).open("wb") as file:
        chunks = range(0, len(data), CHUNK)
        for start in Track(chunks, "keeping examples", len(chunks)):
            inputs = data.inputs[start : start + CHUNK]
            check_bounds(inputs, data.domain)
            file.write(encoding.encode(inputs).numpy().tobytes())
    about = {
        "shape": data.inputs.shape,
        "labels": data.labels.tolist(),
        "classes": data.classes,
        "ids": data.ids,
        "speakers": data.speakers,
        "sample_rate": data.sample_rate,
    }
    (folder / ABOUT).write_text(json.dumps(about), encoding="utf-8")


def open_dataset(folder: Path) -> Dataset:
    """Opens what `store_dataset` wrote; inputs are read when they are asked for."""
    about = json.loads((folder / ABOUT).read_text(encoding="utf-8"))
    stored = domain_of(about["sample_rate"]).stored
    return Dataset(
        inputs=Rows.of(OnDisk.open(_inputs_file(folder, stored), tuple(about["shape"]), stored)),
        labels=torch.tensor(about["labels"]),
        classes=tuple(about["classes"]),
        ids=tuple(about["ids"]),
        speakers=None if about["speakers"] is None else tuple(about["speakers"]),
        sample_rate=about["sample_rate"],
    )


def _inputs_file(folder: Path, stored: torch.dtype) -> Path:
    """As `inputs.int16`."""
    return folder / f"inputs.{str(stored).removeprefix('torch.')}"


def store_splits(splits: Splits, folder: Path) -> None:
    """Writes all three parts into an existing folder."""
    for name, part in splits._asdict().items():
        (folder / name).mkdir()
        store_dataset(part, folder / name)


def open_splits(folder: Path) -> Splits:
    """Opens what `store_splits` wrote."""
    return Splits(*(open_dataset(folder / name) for name in Splits._fields))
