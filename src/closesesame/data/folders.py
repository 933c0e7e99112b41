"""Recordings on disk as data sets: `<class>/<recording>`, and what their names and lists say.

Read are three layouts, told apart by what is there:

- a folder of class folders with wav, flac, ogg or mp3 files;
- Speech Commands: names `<speaker>_nohash_<take>`, lists `validation_list.txt` and `testing_list.txt`,
  and a folder `_background_noise_` that is no class;
- `<class>/<speaker>_<take>.<suffix>`.
"""

import io
import os
import re
import tempfile
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch

from closesesame.audio import files
from closesesame.core.errors import DataError
from closesesame.core.progress import Track
from closesesame.core.seeding import generator

from .dataset import Dataset, Splits
from .rows import OnDisk, Rows

Task = Literal["word", "speaker"]
"""What the label is: the class folder's name, or who speaks."""
SplitRule = Literal["auto", "lists", "speakers", "takes", "random"]

IN_MEMORY_BYTES = 256 * 2**20
"""Larger sets are kept in a temporary file, read when they are asked for."""
_TAKE = re.compile(r"^(?P<speaker>.+?)_(?:nohash_)?(?P<take>\d+)$")


@dataclass(frozen=True)
class Recording:
    """One file of a data set, and what its name says."""

    path: Path
    word: str
    speaker: str | None
    take: int | None

    @property
    def id(self) -> str:
        """The path within the data set, as the lists of Speech Commands write it."""
        return f"{self.word}/{self.path.name}"


def list_recordings(folder: Path) -> list[Recording]:
    """Finds all recordings `<class>/<file>`, sorted by class and name.

    Raises:
        DataError: if there is no such folder, no class folder, or a class without recordings.
    """
    if not folder.is_dir():
        raise DataError(f"{folder} is not a folder; a data set is a folder with one folder a class")
    classes = sorted(d for d in folder.iterdir() if d.is_dir() and d.name[:1] not in {".", "_"})
    if not classes:
        raise DataError(f"{folder} holds no class folder; put the recordings of each class into one folder")
    found = []
    for place in classes:
        paths = sorted(p for p in place.iterdir() if p.suffix.lower() in files.SUFFIXES and p.is_file())
        if not paths:
            wanted = ", ".join(sorted(files.SUFFIXES))
            raise DataError(f"{place} holds no recording ({wanted}); add some or remove the folder")
        for path in paths:
            name = _TAKE.match(path.stem)
            speaker, take = (name["speaker"], int(name["take"])) if name else (None, None)
            found.append(Recording(path, place.name, speaker, take))
    return found


def load_folder(
    folder: Path | str,
    *,
    sample_rate: int = 16_000,
    duration_s: float = 1.0,
    task: Task = "word",
) -> Dataset:
    """Loads a folder of class folders; every recording is resampled, mixed down, and cut or padded.

    Args:
        folder: see the module's documentation for the layouts.
        sample_rate: the wanted rate, Hz.
        duration_s: the length of every clip.
        task: whether the label is the class folder or the speaker.

    Raises:
        DataError: naming the file or folder, if something cannot be used.
    """
    return _load(list_recordings(Path(folder)), sample_rate, duration_s, task)


def load_splits(
    folder: Path | str,
    *,
    sample_rate: int = 16_000,
    duration_s: float = 1.0,
    task: Task = "word",
    split: SplitRule = "auto",
    seed: int = 0,
) -> Splits:
    """Loads a data set and splits it into training, validation and test part.

    The rule `auto` takes the first that fits: `lists` (those of Speech Commands), `speakers` (no speaker in
    two parts; needs 10 of them), `takes` (of each speaker and word the first 10 % of the takes are for the
    test, the next 10 % for validation), `random` (10 % each). Where the label is the speaker it is `takes`.

    Raises:
        DataError: as `load_folder`, or if the rule does not fit the data.
    """
    folder = Path(folder)
    recordings = list_recordings(folder)
    _classes(recordings, task)
    rule = _choose_rule(folder, recordings, task) if split == "auto" else split
    if task == "speaker" and rule in {"lists", "speakers"}:
        raise DataError(f"split {rule!r} keeps speakers apart, so speakers cannot be the label; use 'takes'")
    part = _PARTS[rule](folder, recordings, seed)
    for number, name in enumerate(Splits._fields):
        if number not in part:
            raise DataError(f"split {rule!r} leaves the {name} part of {folder} empty; use another rule")
    whole = _load(recordings, sample_rate, duration_s, task)
    which = torch.tensor(part)
    return Splits(*(whole.where(which == number) for number in range(3)))


