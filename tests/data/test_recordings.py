"""Recordings as they come: every format that is read, headers that lie, files that end early."""

import io
import struct
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from closesesame.audio import files

from .clips import RATE, encoded, mpeg_frames, noise, wav

TONE = 0.3 * np.sin(2 * np.pi * 440 * np.arange(RATE) / RATE) * np.hanning(RATE)
PCM = (TONE * 32_767).astype("<i2").tobytes()


def heard(folder: Path, content: bytes, name: str = "x.wav", seconds: float = 1.0) -> files.Heard:
    (folder / name).write_bytes(content)
    return files.hear(folder / name, RATE, seconds=seconds)


def refused(folder: Path, content: bytes, seconds: float = 1.0) -> str:
    with pytest.raises(files.RecordingError) as error:
        heard(folder, content, seconds=seconds)
    return str(error.value)


FORMATS = {
    "wav": ("WAV", "PCM_16"),
    "wave": ("WAVEX", "PCM_24"),
    "rf64": ("RF64", "PCM_16"),
    "w64": ("W64", "PCM_16"),
    "aiff": ("AIFF", "PCM_16"),
    "aif": ("AIFF", "PCM_24"),
    "au": ("AU", "PCM_16"),
    "snd": ("AU", "ULAW"),
    "caf": ("CAF", "PCM_16"),
    "flac": ("FLAC", "PCM_16"),
    "ogg": ("OGG", "VORBIS"),
    "oga": ("OGG", "VORBIS"),
    "opus": ("OGG", "OPUS"),
    "mp3": ("MP3", "MPEG_LAYER_III"),
    "voc": ("VOC", "PCM_16"),
    "sph": ("NIST", "PCM_16"),
}


@pytest.mark.parametrize("suffix", FORMATS)
def test_every_format_is_read_with_its_length(tmp_path: Path, suffix: str) -> None:
    assert f".{suffix}" in files.SUFFIXES
    got = heard(tmp_path, encoded(TONE, *FORMATS[suffix]), f"x.{suffix}")
    assert abs(len(got.samples) - RATE) < 0.1 * RATE
    assert np.abs(np.fft.rfft(got.samples, RATE)).argmax() == pytest.approx(440, abs=1)
    assert got.length_s == pytest.approx(1, abs=0.1)
    assert (got.rate_hz, got.channels) == (RATE, 1)
    assert not got.clipped
    assert not got.missing_s


def test_formats_that_no_decoder_reads_are_named_and_not_read() -> None:
    assert {".m4a", ".aac", ".wma", ".amr", ".webm", ".mp4", ".3gp"} <= files.UNREADABLE
    assert not files.UNREADABLE & files.SUFFIXES


@pytest.mark.parametrize("claimed", [0, 0xFFFF_FFFF, 0x7FFF_FFFF])
def test_a_recorder_that_was_switched_off_left_a_good_recording(tmp_path: Path, claimed: int) -> None:
    got = heard(tmp_path, wav(PCM, claimed=claimed))
    assert (got.samples * 32_768).astype("<i2").tobytes() == PCM
    assert (got.length_s, got.missing_s) == (1.0, 0.0)


def test_of_a_wav_without_a_size_and_much_longer_than_a_clip_the_beginning_is_read(tmp_path: Path) -> None:
    got = heard(tmp_path, wav(PCM * 3, claimed=0))
    assert (len(got.samples), got.length_s) == (RATE, 3.0)


def test_an_empty_wav_is_empty_even_if_notes_follow(tmp_path: Path) -> None:
    note = struct.pack("<4sI", b"LIST", 100) + b"INFO" + bytes(96)
    for content in (wav(b""), wav(b"", after=note)):
        assert "is empty (it holds no samples)" in refused(tmp_path, content)


def test_other_formats_that_claim_no_samples_are_told_from_empty_ones(tmp_path: Path) -> None:
    au = encoded(TONE, "AU")
    reason = "claims to hold no samples, and 16,000 bytes follow its header; mend its header"
    assert reason in refused(tmp_path, au[:8] + bytes(4) + au[12:])
    assert "is empty" in refused(tmp_path, au[:8] + bytes(4) + au[12:24])


@pytest.mark.parametrize("kind", ["WAV", "RF64", "W64", "AIFF", "AU"])
def test_a_recording_cut_in_half_is_refused_with_what_is_there(tmp_path: Path, kind: str) -> None:
    whole = encoded(np.tile(TONE, 3), kind)
    content = whole[: len(whole) - RATE * 3]
    assert "is truncated (its header says 3 s, 1.5 s are there); mend it" in refused(tmp_path, content, 2.0)
    got = heard(tmp_path, content, seconds=1.0)  # all that is wanted is there
    assert got.missing_s == pytest.approx(1.5, abs=0.01)
    assert got.length_s == pytest.approx(1.5, abs=0.01)


def test_a_few_samples_that_are_missing_are_no_damage(tmp_path: Path) -> None:
    assert len(heard(tmp_path, wav(PCM, claimed=len(PCM) + 16)).samples) == RATE


def speech_in_mp3(loud_first: bool, seconds: float) -> bytes:
    """A variable rate, quiet in one half: its first frames say nothing of the length."""
    half = int(8_000 * seconds)
    loud = 5 * noise("loud", half / 16_000, 16_000)
    halves = [loud, np.zeros(half)] if loud_first else [np.zeros(half), loud]
    buffer = io.BytesIO()
    wave = np.concatenate(halves).clip(-1, 1)
    soundfile.write(buffer, wave, 16_000, format="MP3", bitrate_mode="VARIABLE", compression_level=0.0)
    return buffer.getvalue()


