"""What is refused before anything is made, what is skipped, and what the report says."""

import json
import shutil
from collections.abc import Callable
from itertools import product
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import soundfile
import torch

from closesesame.core.errors import DataError, DataWarning, SettingError
from closesesame.data import ReadingReport, Splits, load_folder, load_splits, read_folder
from closesesame.data.report import CHANGES

from .clips import FEW, RATE, SECONDS, encoded, fill, noise, parts, read, record, said, wav

CLIPS = [f"{word}/s{who}_nohash_{take}.wav" for word, who, take in product(("no", "yes"), range(12), (0, 1))]


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("sample_rate", 0),
        ("sample_rate", -16_000),
        ("sample_rate", 999),
        ("sample_rate", 192_001),
        ("sample_rate", 100_000_000),
        ("duration_s", 0.0),
        ("duration_s", -1.0),
        ("duration_s", 60.1),
        ("duration_s", float("nan")),
        ("duration_s", float("inf")),
    ],
)
def test_numbers_that_nobody_means_are_refused_by_name(tmp_path: Path, setting: str, value: Any) -> None:
    for call in (load_folder, load_splits):
        with pytest.raises(SettingError, match=f"{setting} must be"):
            call(fill(tmp_path, CLIPS[:2]), **{setting: value})


def test_the_largest_clips_are_read(tmp_path: Path) -> None:
    fill(tmp_path, ["a/s_0.wav", "b/s_0.wav"])
    assert read_folder(tmp_path, sample_rate=192_000, duration_s=60.0).data.input_shape == (11_520_000,)


def test_clips_for_which_there_is_no_room_are_refused_before_they_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(tmp_path, CLIPS)
    monkeypatch.setattr("closesesame.data.reading.IN_MEMORY_BYTES", 1000)
    monkeypatch.setattr("closesesame.data.reading.files.hear", lambda *_, **__: pytest.fail("was read"))
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=66_000_000))
    with pytest.raises(DataError, match="48 clips of 60 s at 8,000 Hz take 46 MB and .* has 66 MB left"):
        read(tmp_path, duration_s=60.0)


def test_a_disk_that_fills_while_clips_are_kept_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Full:
        def __enter__(self) -> "Full":
            return self

        def __exit__(self, *_: object) -> None: ...

        def write(self, _: bytes) -> None:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr("closesesame.data.reading.IN_MEMORY_BYTES", 0)
    monkeypatch.setattr("closesesame.data.reading.tempfile.TemporaryFile", Full)
    with pytest.raises(DataError, match=r"cannot be kept in .* \(No space left on device\); make room there"):
        read(fill(tmp_path, CLIPS))


def damage(folder: Path, count: int, word: str = "no") -> Path:
    """Makes so many recordings of a word unusable, in three ways."""
    ways = (b"", b"hello", wav(bytes(2 * 800), claimed=16_000)[:1000])
    for number, name in enumerate([name for name in sorted(CLIPS) if name.startswith(word)][:count]):
        (folder / name).write_bytes(ways[number % 3])
    return folder


def test_all_bad_recordings_are_named_at_once(tmp_path: Path) -> None:
    folder = damage(fill(tmp_path, CLIPS), 5)
    with pytest.raises(DataError) as error:
        read(folder)
    text = str(error.value)
    assert text.startswith(f"5 of 48 recordings of {tmp_path} cannot be used: ")
    assert "no/s0_nohash_0.wav is not readable audio (" in text
    assert "no/s10_nohash_0.wav is truncated (its header says 1 s, 0.0597 s are there)" in text
    assert text.endswith("and 2 more; mend or remove them, or skip them with --skip-bad (skip_bad=True)")


def test_skipping_bad_recordings_is_as_if_they_were_not_there(tmp_path: Path) -> None:
    folder = damage(fill(tmp_path / "a", CLIPS), 5)
    got = read(folder, skip_bad=True, split="random")
    assert [skipped.id for skipped in got.report.skipped] == sorted(CLIPS)[:5]
    assert said(got.report).startswith("5 recordings were skipped: no/s0_nohash_0.wav is not readable audio")
    other = Path(shutil.copytree(folder, tmp_path / "b"))
    for skipped in got.report.skipped:
        (other / skipped.id).unlink()
    without = read(other, split="random")
    assert parts(without.splits) == parts(got.splits)
    for one, two in zip(got.splits, without.splits, strict=True):
        assert (one.ids, one.classes, one.speakers) == (two.ids, two.classes, two.speakers)
        assert torch.equal(one.inputs[:], two.inputs[:])
        assert torch.equal(one.labels, two.labels)
    assert len(read_folder(folder, sample_rate=RATE, duration_s=SECONDS, skip_bad=True).data) == 43


def test_what_is_skipped_may_not_be_a_class_or_most_of_the_data(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="nothing would be left of class 'no', so mend or replace them"):
        read(damage(fill(tmp_path / "a", CLIPS), 24), skip_bad=True)
    both = damage(damage(fill(tmp_path / "b", CLIPS), 13), 13, "yes")
    with pytest.raises(DataError, match="26 of 48 .*; those are more than half, so mend or replace them"):
        read(both, skip_bad=True)


