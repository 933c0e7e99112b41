"""Reading and writing recordings. A file is bounded before it is decoded: it may be hostile."""

import io
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
import soxr
import torch
from numpy.typing import NDArray

from closesesame.core.bounds import LEAST_HZ
from closesesame.core.domain import SPEECH
from closesesame.core.encoding import Encoding
from closesesame.core.errors import DataError, cut
from closesesame.core.types import Wave

from . import headers

Samples = NDArray[np.float32]

_READ = (
    "8svx aif aifc aiff au avr bwf caf flac iff ircam mp1 mp2 mp3 nist oga ogg opus paf pvf rf64 sds snd sph "
    "svx voc w64 wav wave wavex wve xi"
)
_NOT_READ = (
    "3gp 3gpp aac ac3 amr ape awb dff dsf dts eac3 gsm m4a m4b mka mkv mov mp4 mpc pcm ra raw rm shn spx tta "
    "vox webm wma wv"
)
SUFFIXES = frozenset(f".{suffix}" for suffix in _READ.split())
"""Of files that are read, in lower case."""
UNREADABLE = frozenset(f".{suffix}" for suffix in _NOT_READ.split())
"""Of recordings that no decoder here reads."""
LONGEST_S = 60.0
"""No more than this is ever decoded of one file."""
MOST_CHANNELS = 64
MOST_HZ = 768_000
SPARED_S = 0.01
"""A file that ends this much before its header says is not called truncated."""
FULL_SCALE, CLIPPED_RUN, CLIPPED_SHARE = 0.999, 3, 0.001
"""A recording is clipped if this share of its samples lies in runs of 3 or more at full scale."""
SILENCE = 1e-4
"""A clip with no sample above it, -80 dBFS, is silent."""
_MOST_FRAMES = 2**48
_EMPTY = "is empty (it holds no samples)"


class RecordingError(DataError):
    """A recording that cannot be used: `reason` follows the name of the file, `remedy` is what to do."""

    def __init__(self, path: Path, reason: str, remedy: str) -> None:
        super().__init__(f"{cut(show_name(path), 300)} {reason}; {remedy}")
        self.reason, self.remedy = reason, remedy


@dataclass(frozen=True, eq=False)
class Heard:
    """What was read of a recording.

    Attributes:
        samples: float32 (time,) at the sample rate asked for, full scale at 1, never empty.
        rate_hz: its own sample rate.
        channels: how many it has.
        length_s: of the whole recording.
        missing_s: how much of what its header claims is not there; none of it was asked for.
        clipped: whether runs of samples lie at full scale.
        cancelled: whether its channels cancel out when they are mixed down.
    """

    samples: Samples
    rate_hz: int
    channels: int
    length_s: float
    missing_s: float
    clipped: bool
    cancelled: bool


def read(path: Path, sample_rate: int, *, seconds: float | None = None) -> Samples:
    """Reads the beginning of a recording, mixed down to one channel and resampled; see `hear`."""
    return hear(path, sample_rate, seconds=seconds).samples


def hear(path: Path, sample_rate: int, *, seconds: float | None = None) -> Heard:
    """Reads the beginning of a recording, mixed down and resampled, and says what it was.

    Args:
        path: a file of any format libsndfile reads, rate, bit depth and number of channels.
        sample_rate: of the result, in Hz.
        seconds: how much to read at most; `LONGEST_S` if None.

    Raises:
        RecordingError: if the file is no audio, empty, truncated within what is read, or holds NaN or
            infinite samples.
    """
    seconds = min(seconds or LONGEST_S, LONGEST_S)
    try:
        with _opened(path) as opened:
            _check_header(path, opened)
            rate, channels = opened.file.samplerate, opened.file.channels
            samples, frames = _decode(path, opened, int(seconds * rate) + 1)
    except FileNotFoundError:
        raise RecordingError(path, "is not there", "check its name") from None
    except (soundfile.LibsndfileError, OSError, RuntimeError, ValueError) as error:
        reason = f"is not readable audio ({_reason(error)})"
        raise RecordingError(path, reason, "convert it to WAV or remove it") from None
    with np.errstate(over="ignore", invalid="ignore"):
        mono = samples.mean(axis=1)
    if not np.isfinite(mono).all():
        raise RecordingError(path, "holds NaN or infinite samples", "convert it again or remove it")
    cancelled = bool(np.abs(mono).max(initial=0) <= SILENCE < np.abs(samples).max(initial=0))
    if rate != sample_rate:
        mono = soxr.resample(mono, rate, sample_rate)
    mono = np.ascontiguousarray(mono[: int(seconds * sample_rate)], dtype=np.float32)
    if not len(mono):
        raise RecordingError(path, f"is too short (no sample is left at {sample_rate} Hz)", "remove it")
    there_s = frames * opened.share / rate
    return Heard(mono, rate, channels, there_s, frames / rate - there_s, is_clipped(samples), cancelled)


@dataclass(frozen=True)
class _Open:
    """An open recording; `counted`: its header tells its length; `share`: how much of that is there."""

    file: soundfile.SoundFile
    sound: headers.Sound | None
    counted: bool

    @property
    def share(self) -> float:
        return 1.0 if self.sound is None else self.sound.share


