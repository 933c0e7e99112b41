"""The commands of inspection, purification and robust training; that of detection has a file of its own."""

import json
from pathlib import Path
from typing import Any, ClassVar

import pytest
import soundfile
import torch
from safetensors.torch import load_file

from closesesame.data import Dataset, Splits
from closesesame.evaluation import Exam
from closesesame.inspection import Inspection, Verdict
from closesesame.models import Architecture, Classifier, load_model
from closesesame.models.files import sha256_of
from closesesame.purification import Lowpass
from closesesame.purification.files import load_purifier
from closesesame.robust_training import Plain, RobustTraining, Safe, Watch
from closesesame.training import train
from tests.commands import FAST, WIDTHS, FolderOf, Sesame

HERE = __name__


# --- inspect --------------------------------------------------------------------------------------------


class Says(Inspection):
    """Say what the settings say."""

    name: ClassVar[str] = "says"
    cite: ClassVar[str] = "none"
    data_free: ClassVar[bool] = True
    alarm: bool = True
    target: str | None = None

    def judge(self, model: Classifier, clean: Dataset, seed: int) -> Verdict:
        """With the number of clean clips as a statistic."""
        statistics = dict.fromkeys(model.card.classes, 0.0) | {"high": float(len(clean))}
        return Verdict(
            backdoored=self.alarm, target=self.target, statistics=statistics, compared="this", threshold=0.5
        )


class Asks(Says):
    """Ask for clean clips."""

    name: ClassVar[str] = "asks"
    data_free: ClassVar[bool] = False


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        (("--set", "target=top"), "verdict: the model looks backdoored, and its target label is 'top'"),
        ((), "verdict: the model looks backdoored; the method does not name the target label"),
        (("--set", "alarm=false"), "verdict: no backdoor was found; that does not prove that there is none"),
    ],
)
def test_a_verdict_is_said_in_words_first(
    settings: tuple[str, ...], sentence: str, sesame: Sesame, model: Path
) -> None:
    lines = sesame("inspect", model, "--method", f"{HERE}:Says", *settings).splitlines()
    assert lines[0] == sentence
    assert lines[1:4] == ["compared: this", "alarm at: 0.5", "p: not known by this method"]


def test_an_inspection_gets_the_clean_clips_that_were_named(
    sesame: Sesame, model: Path, clips: Path, poisoned: Path
) -> None:
    asks = ("inspect", model, "--method", f"{HERE}:Asks")
    assert "needs clean recordings: name them with --clean" in sesame.fails(*asks)
    assert "that 'sesame poison' poisoned" in sesame.fails(*asks, "--clean", poisoned)
    half = sesame.json(*asks, "--clean", clips, "--fraction", "0.5")["statistics"]["high"]
    whole = sesame.json(*asks, "--clean", clips)["statistics"]["high"]
    assert 0 < half < whole
    shown = sesame(*asks, "--clean", clips).splitlines()
    (first,) = [number for number, line in enumerate(shown) if "high" in line]
    assert all(number > first for number, line in enumerate(shown) if "low" in line)


class Looks(Asks):
    """Refuse to be shown a clean clip, as a method without data never is."""

    name: ClassVar[str] = "looks"
    data_free: ClassVar[bool] = True


def test_clean_clips_that_a_method_does_not_look_at_are_not_read(
    sesame: Sesame, model: Path, clips: Path, poisoned: Path, tmp_path: Path
) -> None:
    nowhere = tmp_path / "nowhere"
    note = "does not look at clean recordings; those of --clean are not read"
    found = sesame.json("inspect", model, "--method", f"{HERE}:Looks", "--clean", nowhere)
    assert found["statistics"]["high"] == 0
    assert sesame.noted == f"note: {HERE}:Looks {note}\n"
    sesame(
        *("screen", clips, tmp_path / "s", "--model", model, "--method", "training_loss"),
        *("--flag", "0.1", "--clean", nowhere),
    )
    assert f"training_loss {note}" in sesame.noted
    words = ("train", clips, tmp_path / "m", *FAST, *WIDTHS, "--set", "epochs=1", "--clean", nowhere)
    sesame(*words)
    assert f"ordinary training {note}" in sesame.noted
    sesame(*words, "--method", "plain", "--force")
    assert f"plain {note}" in sesame.noted