def test_one_warning_a_surprise_and_none_from_what_returns_a_report(tmp_path: Path) -> None:
    fill(tmp_path, CLIPS)
    record(tmp_path / CLIPS[0], seconds=1.0)
    (tmp_path / "no" / "x.m4a").touch()
    how: dict[str, Any] = {"sample_rate": RATE, "duration_s": SECONDS}
    for load in (load_splits, load_folder):
        with pytest.warns(DataWarning) as caught:
            load(tmp_path, **how)
        assert len(caught) == 2
    assert len(read(tmp_path).report.surprises()) == 2
    assert len(read_folder(tmp_path, **how).report.surprises()) == 2


@pytest.fixture
def odd(tmp_path: Path) -> Callable[..., ReadingReport]:
    """Reads a good folder with one more recording, of class `no`."""

    def write(content: bytes, name: str = "no/s0_nohash_7.wav", **settings: object) -> ReadingReport:
        fill(tmp_path, CLIPS)
        (tmp_path / name).write_bytes(content)
        return read(tmp_path, **settings).report

    return write


def row(report: ReadingReport, name: str = "no") -> dict[str, Any]:
    """What happened in a class, without what did not."""
    rows = {row["class"]: row for row in report.by_class()}
    return {change: rows[name][change] for change in CHANGES if rows[name][change]}


Odd = Callable[..., ReadingReport]


def test_a_good_folder_surprises_nobody(tmp_path: Path) -> None:
    report = read(fill(tmp_path, CLIPS)).report
    assert report.surprises() == []
    counted = {"class": "no", "train": 20, "validation": 2, "test": 2, "speakers": 12}
    assert report.by_class()[0] == counted | dict.fromkeys(CHANGES, 0)
    assert report.parts()[1] == {"part": "validation", "clips": 4, "speakers": 1, "classes missing": []}
    assert (report.split, report.why) == ("speakers", "12 speakers are known")


def test_a_cut_recording_is_said_with_what_is_lost(odd: Odd) -> None:
    report = odd(encoded(noise("long", 0.35), "WAV"))
    assert row(report) == {"cut": 1}
    assert report.surprises() == [
        "1 of 49 recordings is longer than 0.1 s and cut, 0.2 s are lost (the longest has 0.35 s: "  # noqa: ISC004
        "no/s0_nohash_7.wav); read more with --duration-s (duration_s)"
    ]


def test_lengths_that_a_model_gives_are_said_again_only_if_most_recordings_have_others(
    odd: Odd, tmp_path: Path
) -> None:
    assert odd(encoded(noise("long", 0.35), "WAV")).surprises(length_known=True) == []
    assert odd(encoded(noise("short", 0.03), "WAV")).surprises(length_known=True) == []
    assert "silent" in odd(encoded(np.zeros(FEW), "WAV")).surprises(length_known=True)[0]
    for name in CLIPS:
        soundfile.write(tmp_path / name, noise(name, 0.2), RATE)
    (tmp_path / "no/s0_nohash_7.wav").unlink()
    every = read(tmp_path).report
    assert "48 of 48 recordings are longer than 0.1 s and cut" in every.surprises(length_known=True)[0]
    assert every.surprises(length_known=True) == [
        sentence.removesuffix("; read more with --duration-s (duration_s)") for sentence in every.surprises()
    ]
    whole = read(tmp_path, duration_s=0.5).report
    assert whole.surprises(length_known=True) == whole.surprises() != []


def test_a_few_samples_more_or_less_are_counted_and_no_surprise(odd: Odd) -> None:
    report = odd(encoded(noise("x", 0.11), "WAV"))
    assert (row(report), report.surprises()) == ({"cut": 1}, [])
    report = odd(encoded(noise("x", 0.09), "WAV"))
    assert (row(report), report.surprises()) == ({"padded": 1}, [])


def test_a_clip_that_is_mostly_padding_is_said(odd: Odd) -> None:
    report = odd(encoded(noise("short", 0.03), "WAV"))
    assert row(report) == {"padded": 1}
    assert said(report) == (
        "1 of 49 recordings is shorter than half of 0.1 s and padded with silence (the shortest has 0.03 s: "
        "no/s0_nohash_7.wav)"
    )


def test_resampling_and_mixing_down_are_counted_and_no_surprise(odd: Odd) -> None:
    wave = noise("wide", SECONDS, 16_000)
    report = odd(encoded(np.stack([wave, wave], 1), "WAV", rate=16_000))
    assert (row(report), report.surprises()) == ({"resampled": 1, "mixed down": 1}, [])


def test_a_recording_of_half_the_band_is_said(odd: Odd) -> None:
    report = odd(encoded(noise("low", SECONDS, 3000), "WAV", rate=3000))
    assert "1 of 49 recordings is recorded at less than half of 8,000 Hz, so high tones" in said(report)


