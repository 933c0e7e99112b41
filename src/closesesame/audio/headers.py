"""Compares what the header of a recording claims with the bytes that are there.

libsndfile believes a header: it reads a WAV that was cut in half as a short one, a WAV whose recorder was
switched off as empty, and an MP3 without a count of frames up to a guess.
"""

import io
import struct
from dataclasses import dataclass, replace
from typing import Any

_FORMS = {b"RIFF": "<", b"RF64": "<", b"BW64": "<", b"RIFX": ">", b"FORM": ">"}
_MOST_CHUNKS = 1_000
_ANY_LENGTH = 0x7FFF_0000
"""Sizes from here on are written by programs that do not know the size yet."""
_MOST_IN_MEMORY = 64 * 2**20
_MOST_OF_MPEG = 4 * 2**20
"""More than 60 s at the highest rate."""
_MPEG_TAGS = (b"Xing", b"Info", b"VBRI")
_LARGEST_FRAME = 1_500
_TIMES_LONGER = 32
_ID3V1 = 128


@dataclass(frozen=True)
class Sound:
    """The part of a file that holds the samples.

    Attributes:
        start: where it begins.
        claimed: its bytes as the header says; None if the header does not say.
        there: the bytes that are there.
        size_at: where its size is written.
        order: `<` or `>`, of the bytes of its size.
        chunks_only: whether it claims no bytes, and what follows are other parts of the file.
    """

    start: int
    claimed: int | None
    there: int
    size_at: int
    order: str
    chunks_only: bool = False

    @property
    def share(self) -> float:
        """The share of the claimed bytes that is there."""
        return min(1.0, self.there / self.claimed) if self.claimed and self.there else 1.0

    @property
    def holds_more(self) -> bool:
        """Whether there are bytes although the header claims no sound, or no samples of it."""
        return self.there > 64 and not self.chunks_only


def find_sound(file: io.FileIO) -> Sound | None:
    """Finds the samples of a WAV, RF64, AIFF, W64 or AU file; None for all others."""
    end = file.seek(0, io.SEEK_END)
    file.seek(0)
    head = file.read(40)
    if head[:4] in _FORMS:
        return _in_chunks(file, end, _FORMS[head[:4]], b"SSND" if head[:4] == b"FORM" else b"data")
    if head[:4] == b"riff" and head[24:28] == b"wave":
        return _in_w64(file, end)
    if head[:4] == b".snd" and len(head) >= 12:
        start, claimed = struct.unpack(">II", head[4:12])
        return _sound(start, claimed, end, 8, ">")
    return None


def _sound(start: int, claimed: int, end: int, size_at: int, order: str) -> Sound:
    known = None if claimed >= _ANY_LENGTH and claimed > end else claimed
    return Sound(start, known, max(0, end - start), size_at, order)


def _in_chunks(file: io.FileIO, end: int, order: str, wanted: bytes) -> Sound | None:
    long_size = None
    file.seek(12)
    for _ in range(_MOST_CHUNKS):
        at = file.tell()
        head = file.read(8)
        if len(head) < 8:
            return None
        size = int(struct.unpack(f"{order}I", head[4:])[0])
        if head[:4] == wanted:
            claimed = long_size if long_size and size == 0xFFFF_FFFF else size
            found = _sound(at + 8, claimed, end, at + 4, order)
            return found if claimed else replace(found, chunks_only=_is_chunks_only(file, found))
        if head[:4] == b"ds64":
            body = file.read(16)
            long_size = int(struct.unpack("<Q", body[8:])[0]) if len(body) == 16 else None
        file.seek(at + 8 + size + size % 2)
    return None


def _in_w64(file: io.FileIO, end: int) -> Sound | None:
    file.seek(40)
    for _ in range(_MOST_CHUNKS):
        at = file.tell()
        head = file.read(24)
        if len(head) < 24:
            return None
        size = int(struct.unpack("<Q", head[16:])[0])  # counts its own head
        if size > end and head[:4] != b"data":
            return None
        if head[:4] == b"data":
            return _sound(at + 24, max(0, size - 24), end, at + 16, "<")
        file.seek(at + max(24, (size + 7) // 8 * 8))
    return None


def with_true_size(file: io.FileIO, sound: Sound) -> io.BytesIO | None:
    """A copy in memory of a WAV that claims no samples and has some; None for all others.

    No more than the first 64 MiB of it are kept, which is more than is ever decoded of one file.
    """
    if sound.claimed != 0 or not sound.there or sound.order == ">":
        return None
    file.seek(0)
    if sound.chunks_only or file.read(4) != b"RIFF":
        return None
    file.seek(0)
    copy = bytearray(file.read(_MOST_IN_MEMORY))
    copy[4:8] = struct.pack("<I", len(copy) - 8)
    copy[sound.size_at : sound.start] = struct.pack("<I", len(copy) - sound.start)
    return io.BytesIO(bytes(copy))


def _is_chunks_only(file: io.FileIO, sound: Sound) -> bool:
    """Whether what follows are chunks up to the end of the file, so that there really are no samples."""
    at, end = sound.start, sound.start + sound.there
    for _ in range(_MOST_CHUNKS):
        file.seek(at)
        head = file.read(8)
        if len(head) < 8 or not head[:4].decode("latin-1").isprintable():
            return False
        at += 8 + int(struct.unpack(f"{sound.order}I", head[4:])[0])
        if at in {end, end - 1}:
            return True
        at += at % 2
    return False


def without_count(file: io.FileIO) -> io.BytesIO | None:
    """An MP3 whose header counts no frames or too few, changed so that it is read until its end.

    None for all others.
    """
    file.seek(0)
    head = file.read(10)
    start = 0
    if head[:3] == b"ID3" and len(head) == 10:
        start = 10 + sum((byte & 127) << shift for byte, shift in zip(head[6:], (21, 14, 7, 0), strict=True))
    file.seek(start)
    first = file.read(_LARGEST_FRAME)
    places = [place for place in map(first.find, _MPEG_TAGS) if place >= 0]
    if places and not _goes_on(file, start, first[places[0] :]):
        return None
    file.seek(start)
    content = bytearray(file.read(_MOST_OF_MPEG))
    for place in places:
        content[place : place + 4] = bytes(4)
    return _Longer(bytes(content))


def _goes_on(file: io.FileIO, start: int, tag: bytes) -> bool:
    """Whether another MP3 follows where the tag of the first frame says that this one ends."""
    flags, _, size = struct.unpack(">III", tag[4:16].ljust(12, b"\0"))
    if flags & 3 != 3 or not size:
        return False
    file.seek(start + size)
    after = file.read(2)
    return after[:1] == b"\xff" and after[1:] >= b"\xe0"


class _Longer(io.BytesIO):
    """Bytes that claim to be many times as long, so that a decoder does not stop at its guess of the length.

    Only the last 128 bytes are there beside the true ones: decoders look for a tag in them.
    """

    def __init__(self, content: bytes) -> None:
        super().__init__(content)
        self._end = _TIMES_LONGER * max(len(content), _ID3V1)

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """As of a file of the claimed length."""
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self.tell(), io.SEEK_END: self._end}[whence]
        return super().seek(base + offset)

    def readinto(self, buffer: Any) -> int:
        """As of a file of the claimed length."""
        at = self.tell()
        if at < self._end - _ID3V1:
            return super().readinto(buffer)
        size = min(len(buffer), max(0, self._end - at))
        buffer[:size] = bytes(size)
        super().seek(at + size)
        return size
