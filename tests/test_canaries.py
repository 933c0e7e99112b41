"""Examining a removal with canaries: who gets which clips, verdicts at their bounds, cards and commands."""

import copy
import json
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest
import torch
from torch import nn

from closesesame.canaries import Canaries, Canary, CanaryTest, Planted, draw_canaries
from closesesame.core.errors import DataError, DivergedError, SettingError
from closesesame.core.evidence import Changes
from closesesame.data import Dataset, Splits
from closesesame.evaluation import CanaryReport, examine
from closesesame.evaluation import canaries as examination
from closesesame.evaluation.canaries import Measured, read_canaries
from closesesame.models import Classifier, load_model, save_model
from closesesame.removal import FT, Removal
from closesesame.report.charts.distributions import draw
from closesesame.training import accuracy
from tests.commands import Sesame
from tests.pages import Page
from tests.removal.rules import part


def saying(model: Classifier, label: int) -> Classifier:
    """A copy that says one class whatever it hears."""
    other = copy.deepcopy(model)
    with torch.no_grad():
        part(other.body, "head", nn.Linear).bias[label] += 1e6
    return other


class Scripted(Canaries):
    """Plants one canary by hand: the copy always says the first target label."""

    seen: ClassVar[list[tuple[Dataset, int]]] = []

    def plant(self, suspect: Classifier, clean: Dataset, seed: int) -> Planted:
        self.seen.append((clean, seed))
        canaries = draw_canaries(suspect.card, seed)
        return Planted(saying(suspect, canaries[0].target), canaries)


class Noted(Removal):
    """Changes nothing, and notes what it is given; or takes the canary out again."""

    name: ClassVar[str] = "noted"
    cite: ClassVar[str] = "ours"
    seen: ClassVar[list[tuple[float, Dataset, Dataset, int]]] = []
    heard: ClassVar[list[Dataset]] = []

    works: bool = False

    def repair_with_audio(
        self, model: Classifier, tune: Dataset, held_out: Dataset, audio: Dataset, seed: int
    ) -> dict[str, Any]:
        self.heard.append(audio)
        return self.repair(model, tune, held_out, seed)

    def repair(self, model: Classifier, tune: Dataset, held_out: Dataset, seed: int) -> dict[str, Any]:
        head = part(model.body, "head", nn.Linear)
        self.seen.append((float(head.bias.detach().amax()), tune, held_out, seed))
        with torch.no_grad():
            head.bias[head.bias > 1e3] = -1e6 if self.works else 1e6
        return {}


class EveryFourth(Noted):
    """Holds out in a way of its own: every fourth clip, from one that the seed names."""

    name: ClassVar[str] = "every_fourth"

    def put_aside(self, clean: Dataset, seed: int) -> tuple[Dataset, Dataset]:
        mine = torch.arange(len(clean)) % 4 == seed % 4
        return clean.where(~mine), clean.where(mine)


@pytest.fixture(autouse=True)
def _forget() -> None:
    Scripted.seen.clear()
    Noted.seen.clear()
    Noted.heard.clear()


@pytest.mark.parametrize("works", [False, True])
def test_the_copy_learns_on_one_part_is_repaired_with_all_and_measured_on_the_other(
    clean_model: Classifier, tones: Splits, works: bool
) -> None:
    clean = replace(tones.train.take(torch.arange(60)), speakers=None)
    removal = Noted(works=works, hold_out=0.3)
    report = examine(removal, clean_model, clean, 7, canaries=Scripted())
    tune, held_out = clean.hold_out(0.3, 7)
    ((learnt_on, seed),) = Scripted.seen
    assert (learnt_on.ids, seed) == (tune.ids, 7)
    # Two repairs with the same clips and seed: of the copy, and of the suspect, which never had a canary.
    assert [found[0] > 1e3 for found in Noted.seen] == [True, False]
    for _, one, other, same_seed in Noted.seen:
        assert (one.ids, other.ids, same_seed) == (tune.ids, held_out.ids, 7)

    canaries = draw_canaries(clean_model.card, 7)
    target = canaries[0].target
    assert report.held_out == len(held_out)
    assert report.acc_suspect == accuracy(clean_model, held_out)
    share = float((held_out.labels == target).float().mean())
    assert report.acc_planted == pytest.approx(share)
    assert report.acc_after == pytest.approx(1 - share if works else share)
    assert share not in {0, 0.5, 1}
    for canary, found in zip(canaries, report.canaries, strict=True):
        clips = canary.stamp_dataset(held_out)
        bias = int((clean_model(clips.inputs[:]).argmax(1) == canary.target).sum())
        assert (found.family, found.target) == (canary.family, clean_model.card.classes[canary.target])
        assert (found.clips, found.bias) == (len(clips), bias)
        assert found.planted == (len(clips) if canary.target == target else 0)
        if not works:
            assert found.after == found.planted
    first = report.canaries[0]
    assert first.verdict == ("removed" if works else "not removed")
    if works:
        assert first.after == 0


