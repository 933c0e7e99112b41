"""A read data set kept on disk, so that it is decoded once and need not fit into memory."""

import json
from pathlib import Path

import torch

from closesesame.core.progress import Track

from .dataset import Dataset, Splits
from .rows import INT16_SCALE, OnDisk, Rows

ABOUT = "about.json"
CHUNK = 256


def store_dataset(data: Dataset, folder: Path) -> None:
    """Writes a data set, clip by clip in 16 bits, into an existing folder."""
    with (folder / "inputs.int16").open("wb") as file:
        chunks = range(0, len(data), CHUNK)
        for start in Track(chunks, "keeping clips", len(chunks)):
            clips = (data.inputs[start : start + CHUNK] * INT16_SCALE).round()
            clips = clips.clamp(-INT16_SCALE, INT16_SCALE - 1).to(torch.int16)
            file.write(clips.numpy().tobytes())
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
    """Opens what `store_dataset` wrote; clips are read when they are asked for."""
    about = json.loads((folder / ABOUT).read_text(encoding="utf-8"))
    return Dataset(
        inputs=Rows.of(OnDisk.open(folder / "inputs.int16", tuple(about["shape"]))),
        labels=torch.tensor(about["labels"]),
        classes=tuple(about["classes"]),
        ids=tuple(about["ids"]),
        speakers=None if about["speakers"] is None else tuple(about["speakers"]),
        sample_rate=about["sample_rate"],
    )


def store_splits(splits: Splits, folder: Path) -> None:
    """Writes all three parts into an existing folder."""
    for name, part in splits._asdict().items():
        (folder / name).mkdir()
        store_dataset(part, folder / name)


def open_splits(folder: Path) -> Splits:
    """Opens what `store_splits` wrote."""
    return Splits(*(open_dataset(folder / name) for name in Splits._fields))