@contextmanager
def _opened(path: Path) -> Iterator[_Open]:
    """Opens a recording by its content, whatever its name."""
    with path.open("rb", buffering=0) as raw:  # the decoder reads from the same place as we do
        sound = headers.find_sound(raw)
        mended = None if sound is None else headers.with_true_size(raw, sound)
        raw.seek(0)
        with soundfile.SoundFile(mended or raw.fileno(), closefd=False) as file:
            at = raw.tell()
            uncounted = headers.without_count(raw) if file.format == "MP3" else None
            raw.seek(at)
            if uncounted is None:
                yield _Open(file, None if mended else sound, file.frames < _MOST_FRAMES)
                return
        with soundfile.SoundFile(uncounted) as file:
            yield _Open(file, None, counted=False)


def _check_header(path: Path, opened: _Open) -> None:
    file, sound = opened.file, opened.sound
    if not 0 < file.channels <= MOST_CHANNELS or not LEAST_HZ <= file.samplerate <= MOST_HZ:
        reason = f"claims {file.channels} channel{'s'[: file.channels != 1]} at {file.samplerate} Hz"
        raise RecordingError(path, reason, "convert it to WAV or remove it")
    if file.frames <= 0:
        if sound is not None and sound.holds_more:
            reason = f"claims to hold no samples, and {sound.there:,} bytes follow its header"
            raise RecordingError(path, reason, "mend its header, convert it to WAV or remove it")
        raise RecordingError(path, _EMPTY, "remove it")


def _decode(path: Path, opened: _Open, wanted: int) -> tuple[Samples, float]:
    """The beginning (time, channels), and how many samples the whole file claims to have."""
    file = opened.file
    if not opened.counted:
        return _to_the_end(file, wanted)
    frames = file.frames / opened.share
    samples = file.read(min(file.frames, wanted), dtype="float32", always_2d=True)
    if len(samples) + SPARED_S * file.samplerate < min(frames, wanted):
        said, there = frames / file.samplerate, len(samples) / file.samplerate
        reason = f"is truncated (its header says {said:.3g} s, {there:.3g} s are there)"
        raise RecordingError(path, reason, "mend it or remove it")
    return samples, frames


def _to_the_end(file: soundfile.SoundFile, wanted: int) -> tuple[Samples, float]:
    """As `_decode`, of a file that does not say how long it is: it ends where its decoder fails."""
    kept, size = [], file.samplerate
    frames = 0
    while frames < LONGEST_S * file.samplerate:
        block = np.full((size, file.channels), np.nan, np.float32)
        try:
            count = len(file.read(out=block))
        except soundfile.LibsndfileError:
            count = int(np.isfinite(block[:, 0]).sum())  # what was decoded before it failed
        if frames < wanted:
            kept.append(block[: min(count, wanted - frames)])
        frames += count
        if count < size:
            break
    return np.concatenate(kept), float(frames)


def is_clipped(samples: Samples) -> bool:
    """Whether one channel of samples (time, channels) stays at full scale again and again."""
    full = np.abs(samples) >= FULL_SCALE
    if full.sum() < CLIPPED_RUN:
        return False
    runs = np.lib.stride_tricks.sliding_window_view(full, min(CLIPPED_RUN, len(full)), axis=0).all(-1)
    return bool(runs.mean(axis=0).max() >= CLIPPED_SHARE)


def _reason(error: Exception) -> str:
    if isinstance(error, OSError):
        return error.strerror or type(error).__name__
    return str(error).rpartition(": ")[2].strip().rstrip(".") or type(error).__name__


def show_name(path: Path | str) -> str:
    """A path as text that can be printed and written, whatever bytes it consists of."""
    return str(path).encode("utf-8", "backslashreplace").decode("utf-8")


def fit_length(samples: Samples, length: int) -> Samples:
    """Cuts samples (time,) at the end, or pads them with silence, to `length`."""
    return np.pad(samples[:length], (0, max(0, length - len(samples))))


def to_int16(samples: Samples) -> NDArray[np.int16]:
    """Rounds full scale 1 to 16 bits, the resolution in which clips are kept."""
    return Encoding.of(SPEECH.stored).encode(torch.tensor(samples)).numpy()


def wav_bytes(samples: torch.Tensor, sample_rate: int) -> bytes:
    """Returns samples (time,) as a 16-bit WAV file in memory."""
    buffer = io.BytesIO()
    pcm = to_int16(samples.detach().cpu().float().numpy())
    soundfile.write(buffer, pcm, sample_rate, format="WAV", subtype="PCM_16")
    return buffer.getvalue()


def write(path: Path, samples: torch.Tensor, sample_rate: int) -> None:
    """Writes samples (time,) as a 16-bit file; the suffix, wav or flac, says which.

    Raises:
        DataError: if it cannot be written, such as on a full disk.
    """
    pcm = to_int16(samples.detach().cpu().float().numpy())
    try:
        soundfile.write(path, pcm, sample_rate, subtype="PCM_16")
    except (soundfile.LibsndfileError, OSError, RuntimeError, ValueError) as error:
        raise DataError(
            f"{show_name(path)} cannot be written ({_reason(error)}); make room or choose another place"
        ) from None


def read_wave(path: Path, sample_rate: int) -> Wave:
    """Reads a recording as a batch of one waveform (1, time); errors as in `hear`."""
    return torch.from_numpy(read(path, sample_rate))[None]
