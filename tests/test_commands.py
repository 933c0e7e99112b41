"""What a user may type, and what a file or a terminal may do, by command line: one sentence, nothing lost."""

import io
import json
import os
import shlex
import shutil
import subprocess
import sys
from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from safetensors.torch import load_file, save_file

from closesesame import cli
from closesesame.attacks import BadNets
from closesesame.cli.inputs import source_for
from closesesame.cli.options import SplitOptions
from closesesame.cli.printing import Answer
from closesesame.data import Splits
from closesesame.models import load_model
from tests.commands import FAST, WIDTHS, FolderOf, Sesame

SESAME = str(Path(sys.executable).with_name("sesame"))
QUICK = ("--set", "epochs=1", *WIDTHS)


def test_old_options_say_what_to_use(sesame: Sesame, clips: Path) -> None:
    assert "--rate is called --sample-rate (Hz); the poisoning rate is" in sesame.fails(
        "poison", clips, "out", "--rate", "0.05"
    )
    assert "--duration is called --duration-s" in sesame.fails("data", clips, "--duration=2")


@pytest.mark.parametrize(
    "words",
    [
        ("--sample-rate", "100000000"),
        ("--sample-rate", "0"),
        ("--sample-rate", "-8000"),
        ("--duration-s", "-1"),
        ("--duration-s", "0"),
        ("--duration-s", "1e9"),
        ("--duration-s", "nan"),
        ("--duration-s", "inf"),
        ("--seed", "-1"),
        ("--seed", "99999999999999999999"),
    ],
)
def test_numbers_that_nobody_means_are_refused_before_anything_is_made(
    words: tuple[str, str], sesame: Sesame, clips: Path, tmp_path: Path
) -> None:
    before = sorted(tmp_path.iterdir())
    for command in (("data", clips), ("poison", clips, tmp_path / "o"), ("train", clips, tmp_path / "o")):
        assert words[0] in sesame.fails(*command, *words)
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize("share", ["0", "-0.1", "1.01", "nan"])
def test_a_share_is_between_none_and_all(share: str, sesame: Sesame, model: Path, clips: Path) -> None:
    assert "--fraction" in sesame.fails("remove", model, "o", "--clean", clips, "--fraction", share)


def test_no_command_replaces_what_is_there(
    sesame: Sesame, model: Path, clips: Path, tones: Splits, tmp_path: Path
) -> None:
    BadNets().trigger(tones.train, 0).save(tmp_path / "t")
    (tmp_path / "file").write_text("years of work")
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "thesis.txt").write_text("years of work")
    kept = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    commands = (
        ("data", clips, *FAST, "--out"),
        ("poison", clips, *FAST),
        ("train", clips, *FAST, *QUICK),
        ("remove", model, "--clean", clips),
        ("catalogue", "--data", clips, "--attack", "badnets"),
        ("demo",),
        ("report", clips, "--before", model, "--trigger", tmp_path / "t"),
    )
    for command in commands:
        for out in (mine, tmp_path / "file", model, clips):
            assert "; choose " in sesame.fails(*command, out)
            if (command[0], out) not in (("report", tmp_path / "file"), ("train", model)):  # given up
                assert "choose " in sesame.fails(*command, out, "--force")
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == kept


def test_force_spares_a_folder_in_which_somebody_put_more(
    sesame: Sesame, clips: Path, tmp_path: Path
) -> None:
    sesame("poison", clips, tmp_path / "p", *FAST)
    for name in ("notes.txt", "low/mine.wav"):
        (tmp_path / "p" / name).write_text("mine")
        error = sesame.fails("poison", clips, tmp_path / "p", *FAST, "--force")
        assert "holds something else than this command makes" in error
        (tmp_path / "p" / name).unlink()
    sesame("poison", clips, tmp_path / "p", *FAST, "--force")


