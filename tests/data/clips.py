"""Small recordings, no two alike, and folders of them."""

import io
import struct
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import soundfile
from numpy.typing import NDArray

from closesesame.data import ReadingReport, Splits
from closesesame.data.folders import Read, read_splits

RATE = 8_000
SECONDS = 0.1
FEW = int(RATE * SECONDS)
"""Samples of a clip."""


def noise(name: object, seconds: float = SECONDS, rate: int = RATE) -> NDArray[np.float64]:
    """Noise that depends on a name alone."""
    seed = [ord(character) for character in str(name)]
    return 0.1 * np.random.default_rng(seed).standard_normal(int(rate * seconds))


def record(path: Path, seconds: float = SECONDS, rate: int = RATE) -> Path:
    """Writes a recording of noise, or nothing if its suffix is that of no format; its folder is made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    kind = path.suffix[1:].upper()
    known = kind in soundfile.available_formats()
    path.write_bytes(
        encoded(noise("/".join(path.parts[-3:]), seconds, rate), kind, rate=rate) if known else b""
    )
    return path


def fill(folder: Path, names: Iterable[str]) -> Path:
    """Writes recordings with these paths into a folder."""
    for name in names:
        record(folder / name)
    return folder


def read(folder: Path, **settings: object) -> Read:
    """Reads them as they are."""
    how: dict[str, object] = {"sample_rate": RATE, "duration_s": SECONDS} | settings
    return read_splits(folder, **how)  # type: ignore[arg-type]


def parts(splits: Splits) -> dict[str, str]:
    """The part of each clip, by its id."""
    return {name: part for part, data in splits._asdict().items() for name in data.ids}


def said(report: ReadingReport) -> str:
    """All surprises, one a line."""
    return "\n".join(report.surprises())


def encoded(samples: NDArray[np.float64], kind: str, subtype: str | None = None, rate: int = RATE) -> bytes:
    """A recording as bytes."""
    buffer = io.BytesIO()
    soundfile.write(buffer, samples, rate, format=kind, subtype=subtype)
    return buffer.getvalue()


def wav(samples: bytes, *, claimed: int | None = None, rate: int = RATE, after: bytes = b"") -> bytes:
    """A WAV of 16 bits whose header claims so many bytes."""
    size = len(samples) if claimed is None else claimed
    head = struct.pack("<4sIHHIIHH", b"fmt ", 16, 1, 1, rate, 2 * rate, 2, 16)
    body = b"WAVE" + head + struct.pack("<4sI", b"data", size) + samples + after
    return struct.pack("<4sI", b"RIFF", len(body)) + body


def mpeg_frames(content: bytes) -> list[bytes]:
    """The frames of an MP3 of 16 kHz."""
    found, at = [], content.find(b"\xff")
    kbit = [0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160]
    while at + 4 <= len(content):
        length = 72 * kbit[content[at + 2] >> 4] * 1000 // 16_000 + ((content[at + 2] >> 1) & 1)
        found.append(content[at : at + length])
        at += length
    return found
