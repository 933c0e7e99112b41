"""A gate: which windows it decides on, what its scores are, and real input through a real pipe."""

import dataclasses
import json
import math
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from closesesame.cli.verbs import gate as verb
from closesesame.core.errors import ModelError, SettingError
from closesesame.data import Dataset, Splits
from closesesame.detection import DETECTIONS, flagging
from closesesame.detection.base import Detection, Suspicion
from closesesame.gate import Decision, Gate, by_detection, disagreement
from closesesame.models import Classifier, adapt
from closesesame.purification import Lowpass
from tests.commands import Sesame

RATE, LENGTH = 1000, 50
NAMES = ("start", "rest")


class First(nn.Module):
    """Says `start` with the probability that the first sample of a clip says; remembers its inputs."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[Tensor] = []

    def forward(self, x: Tensor) -> Tensor:
        self.seen.append(x.clone())
        return torch.stack([x[:, 0], 1 - x[:, 0]], 1).clamp(1e-9).log()


@pytest.fixture
def first() -> Classifier:
    return adapt(First(), NAMES, (LENGTH,), RATE)


def ramp(count: int) -> NDArray[np.float32]:
    return (np.arange(count) / 1000).astype(np.float32)


def starts(decisions: list[Decision]) -> list[float]:
    return [round(RATE * one.start_s) for one in decisions]


def test_a_step_is_the_nearest_whole_number_of_samples(first: Classifier) -> None:
    assert Gate(first, every_s=0.0208).step == 21


@pytest.mark.parametrize("size", [1, 7, 20, 50, 200])
def test_windows_start_a_step_apart_whatever_the_blocks(first: Classifier, size: int) -> None:
    sound = ramp(115)
    blocks = [sound[at : at + size] for at in range(0, 115, size)]
    found = list(Gate(first, every_s=0.02).listen(blocks))
    assert starts(found) == [0, 20, 40, 60, 80]
    assert [round(RATE * one.end_s) for one in found] == [50, 70, 90, 110, 130]
    assert [one.label for one in found] == ["rest"] * 5
    assert [one.probability for one in found] == pytest.approx([1 - at / 1000 for at in range(0, 100, 20)])
    body = first.body
    assert isinstance(body, First)
    last = body.seen[-1][0]
    assert torch.equal(last, torch.tensor([*sound[80:], *[0] * 15]))  # silence behind the end


@pytest.mark.parametrize(
    ("count", "expected"),
    [(0, []), (3, [0]), (50, [0]), (51, [0, 25]), (75, [0, 25]), (76, [0, 25, 50])],
)
def test_every_sample_is_in_a_window_and_none_is_added_for_nothing(
    first: Classifier, count: int, expected: list[int]
) -> None:
    assert starts(list(Gate(first, every_s=0.025).listen([ramp(count)]))) == expected


def test_an_input_begins_anew_whatever_was_heard_before(first: Classifier) -> None:
    gate = Gate(first, every_s=0.02)
    once = [(one.start_s, one.probability) for one in gate.listen([ramp(115)])]
    list(gate.listen([0.5 + ramp(77)]))
    assert [(one.start_s, one.probability) for one in gate.listen([ramp(115)])] == once


def test_the_time_of_a_decision_is_measured(first: Classifier, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([10.0, 10.5, 20.0, 20.25])
    monkeypatch.setattr("closesesame.gate.time.perf_counter", lambda: next(clock))
    found = Gate(first, every_s=0.05).listen([ramp(100)])
    assert [one.seconds for one in found] == [0.5, 0.25]


def test_a_decision_comes_as_soon_as_its_window_is_there(first: Classifier) -> None:
    taken = 0

    def blocks() -> Any:
        nonlocal taken
        for at in range(0, 500, 25):
            taken += 25
            yield ramp(500)[at : at + 25]

    decisions = Gate(first, every_s=0.05).listen(blocks())
    next(decisions)
    assert taken == 50
    next(decisions)
    assert taken == 100


def test_scores_above_the_threshold_are_suspicious(first: Classifier) -> None:
    def score(inputs: Dataset) -> Tensor:
        return inputs.inputs[:][:, 0].double()

    def said(threshold: float | None) -> list[bool | None]:
        gate = Gate(first, score, threshold, every_s=0.05)
        return [one.suspicious for one in gate.listen([np.full(50, 0.5, np.float32), ramp(50)])]

    assert said(0.25) == [True, False]
    assert said(0.5) == [False, False]
    assert said(None) == [None, None]
    (one,) = Gate(first, None, 0.1, every_s=0.05).listen([ramp(50)])
    assert (one.suspicion, one.suspicious) == (None, None)


def test_what_is_no_number_never_passes(first: Classifier) -> None:
    gate = Gate(first, lambda inputs: torch.full((len(inputs),), math.nan, dtype=torch.float64), 0.5, 0.05)
    (one,) = gate.listen([ramp(50)])
    assert one.suspicious is True
    for wrong in (math.nan, math.inf, -math.inf):
        with pytest.raises(SettingError, match="threshold must be a finite number, got -?(nan|inf)"):
            Gate(first, threshold=wrong, every_s=0.05)


def test_the_disagreement_is_half_of_the_differences(clean_model: Classifier, tones: Splits) -> None:
    purifier = Lowpass(cutoff_hz=500).fit(None, 0, card=clean_model.card)
    few = tones.test.take(torch.arange(12))
    with torch.no_grad():
        plain = clean_model(few.inputs[:]).softmax(1)
        purified = clean_model(purifier(few.inputs[:])).softmax(1)
    expected = torch.tensor(
        [
            sum(abs(float(a - b)) for a, b in zip(*pair, strict=True)) / 2
            for pair in zip(plain, purified, strict=True)
        ]
    )
    found = disagreement(clean_model, purifier)(few)
    assert found.tolist() == pytest.approx(expected, abs=0.02)
    assert found.max() > 0.3
    assert found.max() <= 1


def test_a_detection_of_inputs_scores_as_it_does_and_one_of_training_clips_is_refused(
    clean_model: Classifier, tones: Splits
) -> None:
    strip = DETECTIONS.make("strip", {"mixtures": 4})
    few = tones.test.take(torch.arange(3))
    clean = tones.validation
    found = by_detection(strip, clean_model, clean, 7)(few)
    assert torch.equal(found, strip.score(clean_model, few, clean, 7).scores)
    with pytest.raises(SettingError, match="training_loss screens training clips"):
        by_detection(DETECTIONS.make("training_loss"), clean_model, None, 0)


def test_what_cannot_be_watched_is_refused(first: Classifier) -> None:
    for wrong in (0.0, -1.0, 0.051):
        with pytest.raises(SettingError, match="every_s must be above 0 and at most the 0.05 s of a window"):
            Gate(first, every_s=wrong)
    with pytest.raises(ModelError, match="takes no sound"):
        Gate(adapt(First(), NAMES, (LENGTH,), None))


@pytest.fixture
def purifier(sesame: Sesame, clips: Path, tmp_path: Path) -> Path:
    sesame(
        "purify",
        clips,
        tmp_path / "p",
        "--set",
        "cutoff_hz=500",
        "--sample-rate",
        "8000",
        "--duration-s",
        "0.5",
    )
    return tmp_path / "p"


def test_a_process_is_watched_through_a_pipe_line_by_line(model: Path, purifier: Path, tones: Splits) -> None:
    sound = np.concatenate(list(tones.test.inputs[:4].numpy()))  # 2 s at 8 kHz
    words = ["gate", model, "--purifier", purifier, "--threshold", "0.2", "--json", "--sample-rate", "16000"]
    process = subprocess.Popen(
        [sys.executable, "-m", "closesesame", *map(str, words)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    pcm = (np.repeat(sound, 2) * 2**15).clip(-(2**15), 2**15 - 1).astype("<i2").tobytes()
    process.stdin.write(pcm[:24_001])  # 0.75 s and half a sample
    process.stdin.flush()
    early = json.loads(process.stdout.readline())  # while the input is still open
    out, noted = process.communicate(pcm[24_001:])
    rows = [early, *map(json.loads, out.splitlines())]
    assert [row["start_s"] for row in rows] == [0, 0.5, 1, 1.5]
    assert {row["label"] for row in rows} <= {"low", "middle", "high", "top"}
    assert all(row["suspicious"] is (row["suspicion"] > 0.2) for row in rows)
    assert len({row["suspicion"] for row in rows}) == 4
    assert b"2.0 s in 4 windows; computing took " in noted
    assert process.returncode == 0


def test_recordings_are_watched_and_clean_ones_set_the_threshold(
    sesame: Sesame, model: Path, purifier: Path, clips: Path, tmp_path: Path
) -> None:
    soundfile.write(tmp_path / "a.wav", 0.1 * np.random.default_rng(0).standard_normal(11_000), 8000)
    watch = ("gate", model, tmp_path / "a.wav", "--purifier", purifier, "--every-s", "0.25")
    rows = [
        json.loads(line) for line in sesame(*watch, "--clean", clips, "--fpr", "0.1", "--json").splitlines()
    ]
    assert [row["start_s"] for row in rows] == [0, 0.25, 0.5, 0.75, 1.0]
    assert {row["file"] for row in rows} == {str(tmp_path / "a.wav")}
    assert "note: flagged are clips with a score above" in sesame.noted
    lines = sesame(*watch).splitlines()
    assert len(lines) == 5
    assert "suspicion" in lines[0]
    assert "SUSPICIOUS" in sesame(*watch, "--threshold", "-1")
    strip = ("gate", model, tmp_path / "a.wav", "--method", "strip", "--set", "mixtures=3")
    assert "strip needs clean recordings" in sesame.fails(*strip)
    assert "suspicion" in sesame(*strip, "--clean", clips, "--fpr", "0.2")


def test_wrong_words_are_refused(sesame: Sesame, model: Path, purifier: Path) -> None:
    both = sesame.fails("gate", model, "--purifier", purifier, "--method", "strip")
    assert "from --purifier or from --method; name one" in both
    assert "--threshold is of a score" in sesame.fails("gate", model, "--threshold", "0.5")
    done = subprocess.run(
        [sys.executable, "-m", "closesesame", "gate", str(model)], input=b"", capture_output=True, check=False
    )
    assert done.returncode == 2
    assert done.stderr == (
        b"sesame: standard input holds no samples; send 16-bit samples, little-endian, of one channel and "
        b"without a header, or name files\n"
    )


Idle = dict[str, tuple[tuple[str, ...], str]]
IDLE: Idle = {
    "settings of no method": (("--set", "mixtures=3"), "--set is of a method: name --method, too"),
    "settings of a purifier": (
        ("--purifier", "p", "--set", "mixtures=3"),
        "--set is of a method: name --method, too",
    ),
    "clean clips without a score": (("--clean", "c"), "--clean is for a score: name --purifier or --method"),
    "a rate without clean clips": (("--purifier", "p", "--fpr", "0.1"), "name recordings with --clean, too"),
    "a rate and a threshold": (
        ("--purifier", "p", "--clean", "c", "--fpr", "0.1", "--threshold", "1"),
        "--threshold names one; leave out one of them",
    ),
    "clean clips and a threshold": (
        ("--purifier", "p", "--clean", "c", "--threshold", "1"),
        "--threshold names one; leave out one of them",
    ),
    "a threshold that no disagreement exceeds": (
        ("--purifier", "p", "--threshold", "1"),
        "answers with and without a purifier differ by 1 at most, and --threshold is 1.0",
    ),
    "a sample rate of files": (("a.wav", "--sample-rate", "8000"), "--sample-rate is of standard input"),
}


@pytest.mark.parametrize("name", IDLE)
def test_options_that_would_have_no_effect_are_refused(name: str, sesame: Sesame) -> None:
    words, said = IDLE[name]
    assert said in sesame.fails("gate", "model", *words)


def test_a_rate_for_a_method_that_reads_no_clean_clips_is_refused(
    sesame: Sesame, model: Path, clips: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(DETECTIONS["strip"], "needs_clean", False)
    with pytest.raises(SystemExit):
        sesame("gate", model, "--method", "strip", "--clean", clips, "--fpr", "0.1")
    error = sesame.capture.readouterr().err
    assert "sesame: strip reads no clean recordings to find a threshold with; leave out --fpr" in error


# Standard input

Pipe = Callable[..., None]


@pytest.fixture
def piped(monkeypatch: pytest.MonkeyPatch) -> Iterator[Pipe]:
    """Makes bytes standard input, read at most `size` at a time."""
    with ExitStack() as opened:

        def pipe(content: bytes, size: int = verb.BLOCK_BYTES) -> None:
            end, start = os.pipe()
            monkeypatch.setattr(sys, "stdin", opened.enter_context(os.fdopen(end, "rb")))
            os.write(start, content)
            os.close(start)
            monkeypatch.setattr(verb, "BLOCK_BYTES", size)

        yield pipe


@pytest.mark.parametrize("size", [1, 2, 3, 5, 7, 100])
def test_samples_are_16_bits_little_endian_in_blocks_of_any_length(piped: Pipe, size: int) -> None:
    numbers = [1, -2, 256, 2**15 - 1, -(2**15), 77, 12_345]
    piped(b"".join(one.to_bytes(2, "little", signed=True) for one in numbers), size)
    blocks = list(verb._pcm())
    assert [float(one) for block in blocks for one in block] == [one / 2**15 for one in numbers]


def test_one_sample_is_heard(piped: Pipe) -> None:
    piped(b"\x00\x40")
    assert np.concatenate(list(verb._pcm())).tolist() == [0.5]


@pytest.mark.parametrize("rate_hz", [8000, 44_100])
def test_all_of_the_input_is_resampled(rate_hz: int) -> None:
    time = np.arange(rate_hz) / rate_hz
    sound = np.sin(2 * np.pi * 300 * time).astype(np.float32)
    found = np.concatenate(list(verb._resampled(np.array_split(sound, 13), rate_hz, 16_000)))
    assert abs(len(found) - 16_000) <= 1
    expected = np.sin(2 * np.pi * 300 * np.arange(len(found)) / 16_000)
    assert np.abs(found - expected)[200:-200].max() < 0.01


@pytest.mark.parametrize("head", verb.FILES)
def test_a_file_of_sound_is_not_heard_as_samples(
    head: bytes, sesame: Sesame, model: Path, piped: Pipe
) -> None:
    piped(head + bytes(9000), 1 if head == b"RIFF" else 100)
    said = sesame.fails("gate", model)
    assert "standard input is a file of sound, and raw samples are read; send 16-bit samples" in said
    assert "arecord -t raw -f S16_LE" in said


def test_a_note_says_how_fast_the_decisions_were(
    sesame: Sesame, model: Path, piped: Pipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    decide = Gate._decide
    monkeypatch.setattr(Gate, "_decide", lambda *of: dataclasses.replace(decide(*of), seconds=0.3))
    piped(bytes(12_000))  # 0.75 s at 8 kHz: two windows of 0.5 s, and silence behind them
    assert len(sesame("gate", model).splitlines()) == 2
    assert "note: 0.8 s in 2 windows; computing took 0.800 of that time" in sesame.noted
    assert "within a sample" not in sesame.noted


def test_a_note_says_that_the_input_ends_within_a_sample(sesame: Sesame, model: Path, piped: Pipe) -> None:
    piped(bytes(8001), 100)
    assert len(sesame("gate", model).splitlines()) == 1
    assert "note: standard input ends within a sample; 16-bit samples, little-endian" in sesame.noted


def test_a_folder_is_refused_before_a_recording_is_judged(
    sesame: Sesame, model: Path, clips: Path, tmp_path: Path
) -> None:
    clip = next(clips.rglob("*.wav"))
    said = sesame.fails("gate", model, clip, tmp_path)
    assert said == f"sesame: {tmp_path} is a folder; name the recordings in it\n"


def test_all_files_are_looked_for_before_one_is_judged(sesame: Sesame, model: Path, tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", np.zeros(4000), 8000)
    said = sesame.fails("gate", model, tmp_path / "a.wav", tmp_path / "b.wav", "--json")
    assert "b.wav is not there; check its name" in said
    assert "start_s" not in said


def test_long_recordings_are_watched_in_part_and_clean_windows_exceed_the_threshold_at_1_percent(
    sesame: Sesame, model: Path, purifier: Path, clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("closesesame.audio.files.LONGEST_S", 1.0)
    soundfile.write(tmp_path / "a.wav", np.zeros(12_000), 8000)
    by_clean, rates = flagging.by_clean, list[float]()

    def noted(clean: Tensor, rate: float) -> flagging.Flagging:
        rates.append(rate)
        return by_clean(clean, 0.1)  # 99 clips would be needed for fewer

    monkeypatch.setattr(flagging, "by_clean", noted)
    rows = sesame("gate", model, tmp_path / "a.wav", "--purifier", purifier, "--clean", clips, "--json")
    assert [json.loads(row)["start_s"] for row in rows.splitlines()] == [0, 0.5]
    assert "a.wav is watched to 1 s only; send longer input to standard input" in sesame.noted
    assert rates == [0.01]


def test_the_threshold_is_of_clean_clips_that_the_method_did_not_see(
    sesame: Sesame, model: Path, clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    soundfile.write(tmp_path / "a.wav", 0.1 * np.random.default_rng(0).standard_normal(4000), 8000)
    score, by_clean = Detection.score, flagging.by_clean
    calls: list[tuple[set[str], set[str]]] = []
    counts: list[int] = []

    def watched(self: Detection, model: Classifier, examples: Dataset, clean: Any, seed: int) -> Suspicion:
        calls.append((set(examples.ids), set(clean.ids)))
        return score(self, model, examples, clean, seed)

    def counting(clean: Tensor, rate: float) -> flagging.Flagging:
        counts.append(len(clean))
        return by_clean(clean, rate)

    monkeypatch.setattr(Detection, "score", watched)
    monkeypatch.setattr(flagging, "by_clean", counting)
    words = ("gate", model, tmp_path / "a.wav", "--method", "strip", "--set", "mixtures=3")
    sesame(*words, "--clean", clips, "--clean-part", "all", "--fpr", "0.2")
    (beside, seen), *windows = calls
    assert len(windows) == 1
    assert not beside & seen
    assert len(beside | seen) == 96
    assert counts == [len(beside)]
