"""The command line on real files: each command, its JSON, and its one-sentence errors."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

from closesesame.evaluation import der
from tests.commands import FAST, WIDTHS, Sesame


def test_the_main_job_by_command_line(sesame: Sesame, folder_of: Callable[..., Path], tmp_path: Path) -> None:
    words = folder_of({"<script>": 48, "yes": 48, "no": 48})
    found = sesame.json("data", words, *FAST)
    assert [row["train"] for row in found["classes"]] == [40, 40, 40]
    assert found["parts"][2]["speakers"] == 1

    poisoned = sesame.json(
        "poison",
        words,
        tmp_path / "p",
        *FAST,
        "--attack",
        "ultrasonic",
        "--set",
        "rate=0.2",
        "--set",
        "target=yes",
        "--set",
        "level_dbfs=-20",
    )
    assert poisoned["poisoned_clips"] == 24
    assert poisoned["target"] == "yes"
    trigger = poisoned["trigger"]

    training = ("--set", "epochs=12", "--set", "batch_size=16", "--set", "lr=0.01", *WIDTHS)
    victim = sesame.json("train", tmp_path / "p", tmp_path / "victim", *FAST, *training)
    assert victim["acc"]["of"] == 12
    assert sesame.json("train", words, tmp_path / "twin", *FAST, *training)["acc"]["value"] > 0.8

    scores = sesame.json(
        "evaluate", tmp_path / "victim", words, "--trigger", trigger, "--reference", tmp_path / "twin"
    )
    assert scores["asr"]["value"] > 0.7
    assert scores["ra_reference"]["of"] == 8
    assert scores["stealth"]["changed"] == scores["stealth"]["clips"] == 8
    assert -10 < scores["stealth"]["snr_db"] < 10

    repair = sesame.json(
        "remove",
        tmp_path / "victim",
        tmp_path / "repaired",
        "--clean",
        words,
        "--method",
        "ft_augmented",
        "--set",
        "steps=60",
        "--seed",
        "1",
    )
    assert "cannot show that a backdoor is gone" in repair["warning"]
    assert repair["tuned_on"] + repair["held_out"] == 120
    assert "harm" not in repair
    untrained = ("--method", "scratch", "--set", "steps=0")
    harmed = sesame.json("remove", tmp_path / "victim", tmp_path / "worse", "--clean", words, *untrained)
    lost = round((harmed["acc_before"] - harmed["acc_after"]) * harmed["held_out"])
    assert lost > 1
    assert f"turned {lost} of {harmed['held_out']} held-out clips wrong" in harmed["harm"]

    page = tmp_path / "page.html"
    sesame(
        "report",
        words,
        page,
        "--before",
        tmp_path / "victim",
        "--after",
        tmp_path / "repaired",
        "--trigger",
        trigger,
    )
    html = page.read_text()
    assert "&lt;script&gt;" in html
    assert "<script>" not in html
    assert "log-spectral distance" in html
    judged = [
        sesame.json("evaluate", tmp_path / name, words, "--trigger", trigger, *more)
        for name, more in (("victim", ()), ("repaired", ()), ("repaired", ("--before", tmp_path / "victim")))
    ]
    before, after = ([found[rate]["value"] for rate in ("acc", "asr")] for found in judged[:2])
    assert judged[2]["der"] == der(*before, *after)
    assert before != after
    assert [found["der"] for found in judged[:2]] == [None, None]
    out = sesame(
        "evaluate", tmp_path / "repaired", words, "--trigger", trigger, "--before", tmp_path / "victim"
    )
    assert "DER" in out
    assert f"change by the trigger: SNR {scores['stealth']['snr_db']:.1f} dB, log-spectral" in out


def test_list_has_the_documented_form(sesame: Sesame) -> None:
    rows = sesame.json("list")
    assert all({"family", "name", "cite", "claims"} <= set(row) for row in rows)
    assert "ft_augmented" in sesame("list", "removals")


def test_the_list_of_one_family_shows_its_claims(sesame: Sesame, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    lines = sesame("list", "attack").splitlines()
    columns = ["name", "paper", "clean-label", "needs", "audible", "what"]
    assert [word.strip() for word in lines[1].strip("┃").split("┃")] == columns
    (row,) = [line for line in lines if line.startswith("│ badnets ")]
    cells = [cell.strip() for cell in row.strip("│").split("│")]
    assert cells[:5] == ["badnets", "arXiv:1708.06733", "no", "nothing", "a sound in the background"]
    assert cells[5].startswith("Mix a sound")
    assert next(line for line in lines if line.startswith("│ sig ")).split("│")[3].strip() == "yes"
    removals = sesame("list", "removal").splitlines()
    heads = [word.strip() for word in removals[1].strip("┃").split("┃")]
    assert (heads[:2], heads[-1]) == (["name", "paper"], "what")
    assert "data-free" in heads
    models = sesame("list", "model")
    assert "parameters of paper" in models
    assert "419946" in models
    assert "family" in sesame("list").splitlines()[1]
    # In a narrow terminal a table of six columns cannot be read.
    monkeypatch.setenv("COLUMNS", "60")
    narrow = sesame("list", "attack").splitlines()
    start = narrow.index("badnets")
    assert [line.strip() for line in narrow[start + 1 : start + 5]] == [
        "paper: arXiv:1708.06733",
        "clean-label: no",
        "needs: nothing",
        "audible: a sound in the background",
    ]
    assert sesame.json("list", "attack")[0].keys() == {"family", "name", "cite", "claims", "what"}


def test_a_catalogue_by_command_line(sesame: Sesame, folder_of: Callable[..., Path], tmp_path: Path) -> None:
    words = folder_of({"<no>": 24, "yes": 24})
    only = ("--attack", "ultrasonic", "--attack", "tests.test_catalogue:Broken")
    found = sesame.json("catalogue", tmp_path / "out", "--data", words, *FAST, *only)
    assert found["index"] == str(tmp_path / "out" / "index.html")
    first, second = found["attacks"]
    assert (first["attack"], first["page"]) == ("ultrasonic", str(tmp_path / "out" / "ultrasonic.html"))
    assert first["stealth"]["clips"] > 0
    assert first["problem"] is None
    assert second["problem"] == "a door bell is missing; record one"
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        "index.html",
        "ultrasonic.html",
        "broken.html",
    }
    assert "recordings of set" in (tmp_path / "out" / "index.html").read_text()
    assert "exists and is not empty" in sesame.fails(
        "catalogue", tmp_path / "out", "--data", words, *FAST, *only
    )
    said = sesame.fails("catalogue", tmp_path / "new", "--data", words, *FAST, "--attack", "badnet")
    assert "did you mean 'badnets'" in said
    assert not (tmp_path / "new").exists()
    out = sesame("catalogue", tmp_path / "new", "--data", words, *FAST, *only)
    assert out.splitlines()[1] == "broken: a door bell is missing; record one"


def test_help_names_every_command(sesame: Sesame) -> None:
    out = sesame("--help")
    assert all(
        name in out for name in ("demo", "data", "poison", "train", "evaluate", "remove", "report", "list")
    )
    for name in ("demo", "data", "poison", "train", "evaluate", "remove", "report", "list", "catalogue"):
        assert "--json" in sesame(name, "--help")


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("posion",), "Did you mean"),
        (("list", "atacks"), "no family is called 'atacks'"),
        (("poison", "nowhere", "x"), "nowhere is not a folder"),
        (("poison", "nowhere", "x", "--attack", "badnet"), "did you mean 'badnets'"),
        (("poison", "nowhere", "x", "--set", "rate=2"), "BadNets.rate must be <= 1"),
        (("poison", "nowhere", "x", "--set", "rate"), "--set takes FIELD=VALUE"),
        (
            ("train", "nowhere", "x", "--set", "epoch=1"),
            "neither Training nor ResNet has a setting 'epoch'; known are augmentation, bands, batch_size,",
        ),
        (("train", "nowhere", "x", "--set", "epoch=1"), "widths; did you mean 'epochs'?"),
        (("train", "nowhere", "x", "--untrusted", "--set", "bar_tld=0"), "did you mean 'bar_told'?"),
        (
            ("train", "nowhere", "x", "--method", "dlp", "--model", "kwt", "--set", "stags=SL"),
            "neither DLP, Training nor KWT has a setting 'stags'; known are",
        ),
        (("train", "nowhere", "x", "--method", "dlp", "--set", "stags=SL"), "did you mean 'stages'?"),
        (("train", "nowhere", "x", "--method", "dlp", "--set", "with=8"), "did you mean 'widths'?"),
        (("evaluate", "nowhere", "data"), "nowhere is not there; a model is a folder"),
        (("remove", "nowhere", "x", "--clean", "y"), "nowhere is not there; a model is a folder"),
        (("remove", "nowhere", "x"), "nowhere is not there; a model is a folder"),
        (("remove", "nowhere", "x", "--method", "ft"), "ft needs clean recordings: name them with --clean"),
    ],
)
def test_errors_are_one_sentence_and_exit_2(
    sesame: Sesame, words: tuple[str, ...], sentence: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert sentence in sesame.fails(*words)
    assert list(tmp_path.iterdir()) == []


def test_a_bad_recording_stops_poisoning_and_leaves_nothing(
    sesame: Sesame, folder_of: Callable[..., Path], tmp_path: Path
) -> None:
    words = folder_of({"no": 24, "yes": 24})
    soundfile.write(words / "yes" / "x.flac", np.sin(np.arange(40_000.0) ** 1.3), 8000)
    whole = (words / "yes" / "x.flac").read_bytes()
    (words / "yes" / "x.flac").write_bytes(whole[:600])
    assert "x.flac" in sesame.fails("poison", words, tmp_path / "out", *FAST)
    assert [path.name for path in tmp_path.iterdir()] == ["set"]
    (words / "yes" / "x.flac").rename(words / "yes" / "evil\x1b[31m\nname.flac")
    error = sesame.fails("data", words, *FAST)
    assert "\x1b" not in error


def test_an_output_folder_in_use_is_refused(
    sesame: Sesame, folder_of: Callable[..., Path], tmp_path: Path
) -> None:
    words = folder_of({"no": 24, "yes": 24})
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.txt").write_text("years of work")
    assert "exists and is not empty" in sesame.fails("poison", words, tmp_path / "out", *FAST)
    assert (tmp_path / "out" / "thesis.txt").read_text() == "years of work"


def test_the_installed_command_exits_with_2() -> None:
    command = Path(sys.executable).with_name("sesame")
    done = subprocess.run([command, "list", "x"], check=False, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("sesame: no family is called 'x'")
