"""The command that screens a data set: scores, thresholds, decisions, the copy, and runs that were killed."""

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any, ClassVar, Literal

import pytest
import soundfile
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from closesesame.data import Dataset, load_splits
from closesesame.detection import Detection, Dynamics, load_suspicion
from closesesame.models import Classifier, load_model
from tests.commands import FAST, FolderOf, Sesame

HERE = __name__
WEIGHTS = "model.safetensors"


def rank(name: str) -> float:
    """A number that the name of a file says: `low/s11_nohash_3.wav` is 113 and more, by its class."""
    label, _, file = name.partition("/")
    speaker, _, take = file.removeprefix("s").partition("_nohash_")
    return 10.0 * int(speaker) + int(take.partition(".")[0]) + len(label) / 100


class ByName(Detection):
    """Score clips by their names."""

    name: ClassVar[str] = "by_name"
    cite: ClassVar[str] = "none"
    of: ClassVar[Literal["training clips", "inputs"]] = "training clips"
    times: ClassVar[int] = 0
    own: float | None = None

    def suspicion(self, model: Classifier, examples: Dataset, clean: Dataset, seed: int) -> Tensor:
        """By `rank`."""
        type(self).times += 1
        return torch.tensor([rank(name) for name in examples.ids], dtype=torch.float64)

    def flags_above(self) -> float | None:
        """As the setting says."""
        return self.own


class Asks(ByName):
    """Score clips by their order, and ask for clean ones."""

    name: ClassVar[str] = "asks"
    of: ClassVar[Literal["training clips", "inputs"]] = "inputs"
    needs_clean: ClassVar[bool] = True

    def suspicion(self, model: Classifier, examples: Dataset, clean: Dataset, seed: int) -> Tensor:
        """The more clean clips the method has, the higher, and by a hundredth for each clip."""
        value = 1000 * len(clean) + len(examples) / 100
        return torch.full((len(examples),), value, dtype=torch.float64)


class Killed(ByName):
    """End the process at the first call, as `kill -9` does."""

    name: ClassVar[str] = "killed"

    def suspicion(self, model: Classifier, examples: Dataset, clean: Dataset, seed: int) -> Tensor:
        """Minus the loss of the first clips, so that the model counts."""
        if "KILL" in os.environ:
            os.kill(os.getpid(), signal.SIGKILL)
        with torch.no_grad():
            scores: Tensor = model(examples.inputs[:]).double()[:, 0]
        return scores


@pytest.fixture(autouse=True)
def _small_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    """What stands on the page is tested elsewhere."""
    monkeypatch.setattr("closesesame.report.from_scores.SHOWN", 2)


LOSS = ("--method", "training_loss")
BY_NAME = ("--method", f"{HERE}:ByName")


def table_of(out: Path) -> list[dict[str, str]]:
    return list(csv.DictReader((out / "suspicion.csv").read_text().splitlines()))


def flagged_in(out: Path) -> set[str]:
    return {row["id"] for row in table_of(out) if row["flagged"] == "1"}


# --- what is written ------------------------------------------------------------------------------------


def test_the_scores_of_all_clips_are_written_and_the_highest_shown(
    sesame: Sesame, poisoned: Path, tmp_path: Path
) -> None:
    words = (
        "screen",
        poisoned,
        tmp_path / "out",
        "--model",
        poisoned.parent / "victim",
        *LOSS,
        "--flag",
        "0.1",
    )
    found = sesame.json(*words)
    out = tmp_path / "out"
    names = {"screening.html", "screening.json", "suspicion.csv", "suspicion.json"}
    assert {path.name for path in out.iterdir()} == names
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    rows = table_of(out)
    assert list(rows[0]) == ["id", "label", "score", "flagged"]
    assert len(rows) == found["clips"] == 320
    scores = [float(row["score"]) for row in rows]
    assert scores == sorted(scores, reverse=True)
    assert [row["flagged"] for row in rows] == ["1"] * 32 + ["0"] * 288
    assert found["flagged"] == 32
    assert found["threshold"] == scores[32]
    assert all((poisoned / row["id"]).is_file() for row in rows)
    assert all(row["id"].startswith(f"{row['label']}/") for row in rows)
    assert [row["id"] for row in found["most_suspicious"]] == [row["id"] for row in rows[:10]]
    saved = load_suspicion(out)
    assert (saved.method, {*saved.ids}) == ("training_loss", {row["id"] for row in rows})
    assert sorted(saved.scores.tolist(), reverse=True) == scores
    shown = sesame(*words, "--force")
    assert shown.count(".flac") == 10
    assert rows[0]["id"] in shown
    assert "flagged are the 10 % of clips with the highest scores" in shown
    assert f"page: {out / 'screening.html'}" in shown


