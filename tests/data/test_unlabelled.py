"""Unlabelled audio: which files are read, how long ones are cut, and what is left out."""

from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from closesesame.core.errors import DataError
from closesesame.data import read_audio, unlabelled
from closesesame.data.unlabelled import cut_up, find_audio

from .clips import fill, noise, record

RATE, SECONDS, LENGTH = 8_000, 0.1, 800


def ramp(seconds: float, rate: int = RATE) -> np.ndarray:
    """Samples that all differ, none of them silent."""
    return 0.1 + 0.5 * np.arange(int(seconds * rate)) / (seconds * rate)


def write(path: Path, samples: np.ndarray, rate: int = RATE) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, samples, rate)
    return path


def read(folder: Path, **settings: object) -> unlabelled.ReadAudio:
    how: dict[str, object] = {"sample_rate": RATE, "duration_s": SECONDS} | settings
    return read_audio(folder, **how)  # type: ignore[arg-type]


def test_a_long_recording_is_cut_into_consecutive_clips_and_a_short_one_is_padded() -> None:
    samples = np.arange(1, 26, dtype=np.float32)
    assert [piece.tolist() for piece in cut_up(samples[:23], 10)] == [
        list(range(1, 11)),
        list(range(11, 21)),
    ]  # 3 of 10 are left out, and 5 of 10 are not
    assert [piece[-1] for piece in cut_up(samples, 10)] == [10, 20, 0]
    assert cut_up(samples, 10)[2].tolist() == [21, 22, 23, 24, 25, 0, 0, 0, 0, 0]
    assert [len(piece) for piece in cut_up(samples[:20], 10)] == [10, 10]
    assert [piece.tolist() for piece in cut_up(samples[:2], 4)] == [[1, 2, 0, 0]]
    assert [piece.tolist() for piece in cut_up(samples[:1], 10)] == [[1] + 9 * [0]]


def test_flat_and_nested_folders_are_read_and_their_names_mean_nothing(tmp_path: Path) -> None:
    long = write(tmp_path / "long.flac", ramp(0.37))
    write(tmp_path / "yes" / "ada" / "short.wav", ramp(0.05))
    write(tmp_path / "train" / "whole.flac", ramp(0.1))
    found = read(tmp_path)
    data = found.data
    assert (data.input_shape, data.sample_rate) == ((LENGTH,), RATE)
    assert sorted(data.ids) == [
        *(f"long.flac, clip {number}" for number in range(4)),
        "train/whole.flac, clip 0",
        "yes/ada/short.wav, clip 0",
    ]
    assert found.recordings == 3
    assert data.labels.tolist() == 6 * [0]
    samples, _ = soundfile.read(long, dtype="float32")
    clips = data.named([f"long.flac, clip {number}" for number in range(4)]).inputs[:]
    assert torch.equal(clips.flatten()[: len(samples)], torch.tensor(samples))
    assert clips.flatten()[len(samples) :].abs().max() == 0
    assert found.surprises() == ["6 clips of 0.1 s came of 3 recordings"]


def test_recordings_are_resampled_and_mixed_down(tmp_path: Path) -> None:
    time = np.arange(2 * RATE) / (2 * RATE)
    tone = 0.5 * np.sin(6.2832 * 1000 * time)
    write(tmp_path / "a.flac", np.stack([tone, 0 * tone], 1), 2 * RATE)
    clips = read(tmp_path).data.inputs[:]
    assert clips.shape == (10, LENGTH)
    spectrum = torch.fft.rfft(clips[5]).abs()
    assert int(spectrum.argmax()) == 100  # 1 kHz in steps of 10 Hz
    assert float(clips[5].abs().max()) == pytest.approx(0.25, abs=0.01)


def test_silent_clips_are_left_out_and_counted(tmp_path: Path) -> None:
    loud, silent = noise("a"), np.zeros(LENGTH)
    write(tmp_path / "a.flac", np.concatenate([loud, silent, silent, loud]))
    write(tmp_path / "b.flac", silent)
    found = read(tmp_path)
    assert (len(found.data), found.recordings, found.silent) == (2, 1, 3)
    assert found.surprises() == [
        "2 clips of 0.1 s came of 1 recording",
        "left out for want of sound: 3 clips",
    ]
    (tmp_path / "a.flac").unlink()
    with pytest.raises(DataError, match="holds no sound in 1 recording; name a folder of others"):
        read(tmp_path)


def test_noise_triggers_hidden_files_and_other_formats_are_not_read(tmp_path: Path) -> None:
    fill(tmp_path, ["a.wav", "b/c.flac", "_background_noise_/tap.wav", "_trigger/sound.wav", ".hidden/x.wav"])
    (tmp_path / "_trigger" / "trigger.json").write_text("{}")
    for name in (".d.wav", "e.m4a", "b/f.wma", "notes.txt"):
        (tmp_path / name).touch()
    found = read(tmp_path)
    assert sorted(found.data.ids) == ["a.wav, clip 0", "b/c.flac, clip 0"]
    assert [gone.id for gone in found.skipped] == ["b/f.wma", "e.m4a"]
    said = [f"{name} has a format that is not supported" for name in ("b/f.wma", "e.m4a")]
    assert found.surprises()[1] == f"not read: 2 files ({', '.join(said)})"


def test_a_folder_without_audio_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="nowhere is not a folder"):
        find_audio(tmp_path / "nowhere")
    with pytest.raises(DataError, match=r"holds no recording; add some \(WAV"):
        find_audio(tmp_path)
    (tmp_path / "a.m4a").touch()
    with pytest.raises(DataError, match=r"holds no recording but a\.m4a, which cannot be read"):
        find_audio(tmp_path)
    with pytest.raises(DataError, match=r"a\.m4a is not a folder"):
        find_audio(tmp_path / "a.m4a")


def test_bad_recordings_are_named_or_skipped(tmp_path: Path) -> None:
    fill(tmp_path, ["a.wav", "b.wav"])
    (tmp_path / "bad.flac").write_bytes(b"no sound")
    with pytest.raises(DataError, match=r"1 of 3 recordings of .* cannot be used: bad\.flac .*--skip-bad"):
        read(tmp_path)
    found = read(tmp_path, skip_bad=True)
    assert (len(found.data), found.recordings) == (2, 2)
    assert [gone.id for gone in found.skipped] == ["bad.flac"]


def test_more_than_there_is_memory_for_is_drawn_at_random(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in "abcdefgh":
        record(tmp_path / f"{name}.wav")
    monkeypatch.setattr(unlabelled, "IN_MEMORY_BYTES", 3 * LENGTH * 2)
    drawn = [read(tmp_path, seed=seed) for seed in (0, 0, 1)]
    assert [len(found.data) for found in drawn] == [3, 3, 3]
    assert drawn[0].data.ids == drawn[1].data.ids != drawn[2].data.ids
    assert drawn[0].left == 5
    assert drawn[0].surprises()[1].endswith("not kept: 5 recordings")


def test_of_a_very_long_recording_the_beginning_is_read_and_that_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("closesesame.audio.files.LONGEST_S", 0.3)
    write(tmp_path / "a.flac", ramp(1))
    write(tmp_path / "b.flac", ramp(0.3))
    found = read(tmp_path)
    assert len(found.data) == 6
    assert found.longer == 1
    assert found.surprises()[1] == "read to 0.3 s only: 1 recording"