def test_silent_clips_are_said_and_those_of_the_class_silence_are_not(odd: Odd, tmp_path: Path) -> None:
    report = odd(encoded(np.zeros(FEW), "WAV"))
    assert row(report) == {"silent": 1}
    assert said(report) == "1 of 49 recordings is silent (no/s0_nohash_7.wav)"
    silent = [tmp_path / f"_silence_/s{who}_nohash_0.wav" for who in range(12)]
    for path in silent:
        record(path)
        soundfile.write(path, np.zeros(FEW), RATE)
    (tmp_path / "no/s0_nohash_7.wav").unlink()
    report = read(tmp_path).report
    assert row(report, "_silence_") == {"silent": 12}
    assert report.surprises() == []


def test_channels_that_cancel_out_are_the_cause_that_is_named(odd: Odd) -> None:
    wave = noise("both")
    report = odd(encoded(np.stack([wave, -wave], 1), "WAV"))
    assert said(report) == (
        "1 of 49 recordings is silent, since channels cancel out when mixed down (no/s0_nohash_7.wav)"
    )


def test_clipped_recordings_are_counted_and_said_if_a_class_has_many(odd: Odd, tmp_path: Path) -> None:
    report = odd(encoded(40 * noise("loud").clip(-1, 1), "WAV"))
    assert (row(report), report.surprises()) == ({"clipped": 1}, [])
    soundfile.write(tmp_path / "no/s1_nohash_7.wav", (40 * noise("louder")).clip(-1, 1), RATE)
    assert said(read(tmp_path).report).startswith("2 of 50 recordings are clipped: samples stay")


def test_a_recording_whose_end_is_missing_is_said_though_its_clip_is_whole(odd: Odd) -> None:
    whole = encoded(noise("end", 1.0), "WAV")
    report = odd(whole[: len(whole) // 2])
    assert "1 of 49 recordings is truncated behind what is used of it (no/s0_nohash_7.wav)" in said(report)


@pytest.mark.parametrize(
    ("copy", "original", "where"),
    [
        ("train/yes/copy.wav", "test/yes/0.wav", "in several parts"),
        ("train/no/copy.wav", "test/yes/0.wav", "in several parts"),
        ("train/no/copy.wav", "train/yes/0.wav", "in several classes"),
        ("train/yes/copy.wav", "train/yes/0.wav", "several times in one class"),
    ],
)
def test_equal_clips_are_said_by_where_they_are(tmp_path: Path, copy: str, original: str, where: str) -> None:
    everything = product(("train", "val", "test"), ("no", "yes"), (0, 1))
    fill(tmp_path, [f"{part}/{word}/{n}.wav" for part, word, n in everything])
    (tmp_path / copy).write_bytes((tmp_path / original).read_bytes())
    report = read(tmp_path).report
    pair = " = ".join(sorted([copy, original]))
    assert said(report) == f"1 sound is {where}, equal in each sample ({pair})"
    assert sum(row["duplicate"] for row in report.by_class()) == 1


def test_speakers_in_several_given_parts_and_missing_classes_are_said(tmp_path: Path) -> None:
    fill(tmp_path, [f"train/{name}" for name in CLIPS] + ["val/no/s0_nohash_9.wav", "test/no/x_nohash_0.wav"])
    lines = read(tmp_path).report.surprises()
    assert lines == [
        "1 of 13 speakers is in several parts (s0)",
        "the validation part lacks 1 class, which no training is watched on (yes)",
        "the test part lacks 1 class, which nothing is measured on (yes)",
    ]


def test_a_report_is_plain_json_and_counts_every_clip_once(odd: Odd) -> None:
    report = odd(encoded(noise("long", 0.35), "WAV"))
    there = json.loads(json.dumps(report.as_json(), allow_nan=False))
    assert there["clips"] == 49 == sum(row[part] for row in there["classes"] for part in Splits._fields)
    assert [row["clips"] for row in there["parts"]] == [
        sum(row[part] for row in there["classes"]) for part in Splits._fields
    ]
    assert (there["split"], there["surprises"]) == ("speakers", report.surprises())


def test_a_data_set_that_was_not_split_has_no_parts(tmp_path: Path) -> None:
    report = read_folder(fill(tmp_path, CLIPS), sample_rate=RATE, duration_s=SECONDS).report
    assert (report.split, report.parts()) == (None, [])
    assert [row["clips"] for row in report.by_class()] == [24, 24]


def test_synthetic_speech_has_a_report_of_its_own(tones: Splits) -> None:
    report = ReadingReport.of(tones)
    assert [row["train"] for row in report.by_class()] == [80] * 4
    assert (report.duration_s, report.sample_rate, report.surprises()) == (0.5, 8000, [])
    twice = tones._replace(test=tones.train)
    assert "320 sounds are in several parts" in said(ReadingReport.of(twice))
