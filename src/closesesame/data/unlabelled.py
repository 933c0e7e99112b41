"""Any speech as clips without labels: what folders and names say of it is not looked at.

A recording that is longer than a clip is cut into consecutive clips, one that is shorter is padded with
silence. Of what is left at the end of a long recording, less than half a clip is left out, and so is a clip
without a sound.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from closesesame.audio import files
from closesesame.audio.files import SUFFIXES, UNREADABLE, show_name
from closesesame.core.bounds import check_reading
from closesesame.core.domain import SPEECH
from closesesame.core.errors import DataError, counted, cut, listed
from closesesame.core.progress import Track
from closesesame.core.seeding import generator

from .dataset import Dataset
from .reading import IN_MEMORY_BYTES, list_bad, silence_and_digest
from .recordings import Skipped
from .rows import Rows
from .scanning import scan_folder

UNLABELLED = "unlabelled"
"""The one class of the clips, which means nothing."""
LEAST_SHARE = 0.5
"""Share of a clip that the end of a long recording must fill."""


@dataclass(frozen=True)
class FoundAudio:
    """The recordings of a folder by their path in it, and the files that are not read."""

    recordings: dict[str, Path]
    skipped: tuple[Skipped, ...]


@dataclass(frozen=True, eq=False)
class ReadAudio:
    """Clips without labels, and how they were read.

    Attributes:
        data: the clips; all labels are 0.
        recordings: how many recordings they came of.
        silent: clips that were left out, since they have no sound.
        longer: recordings of which only the first 60 s were read.
        left: recordings that were not read, since the clips of others fill the memory that there is for them.
        skipped: files that were not read.
    """

    data: Dataset
    recordings: int
    silent: int
    longer: int
    left: int
    skipped: tuple[Skipped, ...]

    def surprises(self) -> list[str]:
        """How many clips came of how many recordings, and one sentence on each thing that was left out."""
        length_s = self.data.input_shape[0] / (self.data.sample_rate or 1)
        came = f"{counted(len(self.data), 'clip')} of {length_s:g} s came of"
        said = [f"{came} {counted(self.recordings, 'recording')}"]
        if self.silent:
            said.append(f"left out for want of sound: {counted(self.silent, 'clip')}")
        if self.longer:
            said.append(f"read to {files.LONGEST_S:g} s only: {counted(self.longer, 'recording')}")
        if self.left:
            said.append(
                f"not read, since more clips than these are not kept: {counted(self.left, 'recording')}"
            )
        if self.skipped:
            said.append(f"not read: {counted(len(self.skipped), 'file')} ({list_bad(self.skipped)})")
        return said


def find_audio(folder: Path | str) -> FoundAudio:
    """Finds all recordings below a folder, in it or in folders of it; noise and triggers are none.

    Raises:
        DataError: if there is no such folder, or no recording in it.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise DataError(f"{show_name(folder)} is not a folder; unlabelled audio is a folder of recordings")
    try:
        scan = scan_folder(folder)
        beside = {
            show_name(path.name): path
            for path in sorted(folder.iterdir())
            if path.is_file() and path.suffix.lower() in SUFFIXES and not path.name.startswith(".")
        }
    except OSError as error:
        where = cut(show_name(error.filename or folder), 300)
        raise DataError(f"{where} cannot be read ({error.strerror}); mend it or remove it") from None
    skipped = tuple(
        replace(gone, why="format", reason="has a format that is not supported")
        if Path(gone.id).suffix.lower() in UNREADABLE
        else gone
        for gone in scan.skipped
        if gone.why != "hidden" and gone.id not in beside
    )
    recordings = beside | scan.recordings
    if not recordings:
        there = f" but {listed([gone.id for gone in skipped])}, which cannot be read" if skipped else ""
        raise DataError(
            f"{show_name(folder)} holds no recording{there}; add some (WAV, FLAC, OGG, MP3 and more)"
        )
    return FoundAudio(recordings, skipped)


def read_audio(
    folder: Path | str,
    *,
    sample_rate: int = 16_000,
    duration_s: float = 1.0,
    seed: int = 0,
    skip_bad: bool = False,
) -> ReadAudio:
    """Reads any speech as clips without labels; every recording is resampled and mixed down.

    Not more than 256 MiB of clips are kept, 2.3 hours at 16 kHz. Where there are more, it is drawn at random
    which recordings are read.

    Args:
        folder: of recordings, in it or in folders of it.
        sample_rate: the wanted rate, Hz.
        duration_s: the length of every clip.
        seed: of the draw.
        skip_bad: leave out recordings that cannot be used.

    Raises:
        DataError: naming recordings that cannot be used, or if no sound is left.
        SettingError: if the rate or the length is none of speech.
    """
    check_reading(sample_rate, duration_s)
    found = find_audio(folder)
    length = round(sample_rate * duration_s)
    most = max(1, IN_MEMORY_BYTES // (length * SPEECH.stored.itemsize))
    ids, clips, bad = list[str](), list[NDArray[np.int16]](), list[Skipped]()
    used = silent = longer = read = 0
    names = list(found.recordings)
    order = torch.randperm(len(names), generator=generator(seed, "unlabelled audio")).tolist()
    for row in Track(order, "reading unlabelled recordings", len(names)):
        if len(clips) >= most:
            break
        name, read = names[row], read + 1
        try:
            heard = files.hear(found.recordings[name], sample_rate)
        except files.RecordingError as error:
            bad.append(Skipped(name, "bad", error.reason))
            continue
        pieces = [files.to_int16(piece) for piece in cut_up(heard.samples, length)]
        sounding = [piece for piece in pieces if not silence_and_digest(piece)[0]]
        ids += [f"{name}, clip {number}" for number in range(len(sounding))]
        clips += sounding
        used += bool(sounding)
        silent += len(pieces) - len(sounding)
        longer += heard.length_s > files.LONGEST_S
    _check(folder, bad, read, len(clips), skip_bad=skip_bad)
    data = Dataset(
        inputs=Rows.of(torch.from_numpy(np.stack(clips))),
        labels=torch.zeros(len(clips), dtype=torch.long),
        classes=(UNLABELLED,),
        ids=tuple(ids),
        sample_rate=sample_rate,
    )
    return ReadAudio(data, used, silent, longer, len(names) - read, (*found.skipped, *bad))


def cut_up(samples: files.Samples, length: int) -> list[files.Samples]:
    """Cuts samples (time,) into consecutive clips of `length` samples.

    The last one is padded with silence, or left out if less than half of it would be sound and it is not the
    only one.
    """
    ends = range(length, len(samples) + length, length)
    pieces = [samples[end - length : end] for end in ends]
    if len(pieces) > 1 and len(pieces[-1]) < LEAST_SHARE * length:
        pieces.pop()
    return [files.fit_length(piece, length) for piece in pieces]


def _check(folder: Path | str, bad: Sequence[Skipped], read: int, clips: int, *, skip_bad: bool) -> None:
    """Refuses bad recordings, and a folder of which nothing is left."""
    name = show_name(folder)
    if bad and not skip_bad:
        it = "it" if len(bad) == 1 else "them"
        raise DataError(
            f"{len(bad):,} of {read:,} recordings of {name} cannot be used: {list_bad(bad)}; mend or remove "
            f"{it}, or skip {it} with --skip-bad (skip_bad=True)"
        )
    if not clips:
        raise DataError(
            f"{name} holds no sound in {counted(read - len(bad), 'recording')}; name a folder of others"
        )