def test_missing_classes_are_told_in_the_words_of_the_family(
    sesame: Sesame, model: Path, folder_of: FolderOf
) -> None:
    words = ("inspect", model, "--method", f"{HERE}:Asks", "--clean", folder_of({"low": 24, "high": 24}))
    error = sesame.fails(*words)
    assert "the clean set has no example of 2 of 4 classes ('middle', 'top'): a backdoor that shows" in error
    assert "--partial" in error
    assert "repair" not in error
    sesame(*words, "--partial")
    assert "no example of 2 of 4 classes" in sesame.noted


def test_the_part_of_the_clean_clips_is_named_alike_by_all_commands(
    sesame: Sesame, model: Path, clips: Path, tmp_path: Path
) -> None:
    rows = sesame.json("data", clips, *FAST)["parts"]
    asks = ("inspect", model, "--method", f"{HERE}:Asks", "--clean", clips)
    remove = ("remove", model, tmp_path / "r", "--force", "--set", "steps=1", "--clean", clips)
    for row in rows:
        part = ("--clean-part", row["part"])
        assert sesame.json(*asks, *part)["statistics"]["high"] == row["clips"]
        found = sesame.json(*remove, *part)
        assert found["tuned_on"] + found["held_out"] == row["clips"]


def test_the_inspection_of_a_paper_answers_with_its_p_value(sesame: Sesame, model: Path) -> None:
    found = sesame.json("inspect", model, "--set", "starts=3", "--set", "steps=3")
    assert set(found["statistics"]) == {"low", "middle", "high", "top"}
    assert 0 <= found["p_value"] <= 1
    assert found["backdoored"] == (found["p_value"] < found["threshold"] == 0.05)
    assert found["settings"]["starts"] == 3
    assert found["model"]["path"] == str(model)


# --- purify ---------------------------------------------------------------------------------------------


def test_a_purifier_stands_before_the_model(
    sesame: Sesame, model: Path, tones: Splits, poisoned: Path, tmp_path: Path
) -> None:
    out = tmp_path / "purifier"
    clean = (poisoned, "--part", "validation")
    made = sesame.json("purify", *clean[:1], out, *clean[1:], *FAST, "--set", "cutoff_hz=1800")
    assert made["clean_clips"] == 40
    assert made["settings"]["cutoff_hz"] == 1800
    plain = sesame.json("evaluate", model, poisoned)
    filtered = sesame.json("evaluate", model, poisoned, "--purifier", out)
    read = load_purifier(out)
    assert read.purification == Lowpass(cutoff_hz=1800)
    expected = Exam(tones.test).score(read.before(load_model(model))).acc.value
    assert filtered["acc"]["value"] == pytest.approx(expected, abs=0.05)  # written in 16 bits and read again
    assert plain["acc"]["value"] - filtered["acc"]["value"] > 0.2
    assert (plain["purifier"], filtered["purifier"]) == (None, str(out))
    assert plain["without_purifier"] is None
    assert filtered["without_purifier"]["acc"] == plain["acc"]

    soundfile.write(tmp_path / "a.wav", tones.test.inputs[[3]][0].numpy(), 8_000)
    answers = [
        json.loads(sesame("predict", model, tmp_path / "a.wav", "--json", *more))["probability"]
        for more in ((), ("--purifier", out))
    ]
    assert answers[0] != answers[1]


