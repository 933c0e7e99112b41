"""Reading and writing recordings. A file is bounded before it is decoded: it may be hostile."""

import io
from pathlib import Path

import numpy as np
import soundfile
import soxr
import torch
from numpy.typing import NDArray

from closesesame.core.errors import DataError
from closesesame.core.types import Wave

Samples = NDArray[np.float32]

SUFFIXES = frozenset({".wav", ".flac", ".ogg", ".mp3"})
LONGEST_S = 60.0
"""No more than this is ever decoded of one file."""
MOST_CHANNELS = 64
MOST_HZ = 768_000


def read(path: Path, sample_rate: int, *, seconds: float | None = None) -> Samples:
    """Reads the beginning of a recording, mixed down to one channel and resampled.

    Args:
        path: a wav, flac, ogg or mp3 file of any rate, bit depth and number of channels.
        sample_rate: the wanted rate in Hz.
        seconds: how much to read at most; `LONGEST_S` if None.

    Returns:
        Float32 samples (time,), full scale at 1, at most `seconds` long; never empty.

    Raises:
        DataError: if the file is no audio, empty, truncated, or holds NaN or infinite samples.
    """
    seconds = min(seconds or LONGEST_S, LONGEST_S)
    try:
        with soundfile.SoundFile(path) as file:
            _check_header(path, file)
            wanted = min(file.frames, int(seconds * file.samplerate) + 1)
            samples = file.read(wanted, dtype="float32", always_2d=True)
            rate = file.samplerate
    except (soundfile.LibsndfileError, OSError, RuntimeError) as error:
        reason = str(error).rpartition(": ")[2].strip().rstrip(".") or type(error).__name__
        raise DataError(f"{path} is not readable audio ({reason}); convert it to WAV or remove it") from None
    if len(samples) < wanted:
        raise DataError(f"{path} is truncated: {wanted} samples expected, {len(samples)} found; remove it")
    mono = samples.mean(axis=1)
    if not np.isfinite(mono).all():
        raise DataError(f"{path} holds NaN or infinite samples; convert it again or remove it")
    if rate != sample_rate:
        mono = soxr.resample(mono, rate, sample_rate)
    mono = mono[: int(seconds * sample_rate)]
    if not len(mono):
        raise DataError(f"{path} is empty: it holds no samples; remove it")
    return np.ascontiguousarray(mono, dtype=np.float32)


def _check_header(path: Path, file: soundfile.SoundFile) -> None:
    if file.frames <= 0:
        raise DataError(f"{path} is empty: it holds no samples; remove it")
    if not 0 < file.channels <= MOST_CHANNELS or not 0 < file.samplerate <= MOST_HZ:
        raise DataError(f"{path} claims {file.channels} channels at {file.samplerate} Hz; convert it to WAV")


def fit_length(samples: Samples, length: int) -> Samples:
    """Cuts samples (time,) at the end, or pads them with silence, to `length`."""
    return np.pad(samples[:length], (0, max(0, length - len(samples))))


def to_int16(samples: Samples) -> NDArray[np.int16]:
    """Rounds full scale 1 to 16 bits, the resolution in which clips are kept."""
    return np.clip(np.rint(samples * 32_768), -32_768, 32_767).astype(np.int16)


def wav_bytes(samples: torch.Tensor, sample_rate: int) -> bytes:
    """Returns samples (time,) as a 16-bit WAV file in memory."""
    buffer = io.BytesIO()
    pcm = to_int16(samples.detach().cpu().float().numpy())
    soundfile.write(buffer, pcm, sample_rate, format="WAV", subtype="PCM_16")
    return buffer.getvalue()


def write(path: Path, samples: torch.Tensor, sample_rate: int) -> None:
    """Writes samples (time,) as a 16-bit file; the suffix, wav or flac, says which."""
    pcm = to_int16(samples.detach().cpu().float().numpy())
    soundfile.write(path, pcm, sample_rate, subtype="PCM_16")


def read_wave(path: Path, sample_rate: int) -> Wave:
    """Reads a recording as a batch of one waveform (1, time); errors as in `read`."""
    return torch.from_numpy(read(path, sample_rate))[None]