def uncounted(content: bytes) -> bytes:
    return b"".join(
        frame for frame in mpeg_frames(content) if not any(t in frame for t in (b"Xing", b"Info"))
    )


@pytest.mark.parametrize("loud_first", [True, False])
@pytest.mark.parametrize("seconds", [0.6, 3.0])
def test_an_mp3_that_does_not_say_its_length_is_read_until_its_end(
    tmp_path: Path, loud_first: bool, seconds: float
) -> None:
    content = uncounted(speech_in_mp3(loud_first, seconds))
    got = heard(tmp_path, content, "x.mp3", seconds=4.0)
    assert got.length_s == pytest.approx(seconds, abs=0.15)
    assert len(got.samples) == pytest.approx(got.length_s * RATE, abs=2)
    quiet, loud = (slice(-RATE // 5, None), slice(RATE // 8, RATE // 5))[:: 1 if loud_first else -1]
    assert np.abs(got.samples[loud]).mean() > 20 * np.abs(got.samples[quiet]).mean()


def test_of_two_mp3_one_after_the_other_both_are_read(tmp_path: Path) -> None:
    one = encoded(TONE, "MP3")
    assert heard(tmp_path, one, "x.mp3", seconds=4.0).length_s == pytest.approx(1, abs=0.1)
    assert heard(tmp_path, one + one, "x.mp3", seconds=4.0).length_s > 2


def test_an_mp3_with_fewer_frames_than_it_counts_is_truncated(tmp_path: Path) -> None:
    frames = mpeg_frames(encoded(TONE, "MP3", rate=16_000))
    assert "is truncated" in refused(tmp_path, b"".join(frames[:-4]))


def test_a_flac_that_does_not_say_its_length_is_read_until_its_end(tmp_path: Path) -> None:
    content = bytearray(encoded(TONE, "FLAC"))
    content[21] &= 0xF0
    content[22:26] = bytes(4)
    got = heard(tmp_path, bytes(content), "x.flac", seconds=3.0)
    assert (len(got.samples), got.length_s) == (RATE, 1.0)


def test_clipping_is_heard_and_a_loud_peak_is_not(tmp_path: Path) -> None:
    wave = np.sign(np.sin(np.arange(RATE) / 9))
    assert heard(tmp_path, encoded(wave, "WAV")).clipped
    peaks = TONE.copy()
    peaks[::100] = 1.0
    assert not heard(tmp_path, encoded(peaks, "WAV")).clipped
    beside = np.stack([TONE, wave], 1)  # the mean of both never reaches full scale
    assert heard(tmp_path, encoded(beside, "WAV")).clipped


def test_channels_that_cancel_out_are_told_from_silence(tmp_path: Path) -> None:
    got = heard(tmp_path, encoded(np.stack([TONE, -TONE], 1), "WAV"))
    assert (got.cancelled, got.channels) == (True, 2)
    assert not heard(tmp_path, encoded(np.zeros((RATE, 2)), "WAV")).cancelled


def test_numbers_of_a_header_have_a_range(tmp_path: Path) -> None:
    assert "claims 1 channel at 1 Hz" in refused(tmp_path, wav(PCM, rate=1))
    assert "claims 1 channel at 800000 Hz" in refused(tmp_path, wav(PCM, rate=800_000))


def test_a_recording_that_is_not_there_is_said_to_be_that(tmp_path: Path) -> None:
    with pytest.raises(files.RecordingError, match=r"is not there; check its name"):
        files.hear(tmp_path / "gone.wav", RATE)


def test_the_reason_of_the_system_is_given(tmp_path: Path) -> None:
    with pytest.raises(files.RecordingError, match=r"is not readable audio \(Is a directory\)"):
        files.hear(tmp_path, RATE)


def test_a_file_with_a_name_that_is_no_text_is_read_and_named(tmp_path: Path) -> None:
    path = tmp_path / "caf\udce9.wav"
    path.write_bytes(wav(PCM))
    assert len(files.read(path, RATE)) == RATE
    path.write_bytes(b"")
    with pytest.raises(files.RecordingError, match=r"caf\\udce9.wav") as error:
        files.read(path, RATE)
    str(error.value).encode()


WHOLE = [encoded(TONE[:2000], *FORMATS[suffix]) for suffix in FORMATS]

CHANGES = st.lists(st.tuples(st.integers(0, 600), st.binary(max_size=6)), max_size=4)


@settings(max_examples=150, deadline=None)
@given(
    st.sampled_from(WHOLE),
    st.lists(st.tuples(st.integers(0, 600), st.binary(max_size=6)), max_size=4),
    st.data(),
)
def test_damaged_bytes_are_sound_or_one_sentence(
    tmp_path_factory: pytest.TempPathFactory,
    whole: bytes,
    changes: list[tuple[int, bytes]],
    data: st.DataObject,
) -> None:
    content = whole[: data.draw(st.integers(0, len(whole)))] if data.draw(st.booleans()) else whole
    for at, put in changes:
        content = content[:at] + put + content[at + len(put) :]
    with suppress(files.RecordingError):
        got = heard(tmp_path_factory.getbasetemp(), content, "damaged")
        assert np.isfinite(got.samples).all()
        assert 0 < len(got.samples) <= RATE