def _load(recordings: list[Recording], sample_rate: int, duration_s: float, task: Task) -> Dataset:
    classes = _classes(recordings, task)
    clips = _read_clips(recordings, sample_rate, duration_s)
    speakers = [recording.speaker for recording in recordings]
    index = {name: number for number, name in enumerate(classes)}
    return Dataset(
        inputs=clips,
        labels=torch.tensor([index[_label(recording, task)] for recording in recordings]),
        classes=classes,
        ids=tuple(recording.id for recording in recordings),
        sample_rate=sample_rate,
        speakers=tuple(s or "" for s in speakers) if all(speakers) else None,
    )


def _classes(recordings: list[Recording], task: Task) -> tuple[str, ...]:
    classes = sorted({_label(recording, task) for recording in recordings})
    if len(classes) < 2:
        raise DataError(f"{recordings[0].path.parent.parent} has one class, {classes[0]!r}; two are needed")
    return tuple(classes)


def _label(recording: Recording, task: Task) -> str:
    if task == "word":
        return recording.word
    if recording.speaker is None:
        raise DataError(f"{recording.path} names no speaker; call it <speaker>_<take>{recording.path.suffix}")
    return recording.speaker


def _read_clips(recordings: list[Recording], sample_rate: int, duration_s: float) -> Rows:
    """Decodes one recording after the other, into memory or, if that is too much, into a nameless file."""
    length = round(sample_rate * duration_s)
    in_memory = len(recordings) * length * 2 <= IN_MEMORY_BYTES
    opener = io.BytesIO if in_memory else tempfile.TemporaryFile
    with opener() as file:
        for recording in Track(recordings, "reading recordings", len(recordings)):
            samples = files.read(recording.path, sample_rate, seconds=duration_s)
            file.write(files.to_int16(files.fit_length(samples, length)).tobytes())
        file.flush()
        if isinstance(file, io.BytesIO):
            whole = torch.frombuffer(bytearray(file.getbuffer()), dtype=torch.int16)
            return Rows.of(whole.view(len(recordings), length))
        return Rows.of(OnDisk(os.dup(file.fileno()), (len(recordings), length)))


def _choose_rule(folder: Path, recordings: list[Recording], task: Task) -> SplitRule:
    speakers = {recording.speaker for recording in recordings}
    if task == "word" and (folder / "testing_list.txt").is_file():
        return "lists"
    if None in speakers:
        return "random"
    return "speakers" if task == "word" and len(speakers) >= 10 else "takes"


def _by_lists(folder: Path, recordings: list[Recording], seed: int) -> list[int]:
    del seed
    part = {}
    for number, name in ((1, "validation_list.txt"), (2, "testing_list.txt")):
        try:
            lines = (folder / name).read_text(encoding="utf-8").split()
        except OSError:
            raise DataError(f"{folder / name} is missing; the split 'lists' needs it") from None
        part.update(dict.fromkeys(lines, number))
    return [part.get(recording.id, 0) for recording in recordings]


def _by_speakers(folder: Path, recordings: list[Recording], seed: int) -> list[int]:
    speakers = sorted({recording.speaker or "" for recording in recordings})
    if "" in speakers or len(speakers) < 3:
        raise DataError(f"split 'speakers' needs files <speaker>_<take> of 3 speakers or more in {folder}")
    order = torch.randperm(len(speakers), generator=generator(seed, "speakers")).tolist()
    share = max(1, round(0.1 * len(speakers)))
    part = {speakers[who]: 2 if i < share else int(i < 2 * share) for i, who in enumerate(order)}
    return [part[recording.speaker or ""] for recording in recordings]


def _by_takes(folder: Path, recordings: list[Recording], seed: int) -> list[int]:
    del seed
    takes = defaultdict(list)
    for recording in recordings:
        if recording.take is None:
            raise DataError(
                f"split 'takes' needs files <speaker>_<take> in {folder}, got {recording.path.name}"
            )
        takes[recording.speaker, recording.word].append(recording.take)
    ranks = {key: {take: rank for rank, take in enumerate(sorted(found))} for key, found in takes.items()}
    part = []
    for recording in recordings:
        rank = ranks[recording.speaker, recording.word]
        share = max(1, round(0.1 * len(rank))) if len(rank) >= 3 else 0
        at = rank[recording.take or 0]
        part.append(2 if at < share else int(at < 2 * share))
    return part


def _at_random(folder: Path, recordings: list[Recording], seed: int) -> list[int]:
    del folder
    part = [0] * len(recordings)
    words = defaultdict(list)
    for row, recording in enumerate(recordings):
        words[recording.word].append(row)
    for word, rows in words.items():
        order = torch.randperm(len(rows), generator=generator(seed, "random", word)).tolist()
        share = max(1, round(0.1 * len(rows)))
        for i, at in enumerate(order):
            part[rows[at]] = 2 if i < share else int(i < 2 * share)
    return part


_PARTS = {"lists": _by_lists, "speakers": _by_speakers, "takes": _by_takes, "random": _at_random}