def test_classes_of_the_clips_may_stand_in_another_order(clean_model: Classifier, tones: Splits) -> None:
    clean = replace(tones.train.take(torch.arange(60)), speakers=None)
    classes = tuple(reversed(clean.classes))
    reports = [
        examine(Noted(hold_out=0.3), clean_model, data, 7, canaries=Scripted())
        for data in (clean, clean.with_classes(classes))
    ]
    one, other = (report.model_dump() | {"seconds": 0.0} for report in reports)
    assert one == other


def test_clips_are_put_aside_as_the_removal_does(clean_model: Classifier, tones: Splits) -> None:
    clean = tones.train.take(torch.arange(60))
    report = examine(EveryFourth(), clean_model, clean, 7, canaries=Scripted())
    assert Scripted.seen[0][0].ids == tuple(name for row, name in enumerate(clean.ids) if row % 4 != 3)
    assert report.held_out == 15
    held_out = clean.take(torch.arange(3, 60, 4))
    for found in report.canaries:
        target = clean_model.card.classes.index(found.target)
        assert found.clips == int((held_out.labels != target).sum())


def test_canaries_are_measured_on_some_held_out_clips_and_accuracy_on_all(
    clean_model: Classifier, tones: Splits, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured_on: list[Dataset] = []
    stamp = CanaryTest.of

    def noted(canaries: tuple[Canary, ...], clips: Dataset) -> CanaryTest:
        measured_on.append(clips)
        return stamp(canaries, clips)

    monkeypatch.setattr(CanaryTest, "of", noted)
    clean = tones.train.take(torch.arange(160))
    removal = EveryFourth()
    held_out = removal.put_aside(clean, 7)[1]
    report = examine(removal, clean_model, clean, 7, canaries=Scripted(most_clips=16))
    assert measured_on[0].ids == held_out.sample(16 / 40, 7).ids
    assert report.held_out == 40
    assert {one.clips for one in report.canaries} <= set(range(17))
    assert report.acc_suspect == accuracy(clean_model, held_out)


def test_accuracies_are_of_the_suspect_the_copy_and_the_repaired_copy_on_held_out_clips(
    clean_model: Classifier, tones: Splits, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[float, tuple[str, ...]]] = []

    def noted(model: Classifier, clips: Dataset) -> float:
        asked.append((float(part(model.body, "head", nn.Linear).bias.detach().amax()), clips.ids))
        return len(asked) / 10

    monkeypatch.setattr(examination, "accuracy", noted)
    clean = tones.train.take(torch.arange(100))
    report = examine(Noted(works=True), clean_model, clean, 7, canaries=Scripted())
    held_out = Noted().put_aside(clean, 7)[1]
    assert [ids for _, ids in asked] == [held_out.ids] * 3
    assert [bias > 1e3 for bias, _ in asked] == [False, True, False]
    assert (report.acc_suspect, report.acc_planted, report.acc_after) == (0.1, 0.2, 0.3)


def test_seconds_are_those_from_the_start_to_the_end(
    clean_model: Classifier, tones: Splits, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = SimpleNamespace(perf_counter=iter([20.0, 83.5]).__next__)
    monkeypatch.setattr(examination, "time", clock)
    report = examine(Noted(), clean_model, tones.train.take(torch.arange(100)), 7, canaries=Scripted())
    assert report.seconds == 63.5


def test_a_repaired_suspect_that_is_at_hand_is_not_repaired_again(
    clean_model: Classifier, tones: Splits
) -> None:
    target = draw_canaries(clean_model.card, 7)[0].target
    repaired = saying(clean_model, target)
    clean = tones.train.take(torch.arange(100))
    report = examine(Noted(), clean_model, clean, 7, repaired=repaired, canaries=Scripted())
    assert len(Noted.seen) == 1
    assert report.canaries[0].bias == report.canaries[0].clips
    assert report.canaries[0].verdict == "unclear"  # the repaired model says that label to all clips, too


def test_both_repairs_get_the_unlabelled_audio(clean_model: Classifier, tones: Splits) -> None:
    clean, audio = tones.train.take(torch.arange(100)), tones.validation
    examine(Noted(), clean_model, clean, 7, canaries=Scripted(), audio=audio)
    assert Noted.heard == [audio, audio]
    assert set(Scripted.seen[0][0].ids) <= set(clean.ids)


def measured(planted: int, after: int, bias: int, clips: int = 20, family: str = "filter") -> Measured:
    return Measured(
        family=family, detail="drawn", target="yes", clips=clips, planted=planted, after=after, bias=bias
    )


@pytest.mark.parametrize(
    ("planted", "after", "bias", "verdict"),
    [
        (16, 2, 0, "removed"),
        (16, 3, 0, "not removed"),
        (15, 0, 0, "not planted"),
        (20, 7, 5, "removed"),
        (20, 8, 5, "not removed"),
        (20, 0, 9, "removed"),
        (20, 12, 10, "removed"),
        (20, 13, 10, "not removed"),
        (20, 0, 11, "unclear"),
        (20, 20, 11, "unclear"),
        (15, 0, 11, "not planted"),
    ],
)
def test_planted_from_80_percent_and_removed_up_to_10_points_above_the_bias(
    planted: int, after: int, bias: int, verdict: str
) -> None:
    assert measured(planted, after, bias).verdict == verdict


def test_fewer_clips_than_ten_tell_nothing() -> None:
    assert measured(10, 1, 0, clips=10).verdict == "removed"
    assert measured(10, 2, 0, clips=10).verdict == "not removed"
    assert measured(9, 0, 0, clips=9).verdict == measured(9, 9, 0, clips=9).verdict == "unclear"
    assert measured(7, 0, 0, clips=9).verdict == "not planted"


def test_a_canary_without_clips_is_not_planted() -> None:
    assert measured(0, 0, 0, clips=0).verdict == "not planted"


def report_of(*canaries: Measured) -> CanaryReport:
    return CanaryReport(
        canaries=canaries, held_out=25, acc_suspect=1, acc_planted=0.96, acc_after=0.92, seconds=70
    )


def test_the_sentence_counts_what_was_planted_and_means_are_of_that() -> None:
    three = (measured(20, 1, 0), measured(16, 6, 2), measured(3, 3, 3))
    report = report_of(*three)
    assert (
        report.sentence
        == "2 of 3 canaries planted (ASR 90 %), 1 removed (ASR 18 %, and 5 % without canaries), each on 20 "
        "held-out clips."
    )
    few = report_of(*three, measured(9, 0, 0, clips=9))
    assert few.sentence == (
        "3 of 4 canaries planted (ASR 93 %), 1 removed (ASR 12 %, and 3 % without canaries), each on 9 to 20 "
        "held-out clips. Of 1 it cannot be told: they have fewer than 10 clips, or a bias above 50 %."
    )
    assert report_of(*three[:2]).sentence.startswith("2 canaries planted (ASR 90 %), 1 removed")
    assert report_of(three[2]).sentence.startswith("No canary could be planted")
    found = report.as_json()
    assert (found["planted"], found["removed"], found["sentence"]) == (2, 1, report.sentence)
    assert [row["verdict"] for row in found["canaries"]] == ["removed", "not removed", "not planted"]
    row = found["canaries"][1]
    assert [row[f"asr_{name}"]["hits"] for name in ("planted", "after", "bias")] == [16, 6, 2]
    json.dumps(found)


def test_what_stands_on_a_card_is_read_again_or_is_none() -> None:
    report = report_of(measured(20, 1, 0))
    made = json.loads(json.dumps(report.model_dump(mode="json")))
    assert read_canaries(made) == report
    more_hits = {**made["canaries"][0], "after": 21}
    damaged: tuple[Any, ...] = (None, "five", [], {}, {1: 2}, {**made, "more": 1})
    for wrong in (*damaged, {**made, "canaries": [more_hits]}):
        assert read_canaries(wrong) is None
    for field, value in (("acc_after", 1.5), ("held_out", -1), ("seconds", float("nan"))):
        assert read_canaries({**made, field: value}) is None


def test_the_drawing_says_what_it_shows() -> None:
    report = report_of(measured(20, 1, 0), measured(16, 6, 2, family="<b>"), measured(0, 0, 0, clips=0))
    evidence = report.evidence("REPAIRED")
    assert "REPAIRED" in evidence.title
    assert evidence.text.startswith(report.sentence)
    (shape,) = evidence.shapes
    assert isinstance(shape, Changes)
    assert [(row.before, row.after, row.reference) for row in shape.rows] == [(100, 5, 0), (80, 30, 10)]
    drawing = str(draw("key", shape))
    words = [data for tag, data in Page(drawing).pieces if tag == "text"]
    assert {"filter, removed", "<b>, not removed"} <= set(words)
    assert "on 20 held-out clips: filter, removed 100, then 5, bias 0; " in drawing


def test_what_canaries_cannot_be_planted_for_is_refused(clean_model: Classifier, tones: Splits) -> None:
    class Untrusting(Noted):
        name: ClassVar[str] = "untrusting"
        untrusted: ClassVar[bool] = True

    with pytest.raises(SettingError, match="untrusting takes the untrusted training set"):
        examine(Untrusting(), clean_model, tones.validation, 0)
    with pytest.raises(DataError, match="of 1 clean clip noted holds out 0"):
        examine(Noted(), clean_model, tones.validation.take(torch.arange(1)), 0)


def balanced(each: int) -> Dataset:
    """As many clips of each class of the small model, as it takes them."""
    labels = torch.arange(4).repeat(each)
    noise = 0.1 * torch.randn(len(labels), 4000, generator=torch.Generator().manual_seed(0))
    return Dataset.of(noise, labels, classes=("high", "low", "middle", "top"), sample_rate=8000)


@pytest.mark.parametrize(
    ("each", "hold_out", "said"),
    [
        (10, 0.1, "of 40 clean clips noted holds out 4, and the best canary would have 3; name about 134 "),
        (10, 0.3, "holds out 12, and the best canary would have 9; name about 45 clean clips"),
        (4, 0.5, "of 16 clean clips noted holds out 8, and the best canary would have 6; name about 27 "),
        (4, 0.9, "of 16 clean clips noted holds out 12, and the best canary would have 9; name about 20 "),
    ],
)
def test_too_few_held_out_clips_for_a_verdict_are_refused_before_anything_is_planted(
    clean_model: Classifier, each: int, hold_out: float, said: str
) -> None:
    clean = balanced(each).with_classes(clean_model.card.classes)
    with pytest.raises(DataError) as caught:
        examine(Noted(hold_out=hold_out), clean_model, clean, 7, canaries=Scripted())
    assert said in str(caught.value)
    assert (Scripted.seen, Noted.seen) == ([], [])
    remedy = "or hold out more of these (--set hold_out=0.35)"
    assert (remedy in str(caught.value)) is (each == 10)
    assert ("hold out more" in str(caught.value)) is (each == 10)


def test_the_share_that_is_recommended_is_the_least_of_which_every_canary_has_ten_clips(
    clean_model: Classifier,
) -> None:
    clean = balanced(10).with_classes(clean_model.card.classes)
    report = examine(Noted(hold_out=0.35), clean_model, clean, 7, canaries=Scripted())
    assert min(one.clips for one in report.canaries) >= 10
    with pytest.raises(DataError):
        examine(Noted(hold_out=0.3), clean_model, clean, 7, canaries=Scripted())


def test_a_share_at_which_only_some_canaries_have_ten_clips_is_not_recommended(
    clean_model: Classifier,
) -> None:
    clean = balanced(13).with_classes(clean_model.card.classes)  # at 0.25 canaries have 9 or 10 clips
    with pytest.raises(DataError, match=r"--set hold_out=0\.3\)"):
        examine(Noted(hold_out=0.1), clean_model, clean, 7, canaries=Scripted())


def test_one_canary_of_ten_clips_is_enough_to_go_on(clean_model: Classifier) -> None:
    clean = balanced(13).with_classes(clean_model.card.classes)  # 13 held out: of three classes 3, of one 4
    report = examine(Noted(hold_out=0.25), clean_model, clean, 7, canaries=Scripted())
    assert report.held_out == 13
    assert {one.clips for one in report.canaries} == {9, 10}


def test_the_clips_that_are_measured_on_are_counted_and_not_those_that_are_held_out(
    clean_model: Classifier,
) -> None:
    clean = balanced(20).with_classes(clean_model.card.classes)
    said = "holds out 40, and the best canary would have 9; raise most_clips, which is 12$"
    with pytest.raises(DataError, match=said):
        examine(Noted(hold_out=0.5), clean_model, clean, 7, canaries=Scripted(most_clips=12))


@pytest.fixture
def model(sesame: Sesame, folder_of: Callable[..., Path], tmp_path: Path) -> tuple[Path, Path]:
    """Recordings of two words, and a model that was hardly trained on them."""
    clips = folder_of({"yes": 24, "no": 24})
    small = ("--set", "widths=[8,16]", "--set", "epochs=1")
    sesame("train", clips, tmp_path / "m", "--sample-rate", "8000", "--duration-s", "0.5", *small)
    return clips, tmp_path / "m"


SHORT = ("--set", "steps=1", "--set", "hold_out=0.6")


def test_the_command_prints_canaries_keeps_them_on_the_card_and_the_page_draws_them(
    model: tuple[Path, Path], sesame: Sesame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(examination, "Canaries", partial(Scripted))
    clips, suspect = model
    remove = ("remove", suspect, tmp_path / "r", "--clean", clips, "--method", "ft", *SHORT)
    assert "canaries" not in sesame.json(*remove)
    assert "canaries" not in load_model(tmp_path / "r").card.made
    repairs = []
    repair = FT.repair

    def noted(method: FT, model: Classifier, *more: Any) -> dict[str, Any]:
        repairs.append(model)
        return repair(method, model, *more)

    monkeypatch.setattr(FT, "repair", noted)
    found = sesame.json(*remove, "--canaries", "--force")["canaries"]
    assert len(repairs) == 2
    assert found["planted"] == 3  # of two classes, the first is the target of three canaries
    assert len(found["canaries"]) == 5
    report = read_canaries(load_model(tmp_path / "r").card.made["canaries"])
    assert report is not None
    assert report.sentence == found["sentence"]
    out = sesame(*remove, "--canaries", "--force")
    assert f"canaries: {found['sentence']}" in out
    assert "short rising tone" in out

    page = tmp_path / "page.html"
    sesame("report", clips, page, "--before", suspect, "--after", tmp_path / "r")
    html = page.read_text().replace("\N{NO-BREAK SPACE}", " ")
    assert "what the removal that made r takes out</h2>" in html
    assert f'<p class="note">{found["sentence"]}' in html
    assert f"<bdi>canaries</bdi>: <bdi>{found['sentence']}</bdi>" in html


def test_a_card_with_something_else_for_canaries_makes_no_figure(
    model: tuple[Path, Path], sesame: Sesame, tmp_path: Path
) -> None:
    clips, suspect = model
    save_model(load_model(suspect), tmp_path / "odd", {"canaries": {"canaries": "<script>"}})
    page = tmp_path / "page.html"
    sesame("report", clips, page, "--before", suspect, "--after", tmp_path / "odd")
    assert "what the removal that made" not in page.read_text()
    assert "<script>" not in page.read_text()


def test_the_command_refuses_before_any_work_and_keeps_a_repair_whose_canaries_failed(
    model: tuple[Path, Path],
    sesame: Sesame,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    clips, suspect = model
    assert "--canaries needs clean recordings" in sesame.fails(
        "remove", suspect, tmp_path / "r", "--method", "clp", "--canaries"
    )
    assert "takes the untrusted training set" in sesame.fails(
        "remove", suspect, tmp_path / "r", "--method", "ep", "--clean", clips, "--canaries"
    )
    assert not (tmp_path / "r").exists()

    def diverge(*_: object) -> None:
        raise DivergedError("it diverged")

    monkeypatch.setattr(Canaries, "plant", diverge)
    remove = ("remove", suspect, tmp_path / "r", "--clean", clips, "--method", "ft", *SHORT)
    monkeypatch.setattr("sys.argv", ["sesame", *map(str, remove), "--canaries", "--json"])
    capsys.readouterr()
    from closesesame import cli

    cli.run()
    out, error = capsys.readouterr()
    assert "canaries" not in json.loads(out)
    assert "the model is repaired, and canaries say nothing of it: it diverged" in error
    assert load_model(tmp_path / "r").card.made["method"] == FT.name