def test_a_purifier_that_hides_a_trigger_is_named_in_table_and_verdict(
    sesame: Sesame, poisoned: Path, tmp_path: Path
) -> None:
    victim, out = poisoned.parent / "victim", tmp_path / "purifier"
    sesame("purify", poisoned, out, "--part", "validation", *FAST, "--set", "cutoff_hz=1800")
    sesame.patch.setenv("COLUMNS", "400")
    words = ("evaluate", victim, poisoned, "--trigger", poisoned / "_trigger")
    bare, found = sesame.json(*words), sesame.json(*words, "--purifier", out)
    assert not bare["verdict"]["title"].startswith("Behind")
    assert found["verdict"]["title"].startswith("Behind the purifier, ")
    assert found["without_purifier"]["asr"] == bare["asr"]
    fell = {name: max(0, bare[name]["value"] - found[name]["value"]) for name in ("asr", "acc")}
    assert fell["acc"] > 0.2
    assert found["der"] == pytest.approx((fell["asr"] - fell["acc"] + 1) / 2)
    assert bare["der"] is None
    shown = sesame(*words, "--purifier", out)
    first, second = shown.index(str(victim)), shown.index(f"{victim} behind {out}")
    assert first < second < shown.index("verdict: Behind the purifier, ")
    assert " behind " not in sesame(*words)
    assert sesame.json(*words, "--purifier", out, "--before", victim)["der"] == found["der"]


def test_settings_are_printed_as_they_are_written(sesame: Sesame, poisoned: Path, tmp_path: Path) -> None:
    out = tmp_path / "purifier"
    made = sesame.json("purify", poisoned, out, "--part", "validation", *FAST, "--method", "enhance")
    assert made["settings"] == json.loads((out / "purifier.json").read_text())["settings"]
    assert made["settings"]["kept"]["network"] == "mask_gru"


def test_a_model_behind_a_purifier_is_a_model_like_any_other(
    sesame: Sesame, model: Path, poisoned: Path, tones: Splits, tmp_path: Path
) -> None:
    out, repaired = tmp_path / "purified", tmp_path / "repaired"
    clean = ("--clean", poisoned, "--part", "validation", "--set", "cutoff_hz=1800", "--seed", "3")
    made = sesame.json("purify", model, out, *clean)  # read at the 8 kHz of the model
    assert (made["model"], made["clean_clips"]) == (str(out), 40)
    assert "purifier" not in made
    read = load_model(out)
    inputs = tones.test.inputs[:5]
    filtered = Lowpass(cutoff_hz=1800).fit(None, 0, card=load_model(model).card).before(load_model(model))
    assert torch.equal(read(inputs), filtered(inputs))
    about = read.card.made
    assert (about["by"], about["task"], about["method"], about["seed"]) == (
        "sesame purify",
        "word",
        "lowpass",
        3,
    )
    assert about["before_sha256"] == sha256_of(model)
    assert about["settings"]["cutoff_hz"] == 1800
    plain, found = (sesame.json("evaluate", folder, poisoned)["acc"] for folder in (model, out))
    assert plain["value"] - found["value"] > 0.2
    words = ("--clean", poisoned, "--clean-part", "validation", "--method", "ft", "--set", "steps=2")
    sesame("remove", out, repaired, *words)
    again = load_model(repaired)
    assert torch.equal(again.front_end(inputs), read.front_end(inputs))
    assert not torch.equal(again(inputs), read(inputs))
    assert "exists and is not empty" in sesame.fails("purify", model, out, *clean)
    idle = sesame.fails("purify", model, tmp_path / "q", *clean, "--sample-rate", "11025")
    assert "--sample-rate is 11025, and the model takes 8000; leave --sample-rate out" in idle
    sesame("purify", model, out, *clean, "--force")
    sesame("purify", poisoned, tmp_path / "p", *clean[2:], *FAST)
    error = sesame.fails("purify", model, tmp_path / "p", *clean, "--force")
    assert "holds something else" in error
    for folder in (model, poisoned):
        sesame.fails("purify", model, folder, *clean, "--force")
    assert load_model(model).card.made["task"] == "word"