def test_force_replaces_what_the_same_command_made(
    sesame: Sesame, model: Path, clips: Path, tmp_path: Path
) -> None:
    remove = ("remove", model, tmp_path / "r", "--clean", clips, "--set", "steps=1")
    sesame(*remove)
    first = load_model(tmp_path / "r").card.made["date"]
    assert "r exists and is not empty" in sesame.fails(*remove)
    sesame(*remove, "--force")
    assert load_model(tmp_path / "r").card.made["date"] >= first
    poison = ("poison", clips, tmp_path / "p", *FAST)
    sesame(*poison)
    sesame(*poison, "--force", "--attack", "ultrasonic")
    assert json.loads((tmp_path / "p" / "_trigger" / "trigger.json").read_text())["attack"] == "ultrasonic"


def test_a_trained_model_survives_a_full_disk(
    sesame: Sesame, clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.setattr("closesesame.core.disk.tempfile.gettempdir", lambda: str(elsewhere))
    write = Path.write_bytes

    def full(path: Path, content: bytes) -> int:
        if not path.is_relative_to(elsewhere):
            raise OSError(28, "No space left on device", str(path))
        return write(path, content)

    monkeypatch.setattr(Path, "write_bytes", full)
    error = sesame.fails("train", clips, tmp_path / "m", *FAST, *QUICK)
    assert "could not be written (No space left on device); what was computed is kept in" in error
    monkeypatch.undo()
    assert load_model(error.partition("kept in ")[2].partition(", move")[0]).card.classes[0] == "high"
    assert not (tmp_path / "m").exists()


def test_half_of_the_classes_are_refused_or_accepted_in_words(
    sesame: Sesame, model: Path, clips: Path, tmp_path: Path
) -> None:
    two = tmp_path / "two"
    for name in ("low", "middle"):
        shutil.copytree(clips / name, two / name)
    remove = ("remove", model, tmp_path / "r", "--clean", two, "--set", "steps=1")
    error = sesame.fails(*remove)
    assert "no example of 2 of 4 classes ('high', 'top')" in error
    assert "--partial" in error
    found = sesame.json(*remove, "--partial")
    assert found["classes_without_clean_clips"] == ["high", "top"]


def test_a_data_free_method_needs_no_clips(sesame: Sesame, model: Path, tmp_path: Path) -> None:
    assert sesame.json("remove", model, tmp_path / "r", "--method", "clp")["tuned_on"] == 0
    assert "ft needs clean recordings: name them with --clean" in sesame.fails(
        "remove", model, tmp_path / "q", "--method", "ft"
    )


def test_predict_says_label_and_probability(
    sesame: Sesame, model: Path, tones: Splits, tmp_path: Path
) -> None:
    sounds = tmp_path / "sounds" / "deep"
    sounds.mkdir(parents=True)
    for row in range(8):
        soundfile.write(sounds / f"{row}.wav", tones.test.inputs[[row]][0].numpy(), 8_000)
    soundfile.write(tmp_path / "long.wav", np.tile(tones.test.inputs[[3]][0].numpy(), 4), 8_000)
    lines = sesame("predict", model, tmp_path / "sounds", tmp_path / "long.wav", "--json").splitlines()
    rows = [json.loads(line) for line in lines]
    expected = [tones.test.classes[int(label)] for label in tones.test.labels[:8]]
    assert [row["label"] for row in rows] == [*expected, "top"]
    assert all(0.5 < row["probability"] <= 1 for row in rows)
    assert all(abs(sum(row["probabilities"].values()) - 1) < 1e-5 for row in rows)
    (sounds / "bad.wav").write_text("no sound")
    (sounds / "worse.flac").write_text("no sound")
    error = sesame.fails("predict", model, sounds)
    assert "2 of 10 recordings cannot be used" in error
    assert all(f"{name} is not readable audio" in error for name in ("bad.wav", "worse.flac"))
    (sounds / "worse.flac").unlink()
    lines = sesame("predict", model, sounds, "--json", "--skip-bad").splitlines()
    assert ["error" in json.loads(line) for line in lines] == [False] * 8 + [True]
    assert "top" in sesame("predict", model, tmp_path / "long.wav")
    assert "nowhere is not there" in sesame.fails("predict", model, "nowhere")


def test_a_broken_answer_names_the_recording(sesame: Sesame, model: Path, clips: Path) -> None:
    state = load_file(model / "model.safetensors")
    name = next(name for name in state if name.endswith("running_var"))
    save_file(state | {name: -state[name] - 1}, model / "model.safetensors")
    assert "answers NaN or infinity to '" in (error := sesame.fails("predict", model, clips / "low"))
    assert ".wav'" in error


def test_the_task_is_remembered(sesame: Sesame, folder_of: FolderOf, tmp_path: Path) -> None:
    words = folder_of({"no": 72, "yes": 72})
    error = sesame.fails("train", words, tmp_path / "m", *FAST, *QUICK, "--task", "speaker")
    assert "it was written to" in error  # what is said of speakers cannot be learnt from these tones
    card = load_model(tmp_path / "m").card
    assert card.made["task"] == "speaker"
    assert card.classes[0] == "s0"
    assert source_for(card, "clips", SplitOptions()).task == "speaker"
    assert source_for(card, "clips", SplitOptions(task="word")).task == "word"
    tasks: list[object] = ["rm -rf", [], {}, None, 1]
    for task in tasks:
        assert source_for(replace(card, made={"task": task}), "clips", SplitOptions()).task == "word"


@pytest.mark.parametrize("how", [(), ("--method", "plain")])
def test_a_model_that_tells_nothing_apart_is_kept_and_the_way_to_replace_it_is_named(
    sesame: Sesame, folder_of: FolderOf, tmp_path: Path, how: tuple[str, ...]
) -> None:
    sesame.patch.setattr("closesesame.evaluation.exam.FEW", 2)
    sesame.patch.setattr("closesesame.evaluation.exam.predict", lambda _, data: torch.zeros(len(data), 2))
    words = ("train", folder_of({"no": 72, "yes": 72}), tmp_path / "m", *FAST, *QUICK, *how)
    said = f"it was written to {tmp_path / 'm'} to be looked at: train longer (--set epochs=...), and replace"
    error = sesame.fails(*words)
    assert "it tells nothing apart" in error
    assert f"{said} it there with --force" in error
    assert load_model(tmp_path / "m").card.made["by"] == "sesame train"
    assert said not in sesame.fails(*words)
    assert said in sesame.fails(*words, "--force")


def test_weights_can_be_read_by_colleagues(model: Path) -> None:
    assert {path.stat().st_mode & 0o777 for path in model.iterdir()} == {0o666 & ~_umask()}


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def test_models_of_the_same_name_stay_apart(
    sesame: Sesame, model: Path, clips: Path, tones: Splits, tmp_path: Path
) -> None:
    BadNets().trigger(tones.train, 0).save(tmp_path / "t")
    for name in ("a", "b"):
        shutil.copytree(model, tmp_path / name / "model")
    found = sesame.json(
        "report", clips, tmp_path / "page.html", "--before", model, "--after", tmp_path / "a" / "model",
        "--after", tmp_path / "b" / "model", "--trigger", tmp_path / "t",
    )  # fmt: skip
    assert list(found["entries"])[1:] == ["a/model", "b/model"]
    assert len({entry["path"] for entry in found["entries"].values()}) == 3
    assert len({entry["sha256"] for entry in found["entries"].values()}) == 1
    assert "given twice" in sesame.fails("report", clips, tmp_path / "q", "--before", model, "--after", model)


def test_a_page_without_a_trigger_says_what_was_not_tested(
    sesame: Sesame, model: Path, clips: Path, tmp_path: Path
) -> None:
    found = sesame.json("report", clips, tmp_path / "page.html", "--before", model)
    assert found["entries"]["model"]["asr"] is None
    assert "No trigger was tested" in (tmp_path / "page.html").read_text()


OWN = '''
from typing import ClassVar
from torch import nn
from closesesame.models import Architecture, SpectralArchitecture

class Half(Architecture):
    """Not written to the end."""

    name: ClassVar[str] = "half"
    cite: ClassVar[str] = "me"

class Net(SpectralArchitecture):
    """Tiny."""

    name: ClassVar[str] = "net"
    cite: ClassVar[str] = "me"

    def body(self, classes, bands, frames):
        return nn.Sequential(nn.Flatten(), nn.Linear(bands * frames, classes))
'''


def test_what_a_model_of_ones_own_wrote_every_command_reads(folder_of: FolderOf, tmp_path: Path) -> None:
    words = folder_of({"no": 24, "yes": 24})
    (tmp_path / "mynet.py").write_text(OWN)

    def run(*words: object) -> subprocess.CompletedProcess[str]:
        command = [SESAME, *map(str, words)]
        return subprocess.run(command, check=False, capture_output=True, text=True, cwd=tmp_path)

    done = run("train", words, "m", "--model", "mynet:Net", "--set", "epochs=1", *FAST)
    assert (done.returncode, done.stderr) == (0, "")
    unfinished = run("train", words, "h", "--model", "mynet:Half", *FAST)
    assert (unfinished.returncode, unfinished.stderr) == (
        2,
        "sesame: model 'mynet:Half' lacks what its base asks for: build\n",
    )
    refused = run("evaluate", "m", words)
    assert refused.returncode == 2
    assert "import 'mynet' first (on the command line: --import mynet)" in refused.stderr
    assert "ACC" in run("evaluate", "m", words, "--import", "mynet").stdout
    assert "ACC" in run("evaluate", "m", words, "--import=mynet").stdout
    wrong = run("evaluate", "m", words, "--import", "yournet")
    assert (wrong.returncode, wrong.stderr.count("\n")) == (2, 1)
    assert "module 'yournet' cannot be imported" in wrong.stderr


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252", "utf-8"])
def test_any_encoding_of_the_output_will_do(encoding: str, folder_of: FolderOf) -> None:
    words = folder_of({"中国": 24, "caf\N{LATIN SMALL LETTER E WITH ACUTE}": 24})
    command = [SESAME, "data", str(words), *FAST]
    for more in ((), ("--json",)):
        done = subprocess.run(
            [*command, *more],
            check=False,
            capture_output=True,
            env=os.environ | {"PYTHONIOENCODING": encoding},
        )
        assert (done.returncode, b"Traceback" in done.stderr) == (0, False)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")
def test_output_that_cannot_be_written_is_one_sentence() -> None:
    command = [SESAME, "list", "--json"]
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(command, check=False, stdout=full, stderr=subprocess.PIPE, text=True)
    assert done.returncode != 0
    assert "Traceback" not in done.stderr
    assert "No space left on device" in done.stderr


def test_a_fault_of_ours_is_one_sentence_and_debug_shows_where(
    sesame: Sesame, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("tensors\ndo not match")

    monkeypatch.setattr("closesesame.listing.describe_methods", fail)
    error = sesame.fails("list")
    assert error.startswith("sesame: RuntimeError: tensors do not match; this is a fault of closesesame")
    monkeypatch.setattr(sys, "argv", ["sesame", "list", "--debug"])
    with pytest.raises(SystemExit):
        cli.run()
    assert "Traceback" in capsys.readouterr().err


def test_memory_that_runs_out_is_told_as_that(sesame: Sesame, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 4 bytes")

    monkeypatch.setattr("closesesame.listing.describe_methods", fail)
    assert "memory ran out" in sesame.fails("list")


def test_a_reader_that_leaves_is_no_error() -> None:
    command = f"{SESAME} list --json | head -1"
    done = subprocess.run(["/bin/sh", "-c", command], check=False, capture_output=True, text=True)
    assert done.stderr == ""


def test_ctrl_c_before_anything_began_is_quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    script = (
        "import os, signal, sys\nimport closesesame.__main__ as program\n"
        "class Late:\n    def find_spec(self, name, path=None, target=None):\n"
        "        if name == 'closesesame.cli': os.kill(os.getpid(), signal.SIGINT)\n"
        "sys.meta_path.insert(0, Late())\nprogram.main()"
    )
    done = subprocess.run([sys.executable, "-c", script], check=False, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (130, "")


def test_the_device_must_be_there(sesame: Sesame, model: Path, clips: Path) -> None:
    assert "--device must be cpu" in sesame.fails("evaluate", model, clips, "--device", "abacus")
    assert "--device must be cpu" in sesame.fails("evaluate", model, clips, "--device", "meta")


def test_json_holds_no_infinity(sesame: Sesame, monkeypatch: pytest.MonkeyPatch) -> None:
    text = io.StringIO()
    monkeypatch.setattr(sys, "stdout", text)
    Answer({"a": [float("inf"), float("nan"), 1.5]}).print(as_json=True)
    assert json.loads(text.getvalue()) == {"a": [None, None, 1.5]}


@pytest.mark.parametrize("columns", [40, 60, 80, 120, 200])
def test_every_width_shows_every_class_on_one_row(
    columns: int, sesame: Sesame, folder_of: FolderOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = [f"word number {number:02}" for number in range(30)]
    words = folder_of(dict.fromkeys(names, 12))
    monkeypatch.setenv("COLUMNS", str(columns))
    lines = sesame("data", words, *FAST).splitlines()
    assert max(map(len, lines)) <= columns
    for name in names:
        assert sum(name in line for line in lines) == 1


def test_weights_with_the_prefixes_of_others_are_loaded(sesame: Sesame, model: Path, clips: Path) -> None:
    expected = sesame.json("evaluate", model, clips)
    state = load_file(model / "model.safetensors")
    for rename in (
        lambda name: f"module.{name}",
        lambda name: f"_orig_mod.{name}",
        lambda name: f"module._orig_mod.{name}",
        lambda name: name.replace("body.", "body._orig_mod."),
    ):
        save_file({rename(name): value for name, value in state.items()}, model / "model.safetensors")
        found = sesame.json("evaluate", model, clips)
        assert {**found, "model": 0} == {**expected, "model": 0}
    save_file({f"net.{name}": value for name, value in state.items()}, model / "model.safetensors")
    error = sesame.fails("evaluate", model, clips)
    assert "does not fit its config.json: it lacks 'body.blocks.0.conv1.weight'" in error
    assert len(error) < 600


@pytest.mark.parametrize("closed", ["1", "2"])
def test_closed_streams_end_no_command(closed: str, model: Path, clips: Path, tmp_path: Path) -> None:
    def run(*words: object) -> int:
        typed = shlex.join([SESAME, *map(str, words)])
        return subprocess.run(["/bin/sh", "-c", f"{typed} {closed}>&-"], check=False).returncode

    assert run("poison", clips, tmp_path / "p", *FAST) == 0
    assert (tmp_path / "p" / "manifest.csv").is_file()
    assert run("data", "nowhere") == 2


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("data", ""), "one of the words of the command is empty"),
        (("data", "synthetic", "--task", "speaker"), "'synthetic' has words for labels"),
        (("data", "synthetic", "--split", "random"), "'synthetic' has words for labels"),
        (("data", "{clips}", "more"), "'more' is more than the command takes"),
        (("data", "{sets}"), "holds data sets, not classes (one with lists of their own); name one of them"),
        (("evaluate", "{model}", "{clips}", "--reference", "{model}"), "name a trigger with --trigger, too"),
        (("evaluate", "{model}", "{clips}", "--trigger", "{poisoned}"), "_trigger is one"),
        (("evaluate", "{model}", "{clips}", "--device", "cpu:5"), "--device must be"),
    ],
)
def test_what_is_meant_otherwise_is_said(
    words: tuple[str, ...], sentence: str, sesame: Sesame, model: Path, clips: Path, tmp_path: Path
) -> None:
    (tmp_path / "sets").mkdir()
    shutil.copytree(clips, tmp_path / "sets" / "one")
    (tmp_path / "sets" / "one" / "testing_list.txt").touch()
    (tmp_path / "poisoned" / "_trigger").mkdir(parents=True)
    places = {"clips": clips, "model": model, "sets": tmp_path / "sets", "poisoned": tmp_path / "poisoned"}
    assert sentence in sesame.fails(*(word.format(**places) for word in words))


def test_repairing_with_the_test_part_is_said(
    sesame: Sesame, model: Path, clips: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for number, part in enumerate(("test", "all", "train")):
        words = ("remove", model, tmp_path / str(number), "--clean", clips, "--clean-part", part, "--partial")
        monkey = ["sesame", *map(str, words), "--set", "steps=1"]
        sesame.patch.setattr(sys, "argv", monkey)
        cli.run()
        assert ("used the test part" in capsys.readouterr().err) == (part != "train")


def test_a_set_in_which_nothing_was_poisoned_is_said(
    sesame: Sesame, clips: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    typed = ["sesame", "poison", str(clips), str(tmp_path / "p"), *FAST, "--set", "rate=0"]
    sesame.patch.setattr(sys, "argv", typed)
    cli.run()
    assert "no clip was poisoned: 0 of" in capsys.readouterr().err


def test_an_answer_to_something_odd_is_remarked_upon(
    sesame: Sesame, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rng = np.random.default_rng(0)
    noise = 0.1 * rng.standard_normal(4000)
    odd = {
        "good": (noise, 8000),
        "silent": (0 * noise, 8000),
        "long": (np.tile(noise, 3), 8000),
        "short": (noise[:50], 8000),
        "cancelled": (np.stack([noise, -noise], 1), 8000),
        "slow": (noise[:2000], 4000),
    }
    (tmp_path / "odd").mkdir()
    for name, (sound, rate) in odd.items():
        soundfile.write(tmp_path / "odd" / f"{name}.wav", sound, rate)
    (tmp_path / "odd" / "x.m4a").touch()
    sesame.patch.setattr(sys, "argv", ["sesame", "predict", str(model), str(tmp_path / "odd"), "--json"])
    cli.run()
    out, said = capsys.readouterr()
    remarks = {Path(row["file"]).stem: row["remarks"] for row in map(json.loads, out.splitlines())}
    assert remarks == {
        "good": [],
        "silent": ["silent"],
        "long": ["longer than the 0.5 s that the model hears"],
        "short": ["shorter than half of the 0.5 s that the model hears"],
        "cancelled": ["silent, since its channels cancel out"],
        "slow": ["recorded at less than the 8,000 Hz of the model"],
    }
    assert all(remark in said for found in remarks.values() for remark in found)
    assert "not read" in said
    assert "x.m4a" in said


def test_a_poisoned_set_is_no_clean_one(sesame: Sesame, model: Path, clips: Path, tmp_path: Path) -> None:
    sesame("poison", clips, tmp_path / "p", *FAST)
    for part, name in product(("train", "all"), ("", "manifest.csv")):
        error = sesame.fails(
            "remove", model, tmp_path / "r", "--clean", tmp_path / "p" / name, "--clean-part", part
        )
        assert "holds clips that 'sesame poison' poisoned" in error
    clean = ("--clean", tmp_path / "p", "--clean-part", "validation")
    sesame("remove", model, tmp_path / "r", *clean, "--set", "steps=1")


def test_a_sound_that_is_read_is_an_input(sesame: Sesame, clips: Path, tmp_path: Path) -> None:
    sesame("poison", clips, tmp_path / "p", *FAST)
    sound = next((tmp_path / "p" / "low").iterdir())
    error = sesame.fails("poison", clips, tmp_path / "p", *FAST, "--force", "--set", f"sound={sound}")
    assert "which is read" in error
    assert sound.is_file()


def test_a_module_that_ends_the_program_is_one_sentence(sesame: Sesame, tmp_path: Path) -> None:
    (tmp_path / "leaves.py").write_text("import sys; sys.exit(3)")
    sesame.patch.chdir(tmp_path)
    sesame.patch.syspath_prepend(tmp_path)
    assert "module 'leaves' cannot be imported (SystemExit: 3)" in sesame.fails("list", "--import", "leaves")