def test_a_set_that_was_poisoned_here_tests_the_method(
    sesame: Sesame, poisoned: Path, clips: Path, model: Path, tmp_path: Path
) -> None:
    words = ("screen", poisoned, tmp_path / "out", "--model", poisoned.parent / "victim", *LOSS, "--force")
    found = sesame.json(*words)["test_of_the_method"]
    with (poisoned / "manifest.csv").open() as file:
        truth = {row["path"]: row["poisoned"] == "1" for row in csv.DictReader(file)}
    rows = table_of(tmp_path / "out")
    bad = [float(row["score"]) for row in rows if truth[row["id"]]]
    good = [float(row["score"]) for row in rows if not truth[row["id"]]]
    assert found["poisoned_clips"] == len(bad) == 32
    wins = sum((one > other) + (one == other) / 2 for one in bad for other in good)
    assert found["auroc"]["value"] == pytest.approx(wins / len(bad) / len(good))
    assert 0 < found["auroc"]["value"] < 1
    threshold = sorted(good, reverse=True)[len(good) // 10]
    assert found["tpr_at_10"]["hits"] == sum(one > threshold for one in bad)
    shown = sesame(*words)
    assert "test of the method: 'sesame poison' says that 32 of these clips are poisoned" in shown
    assert f"AUROC: {found['auroc']['value']:.3f} [" in shown
    assert f"TPR at 10 % FPR (%): {100 * found['tpr_at_10']['value']:.1f} [" in shown
    clean = sesame.json(*words, "--part", "test")
    assert clean["test_of_the_method"]["poisoned_clips"] == 0
    assert clean["test_of_the_method"]["auroc"] is None
    other = sesame.json("screen", clips, tmp_path / "b", "--model", model, *LOSS)
    assert "test_of_the_method" not in other


# --- thresholds -----------------------------------------------------------------------------------------


def test_clean_clips_are_scored_beside_the_others_and_set_the_threshold(
    sesame: Sesame, clips: Path, model: Path, tmp_path: Path
) -> None:
    words = ("screen", clips, tmp_path / "out", "--model", model, *BY_NAME, "--clean", clips, "--force")
    found = sesame.json(*words, "--fpr", "0.2")
    assert "trained on these and not on those, leave out --model" in sesame.noted
    known = load_splits(clips, sample_rate=8000, duration_s=0.5)
    clean = sorted(map(rank, known.validation.ids), reverse=True)
    threshold = clean[int(0.2 * (len(clean) + 1)) - 1]
    assert found["threshold"] == threshold
    assert found["clean_clips"] == len(clean)
    above = {name for name in known.train.ids if rank(name) > threshold}
    assert flagged_in(tmp_path / "out") == above
    assert found["flagged"] == len(above)
    assert 0 < len(above) < len(known.train)
    # A rate of 1 % cannot be seen on so few.
    error = sesame.fails(*words)
    assert f"1 % of clean clips exceed needs 99 of them or more, and there are {len(clean)}" in error
    assert "--fpr" in error
    train = sesame.json(*words, "--fpr", "0.2", "--clean-part", "train", "--part", "test")
    assert train["clean_clips"] == len(known.train)
    assert train["clips"] == len(known.test)


def test_a_method_that_needs_clean_clips_gets_those_that_no_threshold_rests_on(
    sesame: Sesame, clips: Path, model: Path, tmp_path: Path
) -> None:
    words = ("screen", clips, tmp_path / "out", "--model", model, "--method", f"{HERE}:Asks", "--force")
    assert "needs clean recordings: name them with --clean" in sesame.fails(*words)
    known = load_splits(clips, sample_rate=8000, duration_s=0.5)
    more = ("--clean", clips, "--clean-part", "train")
    for_method, beside = known.train.hold_out(0.5, 0)
    assert for_method.speakers
    assert beside.speakers
    assert not set(for_method.speakers) & set(beside.speakers)
    score = sesame.json(*words, *more, "--fpr", "0.1")["most_suspicious"][0]["score"]
    assert score == 1000 * len(for_method) + (len(known.train) + len(beside)) / 100
    score = sesame.json(*words, *more, "--flag", "0.1")["most_suspicious"][0]["score"]
    assert score == 1000 * len(known.train) + len(known.train) / 100
    score = sesame.json(*words, "--clean", clips, "--flag", "0.1")["most_suspicious"][0]["score"]
    assert score == 1000 * len(known.validation) + len(known.train) / 100


def test_the_method_may_name_a_threshold_and_without_one_nothing_is_flagged(
    sesame: Sesame, clips: Path, model: Path, tmp_path: Path
) -> None:
    words = ("screen", clips, tmp_path / "out", "--model", model, *BY_NAME, "--force")
    found = sesame.json(*words, "--set", "own=80.5")
    assert found["threshold"] == 80.5
    assert flagged_in(tmp_path / "out") == {
        row["id"] for row in table_of(tmp_path / "out") if float(row["score"]) > 80.5
    }
    assert found["flagged"] > 0
    by_clean = sesame.json(*words, "--set", "own=80.5", "--clean", clips, "--fpr", "0.2")
    assert by_clean["threshold"] != 80.5
    shown = sesame(*words)
    assert "flagged: 0" in shown
    assert "nothing is flagged: the method names no threshold; name clean recordings (--clean)" in shown
    error = sesame.fails(*words, "--copy", tmp_path / "copy")
    assert "nothing would be left out of the copy" in error
    assert not (tmp_path / "copy").exists()


# --- decisions and the copy -----------------------------------------------------------------------------


def test_the_copy_lacks_what_is_flagged_or_dropped_and_has_what_is_kept(
    sesame: Sesame, clips: Path, model: Path, tmp_path: Path
) -> None:
    known = load_splits(clips, sample_rate=8000, duration_s=0.5)
    ranked = sorted(known.train.ids, key=rank, reverse=True)
    kept, dropped = ranked[0], ranked[-1]
    (tmp_path / "list.json").write_text(json.dumps({"kept": [kept], "dropped": [dropped, ranked[1]]}))
    copy = ("--copy", tmp_path / "copy", "--force")
    words = ("screen", clips, tmp_path / "out", "--model", model, *BY_NAME, *copy)
    found = sesame.json(*words, "--flag", "0.1")
    count = found["flagged"]
    assert count == len(known.train) // 10 > 2
    assert found["copy"] == {"folder": str(tmp_path / "copy"), "left_out": count}
    assert originals(tmp_path / "copy", "train") == {*ranked[count:]}
    found = sesame.json(*words, "--flag", "0.1", "--decisions", tmp_path / "list.json")
    left_out = {*ranked[1:count], dropped}
    assert (found["kept"], found["dropped"]) == (1, 2)
    assert found["copy"]["left_out"] == len(left_out)
    assert flagged_in(tmp_path / "out") == {*ranked[:count]}
    assert originals(tmp_path / "copy", "train") == {*ranked} - left_out
    for part in ("validation", "test"):
        assert originals(tmp_path / "copy", part) == {*getattr(known, part).ids}
    again = load_splits(tmp_path / "copy", sample_rate=8000, duration_s=0.5)
    assert len(again.train) == len(known.train) - len(left_out)
    assert torch.equal(again.test.inputs[:].sum(), known.test.inputs[:].sum())
    # The list alone is enough for a copy.
    found = sesame.json(*words, "--decisions", tmp_path / "list.json")
    assert originals(tmp_path / "copy", "train") == {*ranked} - {dropped, ranked[1]}
    shown = sesame(*words, "--decisions", tmp_path / "list.json")
    assert "decided: 1 kept, 2 dropped" in shown
    assert f"copy: {tmp_path / 'copy'}, without 2 clips" in shown


def originals(copy: Path, part: str) -> set[str]:
    """The clips of a part of a copy, as the data set that was copied calls them."""
    with (copy / "manifest.csv").open() as file:
        return {row["original"] for row in csv.DictReader(file) if row["part"] == part}


def test_of_all_parts_each_loses_its_own_clips(
    sesame: Sesame, clips: Path, model: Path, tmp_path: Path
) -> None:
    words = ("screen", clips, tmp_path / "out", "--model", model, *BY_NAME, "--part", "all")
    found = sesame.json(*words, "--flag", "0.3", "--copy", tmp_path / "copy")
    known = load_splits(clips, sample_rate=8000, duration_s=0.5)
    assert found["clips"] == 96
    out = flagged_in(tmp_path / "out")
    assert len(out) == found["flagged"] > 20
    for part, data in known._asdict().items():
        assert originals(tmp_path / "copy", part) == {*data.ids} - out
        assert {*data.ids} & out or part != "train"


def test_a_class_that_is_left_out_is_said(sesame: Sesame, clips: Path, model: Path, tmp_path: Path) -> None:
    low = [name for name in load_splits(clips, sample_rate=8000, duration_s=0.5).train.ids if "low/" in name]
    (tmp_path / "list.json").write_text(json.dumps({"dropped": low}))
    words = ("--decisions", tmp_path / "list.json", "--copy", tmp_path / "copy")
    sesame("screen", clips, tmp_path / "out", "--model", model, *BY_NAME, *words)
    assert "the copy has no training clip of 'low': all of them were left out" in sesame.noted
    assert "every clip" not in sesame.noted
    (tmp_path / "list.json").write_text("{}")
    sesame("screen", clips, tmp_path / "out", "--model", model, *BY_NAME, *words, "--force")
    assert "the copy holds every clip, since none was flagged or dropped" in sesame.noted


# --- without a model ------------------------------------------------------------------------------------


def test_without_a_model_the_one_is_used_that_train_would_make(
    sesame: Sesame, clips: Path, tmp_path: Path
) -> None:
    words = (
        "screen",
        clips,
        tmp_path / "out",
        *FAST,
        *LOSS,
        "--seed",
        "3",
        "--keep-model",
        tmp_path / "kept",
    )
    sesame(*words)
    known = load_splits(clips, sample_rate=8000, duration_s=0.5, seed=3)
    assert f"a plain resnet is trained on the {len(known.train)} screened clips first" in sesame.noted
    sesame("train", clips, tmp_path / "trained", *FAST, "--seed", "3")
    kept, trained = (load_file(tmp_path / name / WEIGHTS) for name in ("kept", "trained"))
    assert all(torch.equal(kept[name], trained[name]) for name in kept)
    assert load_model(tmp_path / "kept").card.made["by"] == "sesame screen"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["kept", "out", "set", "trained"]
    sesame("screen", clips, tmp_path / "named", "--model", tmp_path / "kept", *LOSS, "--seed", "3")
    named, out = ((tmp_path / name / "suspicion.csv").read_text() for name in ("named", "out"))
    assert named == out
    # Clean clips are learned, too, or the model would know them less well than those they are compared with.
    sesame(*words, "--clean", clips, "--fpr", "0.5", "--force")
    assert f"{len(known.train)} screened clips and {len(known.validation)} clean clips first" in sesame.noted
    more = load_file(tmp_path / "kept" / WEIGHTS)
    assert not all(torch.equal(kept[name], more[name]) for name in kept)


# --- killed and called again ----------------------------------------------------------------------------


def test_a_killed_run_goes_on_and_ends_as_if_it_had_not_been(
    sesame: Sesame, clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ("screen", clips, "OUT", *FAST, "--method", f"{HERE}:Killed", "--flag", "0.1")

    def at(name: str) -> tuple[object, ...]:
        return tuple(tmp_path / name if word == "OUT" else word for word in words)

    program = [str(Path(sys.executable).with_name("sesame")), *map(str, at("killed"))]
    path = os.pathsep.join(filter(None, (str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH"))))
    environment = {**os.environ, "KILL": "1", "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
    ended = subprocess.run(program, env=environment, check=False, capture_output=True)
    assert ended.returncode == -signal.SIGKILL, ended.stderr
    assert not (tmp_path / "killed").exists()
    (kept,) = (tmp_path / "killed.unfinished").iterdir()
    assert kept.name.startswith("model-")
    sesame(*at("whole"))
    with monkeypatch.context() as patch:
        patch.setattr("closesesame.training.train", never)
        sesame(*at("killed"))
        assert f"the plain model of an earlier run that did not end is used: {kept}" in sesame.noted
        with pytest.raises(SystemExit):
            sesame(*at("killed"), "--seed", "1", "--force")  # another seed is another model
    for name in ("suspicion.csv", "screening.json"):
        assert (tmp_path / "killed" / name).read_text() == (tmp_path / "whole" / name).read_text()
    assert not kept.parent.exists()


def never(*given: Any, **more: Any) -> Any:
    """Stands for what must not be called."""
    raise AssertionError("it was done again")


def test_scores_are_not_lost_if_what_comes_after_them_fails(
    sesame: Sesame, clips: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ("screen", clips, tmp_path / "out", "--model", model, *BY_NAME, "--flag", "0.1")
    with monkeypatch.context() as patch:
        patch.setattr("closesesame.report.pages.screening.screening_html", never)
        sesame.fails(*words)
    assert not (tmp_path / "out").exists()
    before = ByName.times
    sesame(*words)
    assert ByName.times == before
    assert "nothing is scored again" in sesame.noted
    assert not (tmp_path / "out.unfinished").exists()


def test_what_is_finished_is_scored_again_only_if_something_is_new(
    sesame: Sesame, clips: Path, model: Path, folder_of: FolderOf, tmp_path: Path
) -> None:
    words = ("screen", clips, tmp_path / "out", "--model", model, *BY_NAME)
    more = ("--clean", clips, "--fpr", "0.2", "--force")
    sesame(*words, *more)
    before, about = ByName.times, tmp_path / "out" / "screening.json"
    threshold = json.loads(about.read_text())["threshold"]

    def scored(*changed: object) -> int:
        nonlocal before
        sesame(*words, *changed)
        more, before = ByName.times - before, ByName.times
        return more

    # Another rate, decisions and a copy need no new score.
    (tmp_path / "list.json").write_text(json.dumps({"dropped": [table_of(tmp_path / "out")[0]["id"]]}))
    assert scored(*more[:2], "--fpr", "0.4", *more[4:], "--decisions", tmp_path / "list.json") == 0
    assert json.loads(about.read_text())["threshold"] < threshold
    assert scored(*more) == 0
    assert scored(*more, "--seed", "1") == 1
    assert scored(*more, "--set", "own=3") == 1
    assert scored(*more, "--part", "test") == 1
    assert scored(*more, "--clean-part", "test") == 1
    assert scored("--force") == 1
    assert scored("--force") == 0
    # One recording has another sound under the same name.
    recording = clips / table_of(tmp_path / "out")[0]["id"]
    samples, rate = soundfile.read(recording)
    soundfile.write(recording, 0.5 * samples, rate)
    assert scored("--force") == 1
    # A damaged file counts as none.
    (tmp_path / "out" / "suspicion.json").write_text("{}")
    assert scored("--force") == 1
    state = load_file(model / WEIGHTS)
    state = {name: value + 1e-3 if value.is_floating_point() else value for name, value in state.items()}
    save_file(state, model / WEIGHTS)
    assert scored("--force") == 1


def test_unless_told_otherwise_it_screens_with_dynamics_and_its_own_threshold(
    sesame: Sesame, clips: Path, model: Path, tmp_path: Path
) -> None:
    quick = [f"{name}={json.dumps(value)}" for name, value in Dynamics.quick.items()]
    words = [word for setting in quick for word in ("--set", setting)]
    found = sesame.json("screen", clips, tmp_path / "out", "--model", model, *words)
    assert (found["method"], found["threshold"]) == ("dynamics", Dynamics().threshold)


# --- what is refused ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("--fpr", "0.1"), "--fpr is measured on clean recordings: name some with --clean"),
        (("--fpr", "0.1", "--flag", "0.1", "--clean", "clean"), "give one of them"),
        (("--model", "m", "--keep-model", "k"), "leave out --model"),
        (("--flag", "1.0"), "Must be < 1"),
        (("--flag", "0"), "Must be > 0"),
        (("--copy", "s", "--flag", "0.1"), "is or holds another output of the same command"),
        (("--copy", "s/copy", "--flag", "0.1"), "is or holds another output of the same command"),
        (("--model", "m"), "m is not there; a model is a folder"),
        ((), "clips is not a folder"),
    ],
)
def test_what_cannot_be_is_one_sentence_before_any_work(
    words: tuple[str, ...], sentence: str, sesame: Sesame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert sentence in sesame.fails("screen", "clips", "s", *words)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_too_small_to_be_split_is_screened_whole(
    sesame: Sesame, model: Path, folder_of: FolderOf, tmp_path: Path
) -> None:
    two = folder_of({"low": 2, "high": 2})
    words = ("--model", model, *BY_NAME)
    whole = ("--part", "all")
    copy = ("--copy", tmp_path / "copy", "--flag", "0.3")
    found = sesame.json("screen", two, tmp_path / "one", *words, *whole, *copy)
    assert found["clips"] == 4
    assert len(list((tmp_path / "copy").rglob("*.wav"))) == 4 - found["copy"]["left_out"] == 3
    again = sesame.json("screen", tmp_path / "copy", tmp_path / "two", *words, *whole)
    assert again["clips"] == 3
    error = sesame.fails("screen", two, tmp_path / "o", *words)
    assert "leaves the validation part of" in error
    assert "take all as one part" in error
    # Clean recordings, of another folder and of the same.
    few = shutil.copytree(two, tmp_path / "few")
    for source in (few, two):
        clean = ("--clean", source, "--clean-part", "all", "--fpr", "0.2", "--force")
        found = sesame.json("screen", two, tmp_path / "one", *words, *whole, *clean)
        assert (found["clips"], found["clean_clips"]) == (4, 4)
    error = sesame.fails("screen", two, tmp_path / "o", *words, *whole, "--clean", two, "--fpr", "0.2")
    assert "of clean recordings --clean-part all" in error


class Elsewhere(ByName):
    """Score clips by their names, and look at no model."""

    def in_place_of(self, model: Classifier, examples: Dataset) -> str | None:
        """Names."""
        return "names"


def test_it_is_said_if_the_named_model_is_not_looked_at(
    sesame: Sesame, model: Path, clips: Path, tmp_path: Path
) -> None:
    words = ("screen", clips, tmp_path / "out", "--model", model, "--clean", clips, "--fpr", "0.3")
    beside = "leave out --model to train one on both"
    found = sesame.json(*words, "--method", f"{HERE}:Elsewhere")
    assert found["model"] == "a plain resnet, trained on these clips"
    assert f"by_name does not look at {model}, but at names" in sesame.noted
    assert beside not in sesame.noted
    found = sesame.json(*words, *BY_NAME, "--force")
    assert found["model"] == str(model)
    assert "does not look at" not in sesame.noted
    assert beside in sesame.noted


class Inputs(Asks):
    """Score inputs by their order, without clean ones."""

    name: ClassVar[str] = "inputs_alone"
    needs_clean: ClassVar[bool] = False


def test_inputs_of_a_model_need_no_second_class(
    sesame: Sesame, model: Path, folder_of: FolderOf, tmp_path: Path
) -> None:
    one, unknown = folder_of({"low": 12}), tmp_path / "unknown"
    shutil.copytree(one / "low", unknown / "elsewhere")
    inputs = ("--method", f"{HERE}:Inputs")
    named = ("--model", model)
    found = sesame.json("screen", one, tmp_path / "one", *named, *inputs, "--part", "all", "--force")
    assert {row["label"] for row in found["most_suspicious"]} == {"low"}
    copy = ("--flag", "0.3", "--copy", tmp_path / "copy", "--force")
    sesame("screen", one, tmp_path / "one", *named, *inputs, *copy, "--clean", one)
    error = sesame.fails("screen", unknown, tmp_path / "o", *named, *inputs)
    assert "does not know class 'elsewhere'" in error
    error = sesame.fails("screen", one, tmp_path / "o", *inputs)
    assert "one class, 'low'; two are needed, since a plain model is trained on them: name" in error
    error = sesame.fails("screen", one, tmp_path / "o", *named, *BY_NAME)
    assert "one class, 'low'; two are needed, since by_name screens training clips: add" in error
    error = sesame.fails("screen", one, tmp_path / "o", *named, "--method", f"{HERE}:Asks", "--clean", one)
    assert "one class, 'low'; two are needed, since asks needs clean recordings of both" in error
    assert not (tmp_path / "o").exists()


def test_a_list_of_decisions_names_the_same_clips_in_a_copy(
    sesame: Sesame, model: Path, clips: Path, tmp_path: Path
) -> None:
    (tmp_path / "drop.json").write_text(json.dumps({"dropped": ["low/s1_nohash_0.wav"]}))
    words = ("--model", model, *BY_NAME, "--part", "all")
    list_of = ("--decisions", tmp_path / "drop.json")
    sesame("screen", clips, tmp_path / "one", *words, *list_of, "--copy", tmp_path / "copy")
    files = {path.relative_to(clips): path for path in clips.rglob("*.wav")}
    left = {path.relative_to(tmp_path / "copy"): path for path in (tmp_path / "copy").rglob("*.wav")}
    assert {str(path) for path in files.keys() - left.keys()} == {"low/s1_nohash_0.wav"}
    assert left.keys() < files.keys()
    assert all(
        (soundfile.read(path)[0] == soundfile.read(files[name])[0]).all() for name, path in left.items()
    )
    error = sesame.fails("screen", tmp_path / "copy", tmp_path / "two", *words, *list_of)
    assert "decides on 1 clip outside of what is screened (low/s1_nohash_0.wav)" in error


def test_nothing_is_replaced_and_no_poisoned_clip_counts_as_clean(
    sesame: Sesame, model: Path, poisoned: Path, clips: Path, tmp_path: Path
) -> None:
    words = ("screen", clips, tmp_path / "out", "--model", model, *BY_NAME)
    other = ("screen", clips, tmp_path / "o", "--model", model, *LOSS)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.txt").write_text("years of work")
    assert "replace it with --force" in sesame.fails(*words)
    assert "holds something else than this command makes" in sesame.fails(*words, "--force")
    assert "which is read" in sesame.fails("screen", clips, clips / "new", "--model", model)
    error = sesame.fails(*other, "--decisions", tmp_path / "no.json")
    assert "no.json; the page of a screening writes such a list of decisions" in error
    poison = ("--clean", poisoned, "--clean-part", "train")
    error = sesame.fails("screen", clips, tmp_path / "s", "--model", model, *BY_NAME, *poison)
    assert "that 'sesame poison' poisoned" in error
    (tmp_path / "list.json").write_text(json.dumps({"dropped": ["elsewhere/1.wav"]}))
    error = sesame.fails(*other, "--decisions", tmp_path / "list.json")
    assert "decides on 1 clip outside of what is screened (elsewhere/1.wav)" in error
    error = sesame.fails(*other, "--sample-rate", "11025")
    assert "--sample-rate is 11025, and the model takes 8000; leave --sample-rate out" in error
    assert not (tmp_path / "o").exists()


def test_clean_clips_of_other_classes_are_refused(
    sesame: Sesame, folder_of: FolderOf, tmp_path: Path
) -> None:
    words = folder_of({"low": 24, "high": 24})
    other = tmp_path / "other"
    words.rename(other)
    more = folder_of({"low": 24, "middle": 24})
    error = sesame.fails("screen", more, tmp_path / "o", *FAST, *LOSS, "--clean", other, "--fpr", "0.4")
    assert "the clean recordings are of another data set: class 'high' is not among those given" in error
    assert not (tmp_path / "o").exists()