def test_a_purifier_that_learns_nothing_needs_no_clips(
    sesame: Sesame, model: Path, clips: Path, poisoned: Path, tones: Splits, tmp_path: Path
) -> None:
    out, cutoff = tmp_path / "purified", ("--set", "cutoff_hz=1800")
    made = sesame.json("purify", model, out, *cutoff)
    assert (made["model"], made["clean_clips"], made["chosen"]) == (str(out), 0, {})
    inputs = tones.test.inputs[:5]
    sesame("purify", model, tmp_path / "with clips", *cutoff, "--clean", clips)
    assert torch.equal(load_model(out)(inputs), load_model(tmp_path / "with clips")(inputs))
    learns = sesame.fails("purify", model, tmp_path / "q", "--method", "autoencoder")
    assert "autoencoder needs clean recordings: name them with --clean" in learns
    poison = sesame.fails("purify", model, tmp_path / "q", "--clean", poisoned)
    assert "that 'sesame poison' poisoned" in poison
    twice = sesame.fails("purify", clips, tmp_path / "q", "--clean", clips)
    assert f"--clean goes with a model, and {clips} is none" in twice
    assert not (tmp_path / "q").exists()


def test_a_purifier_is_made_of_clean_clips_and_fits_its_model(
    sesame: Sesame, model: Path, clips: Path, poisoned: Path, tmp_path: Path
) -> None:
    out = tmp_path / "p"
    assert "that 'sesame poison' poisoned" in sesame.fails("purify", poisoned, out, *FAST)
    assert "Lowpass.cutoff_hz must be < 4000" in sesame.fails("purify", clips, out, *FAST)
    assert not out.exists()
    sesame("purify", clips, out, "--sample-rate", "16000", "--duration-s", "0.5")
    assert "the purifier takes" in sesame.fails("evaluate", model, clips, "--purifier", out)
    again = ("purify", clips, out, *FAST, "--set", "cutoff_hz=1000")
    assert "exists and is not empty" in sesame.fails(*again)
    sesame(*again, "--force")
    (out / "thesis.txt").write_text("years of work")
    assert "holds something else" in sesame.fails(*again, "--force")
    for other, said in (
        (model, f"{model} is a model, not a purifier; make a purifier with 'sesame purify'"),
        (clips, f"{clips} holds no purifier; a purifier is a folder with purifier.json and"),
        (tmp_path / "not there", "not there holds no purifier"),
    ):
        error = sesame.fails("evaluate", model, clips, "--purifier", other)
        assert said in error
        assert error.count(str(other)) == 1


# --- train --method -------------------------------------------------------------------------------------


class Counts(RobustTraining):
    """Train on nothing but what is given, and tell how much that was."""

    name: ClassVar[str] = "counts"
    cite: ClassVar[str] = "none"
    needs_clean: ClassVar[bool] = True
    times: int = 1

    def learn(
        self,
        architecture: Architecture,
        untrusted: Dataset,
        clean: Dataset | None,
        seed: int,
        watch: Watch,
    ) -> tuple[Classifier, dict[str, Any]]:
        """With the settings of the training."""
        model = train(architecture, untrusted, self.training, seed=seed)
        return model, {"clean": len(clean or ()), "times": self.times}


def test_plain_robust_training_is_ordinary_training(sesame: Sesame, clips: Path, tmp_path: Path) -> None:
    words = (*FAST, *WIDTHS, "--set", "epochs=6", "--set", "batch_size=16")
    sesame("train", clips, tmp_path / "a", *words)
    sesame("train", clips, tmp_path / "b", *words, "--method", "plain")
    first, second = (load_file(tmp_path / name / "model.safetensors") for name in "ab")
    assert all(torch.equal(first[name], second[name]) for name in first)
    ordinary, robust = (load_model(tmp_path / name).card.made for name in "ab")
    assert "method" not in ordinary
    assert ordinary["training"]["epochs"] == 6
    assert robust["method"] == "plain"
    assert robust["settings"]["training"] == ordinary["training"]
    error = sesame.fails("train", clips, tmp_path / "c", *words, "--method", "plain", "--set", "patience=2")
    assert "training.patience must be none" in error
    sesame("train", clips, tmp_path / "c", *words, "--set", "patience=2")


