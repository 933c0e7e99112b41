"""Recordings decoded one after the other, with a note on each."""

import hashlib
import io
import os
import shutil
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from closesesame.audio import files
from closesesame.core.disk import megabytes
from closesesame.core.domain import SPEECH
from closesesame.core.encoding import Encoding
from closesesame.core.errors import DataError, cut, listed
from closesesame.core.progress import Track

from .recordings import Listing, Recording, Skipped
from .rows import OnDisk, Rows

_ENCODING = Encoding.of(SPEECH.stored)
IN_MEMORY_BYTES = 256 * 2**20
"""Larger sets are kept in a temporary file, and rows are read when they are used."""
SPARE_BYTES = 64 * 2**20
"""Free space that must be left on the disk beside them."""
_SILENCE = int(_ENCODING.encode(torch.tensor(files.SILENCE)))


@dataclass(frozen=True)
class Note:
    """What happened to one recording.

    Attributes:
        id: its path within the data set.
        rate_hz: its own sample rate.
        channels: how many it has.
        length_s: of the whole recording.
        missing_s: how much of what its header claims is not there.
        clipped: whether runs of samples lie at full scale.
        cancelled: whether its channels cancel out when they are mixed down.
        silent: whether the clip that was made of it has no sound.
        digest: the same for equal clips.
    """

    id: str
    rate_hz: int
    channels: int
    length_s: float
    missing_s: float
    clipped: bool
    cancelled: bool
    silent: bool
    digest: bytes


@dataclass(frozen=True, eq=False)
class Clips:
    """Clips (n, time) of the recordings that could be used, a note on each, and those that could not."""

    rows: Rows
    notes: tuple[Note, ...]
    bad: tuple[Skipped, ...]


def read_clips(listing: Listing, sample_rate: int, duration_s: float, *, skip_bad: bool) -> Clips:
    """Decodes all recordings, into memory or, if they are too large for it, into a temporary file.

    Args:
        listing: the recordings.
        sample_rate: the wanted rate, Hz.
        duration_s: the length of every clip.
        skip_bad: whether recordings that cannot be used are left out, as long as they are not many.

    Raises:
        DataError: naming recordings that cannot be used, or if there is no room.
    """
    length = round(sample_rate * duration_s)
    size = len(listing.recordings) * length * 2
    in_memory = size <= IN_MEMORY_BYTES
    if not in_memory:
        _check_room(listing, size, sample_rate, duration_s)
    opener = io.BytesIO if in_memory else tempfile.TemporaryFile
    try:
        with opener() as file:
            notes, bad = _decode(listing.recordings, sample_rate, duration_s, file.write)
            _check_bad(listing, bad, skip_bad)
            file.flush()
            shape = (len(notes), length)
            if isinstance(file, io.BytesIO):
                whole = torch.frombuffer(bytearray(file.getbuffer()), dtype=SPEECH.stored)
                return Clips(Rows.of(whole.view(shape)), notes, bad)
            return Clips(Rows.of(OnDisk(os.dup(file.fileno()), shape, SPEECH.stored)), notes, bad)
    except OSError as error:
        raise DataError(
            f"the clips of {listing.name} cannot be kept in {tempfile.gettempdir()} ({error.strerror}); make "
            "room there or name another folder by TMPDIR"
        ) from None


def _check_room(listing: Listing, size: int, sample_rate: int, duration_s: float) -> None:
    place = tempfile.gettempdir()
    free = shutil.disk_usage(place).free
    if free < size + SPARE_BYTES:
        raise DataError(
            f"{len(listing.recordings):,} clips of {duration_s:g} s at {sample_rate:,} Hz take "
            f"{megabytes(size)} and {place} has {megabytes(free)} left; make room, name another folder by "
            "TMPDIR, or ask for less"
        )


def _decode(
    recordings: Sequence[Recording], sample_rate: int, duration_s: float, write: Callable[[bytes], object]
) -> tuple[tuple[Note, ...], tuple[Skipped, ...]]:
    length = round(sample_rate * duration_s)
    notes, bad = [], []
    for recording in Track(recordings, "reading recordings", len(recordings)):
        try:
            heard = files.hear(recording.path, sample_rate, seconds=duration_s)
        except files.RecordingError as error:
            bad.append(Skipped(recording.id, "bad", error.reason))
            continue
        clip = files.to_int16(files.fit_length(heard.samples, length))
        write(clip.tobytes())
        notes.append(_note(recording.id, clip, heard))
    return tuple(notes), tuple(bad)


def _note(name: str, clip: NDArray[np.int16], heard: files.Heard) -> Note:
    return Note(
        name,
        heard.rate_hz,
        heard.channels,
        heard.length_s,
        heard.missing_s,
        heard.clipped,
        heard.cancelled,
        *silence_and_digest(clip),
    )


def silence_and_digest(clip: NDArray[np.int16]) -> tuple[bool, bytes]:
    """Whether a clip is silent, and a digest that equal clips share."""
    silent = int(np.abs(clip.astype(np.int32)).max(initial=0)) <= _SILENCE
    return silent, hashlib.blake2b(clip.tobytes(), digest_size=16).digest()


def _check_bad(listing: Listing, bad: Sequence[Skipped], skip_bad: bool) -> None:
    if not bad:
        return
    total = len(listing.recordings)
    said = f"{len(bad):,} of {total:,} recordings of {listing.name} cannot be used: {list_bad(bad)}"
    it = "it" if len(bad) == 1 else "them"
    if not skip_bad:
        raise DataError(f"{said}; mend or remove {it}, or skip {it} with --skip-bad (skip_bad=True)")
    kept = {recording.word for recording in listing.without(bad).recordings}
    emptied = sorted({recording.word for recording in listing.recordings} - kept)
    if emptied:
        raise DataError(f"{said}; nothing would be left of class {emptied[0]!r}, so mend or replace {it}")
    if len(bad) > total / 2:
        raise DataError(f"{said}; those are more than half, so mend or replace them")


def list_bad(bad: Sequence[Skipped]) -> str:
    """The first few recordings that cannot be used, with their reasons."""
    return listed([f"{cut(skipped.id)} {skipped.reason}" for skipped in bad], longest=200)