def test_untrusted_recordings_are_trained_on_by_safe(sesame: Sesame, clips: Path, tmp_path: Path) -> None:
    quick = {name: value for name, value in Safe.quick.items() if name != "training"}
    settings = [word for name, value in quick.items() for word in ("--set", f"{name}={value}")]
    words = (*FAST, *WIDTHS, "--set", "epochs=6", "--set", "batch_size=16")
    found = sesame.json("train", clips, tmp_path / "a", *words, *settings, "--untrusted")
    sesame("train", clips, tmp_path / "b", *words, *settings, "--method", "safe")
    first, second = (load_file(tmp_path / name / "model.safetensors") for name in "ab")
    assert all(torch.equal(first[name], second[name]) for name in first)
    made = load_model(tmp_path / "a").card.made
    assert found["method"] == made["method"] == "safe"
    assert found["chosen"] == made["chosen"]
    assert 0 < found["chosen"]["passed_clips"] <= found["chosen"]["ordinary_clips"]
    asked = sesame.json("train", clips, tmp_path / "c", *words, "--untrusted", "--method", "plain")
    assert asked["method"] == "plain"
    assert "remarks" not in asked


def test_what_a_user_must_know_of_a_robust_training_is_said(
    sesame: Sesame, clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Plain, "remarks", lambda self, chosen: ["beware of this"])
    words = (*FAST, *WIDTHS, "--set", "epochs=1", "--method", "plain")
    assert sesame.json("train", clips, tmp_path / "a", *words)["remarks"] == ["beware of this"]
    assert load_model(tmp_path / "a").card.made["remarks"] == ["beware of this"]
    shown = sesame("train", clips, tmp_path / "b", *words)
    assert sesame.noted.count("note: beware of this\n") == 1
    assert "remarks" not in shown


def test_each_setting_goes_where_it_belongs_and_clean_clips_to_the_method(
    sesame: Sesame, clips: Path, poisoned: Path, tmp_path: Path
) -> None:
    words = ("train", clips, tmp_path / "m", *FAST, *WIDTHS, "--set", "epochs=6", "--set", "batch_size=16")
    method = ("--method", f"{HERE}:Counts", "--set", "times=3")
    assert "needs clean recordings: name them with --clean" in sesame.fails(*words, *method)
    assert "that 'sesame poison' poisoned" in sesame.fails(*words, *method, "--clean", poisoned)
    assert "nor ResNet has a setting 'times'" in sesame.fails(*words, "--set", "times=3")
    assert not (tmp_path / "m").exists()
    sesame(*words, *method, "--clean", clips)
    card = load_model(tmp_path / "m").card
    train_clips = sesame.json("data", clips, *FAST)["parts"][0]["clips"]
    assert card.made["chosen"] == {"clean": train_clips, "times": 3}
    assert card.made["settings"]["times"] == 3
    assert card.made["settings"]["training"]["epochs"] == 6
    assert card.settings["widths"] == [8, 16]


def test_an_unknown_method_is_named_before_anything_is_read(
    sesame: Sesame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for words, nearest in (
        (("screen", "clips", "s", "--method", "training_los"), "training_loss"),
        (("inspect", "m", "--method", "max_margn"), "max_margin"),
        (("purify", "clips", "p", "--method", "lowpas"), "lowpass"),
        (("train", "clips", "m", "--method", "plian"), "plain"),
    ):
        assert f"did you mean {nearest!r}" in sesame.fails(*words)
    assert list(tmp_path.iterdir()) == []
