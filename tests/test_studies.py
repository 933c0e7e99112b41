"""Studies of `benchmarks/measure`: figures by hand, tiny runs that stop and go on, and their pages."""

import copy
import json
import math
import re
import sys
from collections.abc import Callable
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks import render
from benchmarks.__main__ import main as benchmarks
from benchmarks.measure import canaries, courses, few_clips, studies, why_asap, why_restore
from benchmarks.measure.canaries import canaries_in, jobs
from benchmarks.render import canaries as shown
from benchmarks.render import courses as drawn_courses
from benchmarks.render import pages
from benchmarks.render.why import why
from closesesame.attacks import BadNets
from closesesame.bench.grid import open_store
from closesesame.bench.identity import Machine
from closesesame.bench.judging import Truth
from closesesame.bench.queue.artifacts import ArtifactStore
from closesesame.bench.queue.runner import Watcher, only_driver
from closesesame.bench.queue.store import Job
from closesesame.bench.queue.worker import Scope, perform
from closesesame.bench.recipe import Recipe, read_recipe
from closesesame.bench.stages import plan
from closesesame.bench.tasks import truth_of, untrusted_set
from closesesame.canaries import Canaries
from closesesame.core import machine
from closesesame.data import Dataset, Splits
from closesesame.evaluation import CanaryReport, Exam
from closesesame.evaluation import canaries as examination
from closesesame.evaluation.canaries import Measured
from closesesame.models import Classifier, load_model
from closesesame.models.files import sha256_of
from closesesame.purification import Lowpass, Purifier
from closesesame.purification.common.waveforms import Fixed
from closesesame.removal import Removal
from closesesame.robust_training import Screened
from closesesame.training.features import features_of

RECIPE = """
name = "small"
rates = [0.2]
clean_fractions = [0.2]
training = { epochs = 12, batch_size = 16 }
protocol = { clean_from = "train", budgets = ["published"] }
data = [{ name = "words", source = "set", sample_rate = 8000, duration_s = 0.5 }]
model = [{ name = "resnet", settings = { widths = [8, 16] } }]
attack = ["ultrasonic"]
removal = [
    { name = "restore", settings = { steps = 2, views = 2, kept_share = 0 } },
    { name = "ft", label = "ft, weak", settings = { steps = 2 } },
]
"""


@pytest.fixture
def run(
    folder_of: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., dict[str, Any]]:
    """Runs a study in a store of its own, in this process or in a worker, and reads its result file."""
    folder_of({"yes": 24, "no": 24, "up": 24, "down": 24})

    def go(name: str, *words: object, recipe: str = RECIPE) -> dict[str, Any]:
        (tmp_path / "small.toml").write_text(recipe)
        out = tmp_path / f"{name}.json"
        said = [name, tmp_path, tmp_path / "store", "--recipe", tmp_path / "small.toml", "--out", out, *words]
        monkeypatch.setattr(sys, "argv", ["benchmarks", *map(str, said)])
        assert benchmarks() == 0
        return dict(json.loads(out.read_text()))

    return go


DONE: list[str] = []


def in_this_process(
    folder: Path, *, workers: int, timeout_s: float, scope: Scope, watch: Watcher, most: int = 100
) -> None:
    """What the driver of a store does, without workers; it stops after so many jobs."""
    tasks, artifacts = scope.load(), ArtifactStore(folder)
    with only_driver(folder) as store:
        while len(DONE) < most and (job := store.claim("me")) is not None:
            store.finish(job.id, "me", perform(job, artifacts, tasks))
            DONE.append(job.label)
            watch(store)
        watch(store)


def test_a_study_of_why_has_a_row_a_model_and_points_to_draw(run: Callable[..., dict[str, Any]]) -> None:
    content = run("why_restore", "--workers", "1")
    rows = {row["model"]: row for row in content["rows"]}
    assert list(rows) == ["victim", "restore", "ft, weak", "clean reference model"]
    assert rows["victim"]["distance"] == 0
    assert rows["victim"]["cka"] == pytest.approx(1)
    assert rows["restore"]["distance"] > rows["ft, weak"]["distance"] > 0
    for row, drawn in zip(content["rows"], content["drawn"], strict=True):
        assert (drawn["model"], drawn["attack"]) == (row["model"], row["attack"])
        assert -1 <= row["cosine"] <= 1
        assert sum(drawn["cosines"]) == len(drawn["triggered"])
        assert all(len(point) == 2 for point in drawn["target"])
    page = pages.render("removals", {"why_restore": content})
    assert "| words | ultrasonic | 0 | victim |" in page
    assert "](why_restore.svg)" in page
    drawing = why(content)
    points = sum(len(drawn[kind]) for drawn in content["drawn"] for kind in ("other", "target", "triggered"))
    assert drawing.count("<circle") == points + 3
    assert "ft, weak</text>" in drawing


ASAP = (
    RECIPE.partition("removal")[0]
    + """
purification = [{ name = "lowpass", settings = { cutoff_hz = 1000 } }]
removal = [
    { name = "asap", settings = { steps = 2, threshold = 0.3, tolerance = 0.9, step = 0.1 } },
    { name = "ft", settings = { steps = 2 } },
]
robust_training = [{ name = "screened", settings = { detection = "training_loss", dropped_share = 0.25 } }]
"""
)


def test_a_study_of_asap_has_a_row_a_defence(
    run: Callable[..., dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(studies, "run", in_this_process)
    content = run("why_asap", "--workers", "1", recipe=ASAP)
    rows = {row.pop("defence"): row for row in content["rows"]}
    assert list(rows) == ["asap", "ft", "screened", "lowpass"]
    where = {"data": "words", "attack": "ultrasonic", "seed": 0}
    assert rows["ft"] == where | {"pruned": 0, "units": rows["asap"]["units"]}
    assert rows["lowpass"] == where | {"lowered_dB": rows["lowpass"]["lowered_dB"]}
    assert rows["lowpass"]["lowered_dB"] > 20  # the trigger is at 3,500 Hz
    assert rows["asap"]["lowered_dB"] < rows["lowpass"]["lowered_dB"]
    assert (rows["asap"]["pruned"], rows["asap"]["units"]) == (5, 16)
    dropped = rows["screened"]
    assert dropped["dropped"] == 20
    assert 0 <= dropped["poisoned_and_dropped"] <= dropped["poisoned"] < dropped["dropped"]


def test_poisoned_clips_among_those_that_the_victim_has_dropped_are_counted(
    clean_model: Classifier, tones: Splits
) -> None:
    labels = tones.train.labels.clone()
    labels[:6] = (labels[:6] + 1) % 4  # the model finds these most suspicious
    untrusted = tones.train.with_labels(labels)
    poisoned = {name: row in {0, 1, 2, 8} for row, name in enumerate(untrusted.ids)}
    truth = Truth(
        make_exam=pytest.fail,
        load_suspect=lambda: clean_model,
        read_mask=lambda: poisoned,
        read_target=pytest.fail,
        backdoored=True,
    )
    screened = Screened(detection="confident_learning", dropped_share=6 / len(untrusted))
    found = why_asap.dropped(screened, truth, untrusted, 0)
    assert found == {"dropped": 6, "poisoned": 4, "poisoned_and_dropped": 3}


def test_what_a_trigger_adds_is_lowered_by_the_median_clip(
    clean_model: Classifier, tones: Splits, monkeypatch: pytest.MonkeyPatch
) -> None:
    exam = Exam(tones.test, BadNets(target=2, strength=3).trigger(tones.train, 0))
    card = clean_model.card

    def half(clips: torch.Tensor) -> torch.Tensor:
        louder = clips.clone()
        louder[len(clips) // 2 + 1 :] = 0  # nothing is left of a trigger in the last clips
        return louder / 2

    purifier = Purifier(Lowpass(), Fixed(half), card.sample_rate, card.input_shape, {}, 0.0)
    assert why_asap.lowered_db(purifier, exam) == pytest.approx(20 * math.log10(2), abs=1e-3)
    asked: list[tuple[int, int]] = []

    def drawn(n: int, most: int) -> torch.Tensor:
        asked.append((n, most))
        return torch.tensor([4])

    monkeypatch.setattr(why_asap, "spread", drawn)
    assert why_asap.lowered_db(purifier, exam) == pytest.approx(20 * math.log10(2), abs=1e-3)
    assert exam.triggered is not None
    assert asked == [(len(exam.triggered), 90)]


def test_models_are_trained_where_the_study_is_told(
    run: Callable[..., dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    def here(precision: str, device: str) -> Machine:
        raise SystemExit(f"{precision} on {device}")

    monkeypatch.setattr(Machine, "here", here)
    with pytest.raises(SystemExit, match="fp32 on cuda"):
        run("why_restore", "--device", "cuda")


def test_a_study_of_few_clips_has_a_row_a_source_of_speech(
    run: Callable[..., dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(studies, "run", in_this_process)
    monkeypatch.setattr(few_clips, "FOLDERS", {"digits": "set"})
    monkeypatch.setattr(few_clips, "SOURCES", ("none", "digits"))
    monkeypatch.setattr(few_clips, "MOST_CLIPS", 20)
    DONE.clear()
    recipe = RECIPE.replace('    { name = "ft", label = "ft, weak", settings = { steps = 2 } },\n', "")
    rows = run("few_clips", recipe=recipe)["rows"]
    assert [(row["audio"], row["audio_clips"]) for row in rows] == [("none", 0), ("digits", 20)]
    assert rows[0]["believed_unlabelled_clips"] == 0
    assert 0 < rows[1]["believed_unlabelled_clips"] <= 20
    assert {row["method"] for row in rows} == {"restore"}
    assert rows[0]["clean_clips"] == rows[1]["clean_clips"] > 0


ROBUST = """
attack = ["pbsm", "ultrasonic"]
robust_training = [
    "plain",
    { name = "dlp", settings = { supervised_epochs = 2, unlearning_steps = 3, training = { epochs = 2 } } },
]
"""


def test_a_study_of_courses_has_figures_of_every_epoch_and_trains_on_the_clean_set_once(
    run: Callable[..., dict[str, Any]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(studies, "run", in_this_process)
    DONE.clear()
    recipe = RECIPE.partition("attack =")[0].replace("epochs = 12", "epochs = 4") + ROBUST
    rows = run("courses", recipe=recipe)["rows"]
    assert [(row["attack"], row["poisoning_rate"], row["method"]) for row in rows] == [
        ("pbsm", 0.0, "plain"),
        ("pbsm", 0.0, "dlp"),
        ("pbsm", 0.2, "plain"),
        ("pbsm", 0.2, "dlp"),
        ("ultrasonic", 0.2, "plain"),
        ("ultrasonic", 0.2, "dlp"),
    ]
    for row in rows:
        lengths = {
            stage: {len(course[name]) for name in courses.FIGURES} for stage, course in row["course"].items()
        }
        assert lengths == (
            {"training": {4}} if row["method"] == "plain" else {"SL": {2}, "AU": {3}, "ASSFT": {2}}
        )
        fitted = [share for course in row["course"].values() for share in course["poisoned_fitted"]]
        assert all(share is None for share in fitted) == (not row["poisoning_rate"])
    # The last epoch of plain training is the suspect of a grid.
    with closing(open_store(tmp_path / "store")) as store:
        cells = [found.job for found in store.rows() if found.job.task.endswith(":watched")]
    known = planned_from(tmp_path / "small.toml", tmp_path)
    for row, job in zip(rows, cells, strict=True):
        if row["method"] == "plain":
            places = ArtifactStore(tmp_path / "store")
            cell = courses.Course.read(job.payload)
            suspect = next(one for one in known if one.id == cell.suspect)
            perform(suspect, places, Scope().load())
            model, truth = load_model(places.artifact(cell.suspect)), truth_of(cell, places)
            data = untrusted_set(cell, cell.poisoned, places)
            with machine.precision(job.payload["machine"]["precision"]):
                found = courses.figures(model, truth.exam, data, courses.mask_of(truth.read_mask(), data))
            assert found == {name: row["course"]["training"][name][-1] for name in courses.FIGURES}


def test_a_model_that_answers_the_same_to_every_clip_has_figures_in_a_course(
    clean_model: Classifier, tones: Splits
) -> None:
    exam = Exam(tones.test, BadNets(target=tones.test.classes[0]).trigger(tones.train, 0))
    model = copy.deepcopy(clean_model)
    *_, head = (part for part in model.modules() if isinstance(part, torch.nn.Linear))
    with torch.no_grad():
        head.weight.zero_()
        head.bias.copy_(torch.eye(len(head.bias))[0])
    poisoned = tones.train.labels == 1
    found = courses.figures(model, exam, tones.train, poisoned)
    of_class = (tones.test.labels == 0).float().mean()
    clean = (tones.train.labels[~poisoned] == 0).float().mean()
    assert found == {
        "acc": pytest.approx(float(of_class)),
        "asr": 1.0,
        "ra": 0.0,
        "clean_fitted": pytest.approx(float(clean)),
        "poisoned_fitted": 0.0,
    }


def planned_from(recipe: Path, data: Path) -> list[Job]:
    return plan(read_recipe(recipe), data)


def course(clean: list[float], poisoned: list[float]) -> dict[str, list[float]]:
    other = {"acc": [0.1, 0.2, 0.3, 0.4], "asr": [0.2, 0.3, 0.4, 0.5], "ra": [0.1, 0.2, 0.3, 0.4]}
    return {**other, "clean_fitted": clean, "poisoned_fitted": poisoned}


def test_what_is_learned_first_is_told_attack_by_attack() -> None:
    where = {"data": "words", "model": "resnet", "seed": 0, "poisoning_rate": 0.05}
    early, late = [0.2, 0.6, 0.9, 1.0], [0.1, 0.2, 0.3, 0.7]
    rows = [
        where | {"method": "plain", "attack": "hum", "course": {"training": course(late, early)}},
        where | {"method": "plain", "attack": "pitch", "course": {"training": course(early, late)}},
        where | {"method": "plain", "attack": "echo", "course": {"training": course(early, early)}},
        where | {"method": "plain", "attack": "faint", "course": {"training": course(early, [0.0] * 4)}},
        where | {"method": "plain", "attack": "loud", "course": {"training": course([0.5] * 4, [0.61] * 4)}},
        where | {"method": "plain", "attack": "soft", "course": {"training": course([0.61] * 4, [0.5] * 4)}},
        where | {"method": "plain", "attack": "even", "course": {"training": course([0.5] * 4, [0.59] * 4)}},
        where
        | {
            "method": "dlp",
            "attack": "hum",
            "course": {"SL": course(late, early), "AU": course(late, early)},
        },
    ]
    content = {"recipe": "courses", "about": "About.", "host": HOST, "rows": rows}
    text = "\n".join(drawn_courses.section(content))
    assert "| resnet | hum | 0 | 10 / 20 | 20 / 60 | 30 / 90 | 70 / 100 | 4 | 2 | poisoned |" in text
    assert "| resnet | pitch | 0 | 20 / 10 | 60 / 20 | 90 / 30 | 100 / 70 | 2 | 4 | clean |" in text
    assert "| 2 | 2 | together |" in text
    assert "| 2 | – | clean |" in text
    for attack, first in (("loud", "poisoned"), ("soft", "clean"), ("even", "together")):
        assert re.search(rf"\| {attack} \|.*\| 1 \| 1 \| {first} \|", text)
    assert (
        "| resnet | dlp | hum | 5 % | 0 | 20 / 30 / 20 | 40 / 50 / 40 | 20 / 30 / 20 | 40 / 50 / 40 |" in text
    )
    for stage in ("SL", "AU"):
        assert f"| resnet | dlp | hum | 5 % | {stage} | 10/20, 20/30, 30/40, 40/50 |" in text
    drawing = drawn_courses.learned(content)
    assert drawing.count("<polyline") == 2 * 7 + 2
    x, y = drawn_courses.LEFT + drawn_courses.PANEL / 4, drawn_courses.TOP + 16 + drawn_courses.TALL * 0.8
    assert f'points="{x:.1f},{y:.1f} ' in drawing  # 20 % of the poisoned clips of the first attack
    assert "](courses.svg)" in pages.render("untrusted", {"courses": content})


def test_a_study_of_canaries_stops_and_goes_on_and_has_a_row_a_repair(
    run: Callable[..., dict[str, Any]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(examination, "Canaries", partial(Canaries, steps=2, changed_views=0))
    monkeypatch.setattr(examination, "LEAST_CLIPS", 1)
    seen = []

    def noted(
        removal: Removal, suspect: Classifier, clean: Dataset, seed: int, *, repaired: Classifier
    ) -> Any:
        seen.append((removal.name, seed, len(clean), sha256_of(suspect), sha256_of(repaired)))
        return examination.examine(removal, suspect, clean, seed, repaired=repaired)

    monkeypatch.setattr(canaries, "examine", noted)
    monkeypatch.setattr(studies, "run", in_this_process)
    DONE.clear()
    assert [row["repair"] for row in run("canaries", "--only", "restore")["rows"]] == ["restore"]
    first = [label.partition(":")[0] for label in DONE]
    assert first.index("canaries") == 7  # trigger, set, two models, a repair and two judges come before it
    monkeypatch.setattr(studies, "run", partial(in_this_process, most=len(DONE) + 1))
    assert [row["repair"] for row in run("canaries")["rows"]] == ["restore"]  # stopped before the next case
    monkeypatch.setattr(studies, "run", in_this_process)
    content = run("canaries")
    assert len(set(DONE)) == len(DONE)
    assert [row["repair"] for row in content["rows"]] == ["restore", "ft, weak"]
    done = len(DONE)
    assert run("canaries", "--only", "ft, weak", "pbsm")["rows"] == content["rows"]
    assert len(DONE) == done
    row = content["rows"][1]
    with closing(open_store(tmp_path / "store")) as store:
        cells = [found.job.payload for found in store.rows() if found.job.task.endswith(":examined")]
        judged = [found for found in store.rows() if found.job.task.endswith(":judge")]
    place = ArtifactStore(tmp_path / "store").artifact
    wanted = [(sha256_of(place(cell["suspect"])), sha256_of(place(cell["repaired"]))) for cell in cells]
    assert [found[3:] for found in seen] == wanted
    assert len({name for pair in wanted for name in pair}) == 3
    assert [found[:3] for found in seen] == [(name, 0, row["clean_clips"]) for name in ("restore", "ft")]
    kept = {found.job.payload["labels"]["method"]: found.result for found in judged}
    for row in content["rows"]:
        for key in ("acc", "asr", "ra", "ra_reference", "triggered_clips"):
            assert row[key] == kept[row["repair"]][key]
        assert (row["acc_before"], row["asr_before"]) == (kept["none"]["acc"], kept["none"]["asr"])
    assert kept["none"]["asr"] != kept["restore"]["asr"]
    assert kept["none"]["acc"] != kept["restore"]["acc"]
    assert (row["model"], row["attack"], row["target"], row["seed"]) == ("resnet", "ultrasonic", 0, 0)
    assert 0 <= row["asr"] <= 1
    assert row["held_out_clips"] > 0
    with pytest.raises(SystemExit, match="no case of small has 'pbsm' or 'x' in its label"):
        run("canaries", "--only", "pbsm", "x")


def test_the_row_of_a_model_compares_each_triggered_clip_with_itself_and_with_the_classes(
    clean_model: Classifier, tones: Splits
) -> None:
    exam = Exam(tones.test, BadNets(target=2, strength=3).trigger(tones.train, 0))
    assert exam.triggered is not None
    row, drawn = why_restore.figures(clean_model, clean_model, exam)
    clean, played = features_of(clean_model, tones.test), features_of(clean_model, exam.triggered)
    means = [
        torch.stack([one / one.norm() for one in clean[tones.test.labels == label]]).mean(0)
        for label in range(4)
    ]
    target = own = total = 0.0
    for name, label, feature in zip(exam.triggered.ids, exam.triggered.labels, played, strict=True):
        scores = [float(feature @ mean / feature.norm() / mean.norm()) for mean in means]
        target += scores.index(max(scores)) == 2
        own += scores.index(max(scores)) == int(label)
        same = clean[tones.test.ids.index(name)]
        total += float(feature @ same / feature.norm() / same.norm())
    count = len(played)
    assert target != own
    assert (row["nearest_target"], row["nearest_own"]) == pytest.approx((target / count, own / count))
    assert row["cosine"] == pytest.approx(total / count)
    assert len(drawn["target"]) == 50
    assert len(drawn["other"]) == len(drawn["triggered"]) == why_restore.MOST_POINTS


def planned(**more: Any) -> list[Job]:
    given: dict[str, Any] = {
        "protocol": {"budgets": ["published"]},
        "attack": ["pbsm", "ultrasonic"],
        "removal": ["restore", "clp"],
        **more,
    }
    recipe = Recipe(
        name="grid", rates=(0.1,), data=[{"name": "speech", "source": "synthetic"}], seeds=(0, 1), **given
    )
    return plan(recipe, Path(), machine=Machine("fp32", "some", "2.0"))


def test_cases_mix_attacks_and_models_and_each_waits_for_what_it_needs_alone() -> None:
    every = planned(model=["resnet", "small_cnn"])
    own = jobs(every)
    assert len(own) == 2 * 2 * 2 * 2
    order = [(job.payload["seed"], job.payload["labels"]["attack"]) for job in own]
    assert order == [(seed, attack) for seed in (0, 1) for attack in ("pbsm", "ultrasonic") for _ in range(4)]
    assert [job.payload["labels"]["model"] for job in own[:4]] == [
        "resnet",
        "resnet",
        "small_cnn",
        "small_cnn",
    ]
    first = studies.with_needs(own[:1], every)
    assert [job.label.partition(":")[0] for job in first] == [
        "trigger", "poisoned set", "suspect", "remove", "clean model", "restore 5 %", "none", "canaries",
    ]  # fmt: skip
    seen: set[str] = set()
    for job in studies.with_needs(own, every):
        assert set(job.needs) <= seen
        seen.add(job.id)
    assert not any(
        " 0 %" in job.label for job in studies.with_needs(own, every)
    )  # no repair of a clean model


def test_the_models_of_both_studies_are_the_same_jobs() -> None:
    one, other = planned(), planned(removal=["restore"])
    made = [
        studies.with_needs(study, every)
        for study, every in ((jobs(one), one), (why_restore.jobs(other), other))
    ]
    ids = [{job.id for job in found if job.task.endswith(":train_suspect")} for found in made]
    assert ids[0] == ids[1] != set()
    repaired = [
        {job.id for job in found if "restore" in job.label and "run_method" in job.task} for found in made
    ]
    assert repaired[0] == repaired[1] != set()


def measured(planted: int, after: int, bias: int, family: str) -> Measured:
    return Measured(
        family=family, detail="drawn", target="yes", clips=20, planted=planted, after=after, bias=bias
    )


def test_a_row_has_the_mean_of_planted_canaries_above_their_bias() -> None:
    canaries = (measured(20, 8, 2, "filter"), measured(16, 2, 4, "noise"), measured(15, 9, 1, "voice"))
    report = CanaryReport(
        canaries=canaries, held_out=25, acc_suspect=1, acc_planted=0.96, acc_after=0.92, seconds=70
    )
    row = canaries_in(report)
    assert (row["planted"], row["removed"], row["unclear"], row["held_out_clips"]) == (2, 1, 0, 25)
    vague = measured(20, 13, 12, "filter")  # its bias is above a half
    assert canaries_in(report.model_copy(update={"canaries": (vague,)}))["unclear"] == 1
    assert row["canary_asr_above_bias"] == pytest.approx((6 - 2) / 2 / 20)
    assert row["canary_asr_planted"] == pytest.approx(0.9)
    each = {name.partition(",")[0]: value for name, value in row.items() if name.endswith("above bias")}
    assert each == {"filter": pytest.approx(0.3), "noise": pytest.approx(-0.1), "voice": None}
    none = canaries_in(report.model_copy(update={"canaries": canaries[2:]}))
    assert none["canary_asr_above_bias"] is None


def test_equal_values_share_the_mean_of_their_ranks() -> None:
    assert shown.ranks([3.0, 1.0, 3.0, 2.0, 3.0]) == [4, 1, 4, 2, 4]
    # Ranks (1, 2.5, 2.5, 4) and (1, 3, 2, 4): 4.5 / sqrt(4.5 * 5).
    assert shown.spearman([1, 2, 2, 400], [10, 30, 20, 31]) == pytest.approx(4.5 / math.sqrt(22.5))
    assert shown.spearman([1, 2, 3], [9, 4, 1]) == pytest.approx(-1)
    assert shown.spearman([1, 1], [2, 3]) is None
    assert shown.spearman([], []) is None


def case(asr: float, above: float | None, planted: int = 5, removed: int = 5, **more: Any) -> dict[str, Any]:
    where = {"data": "words", "model": "resnet", "attack": "hum", "seed": 0, "repair": "restore"}
    found = {"asr_before": 1.0, "asr": asr, "canary_asr_above_bias": above}
    return where | found | {"planted": planted, "removed": removed, "unclear": 0} | more


CASES = [
    case(0.1, 0.0),
    case(0.2, 0.02),
    case(0.0, -0.05),
    case(0.05, 0.3, removed=4, repair="ft"),
    case(0.9, 0.8, removed=0, repair="ft", seed=1),
    case(0.9, 0.5, removed=3, repair="ft", seed=2),
    case(0.9, None, planted=0, removed=0, repair="ft"),  # no canary says anything of it
    case(0.9, 0.0, asr_before=0.79),  # no backdoor to be found
]
HOST = {"processor": "a processor", "cores": 2, "torch": "2.0"}
CONTENT = {"recipe": "canaries", "about": "About.", "version": "1", "host": HOST, "rows": CASES}


def test_false_comfort_and_false_alarm_count_cases_with_a_backdoor_and_a_canary() -> None:
    rows = shown.usable(CASES)
    assert len(rows) == 6
    comfort, alarm = shown.false_comfort(rows), shown.false_alarm(rows)
    assert (comfort.hits, comfort.of) == (1, 3)  # 10 % is gone, 20 % is not
    assert (alarm.hits, alarm.of) == (1, 3)
    bound = shown.false_alarm([row | {"asr": 0.1} for row in rows if row["removed"] < row["planted"]])
    assert bound.hits == bound.of  # 10 % is gone here, too
    vague = {"planted": 3, "removed": 2, "unclear": 1}
    assert shown.false_comfort([*rows, rows[0] | vague | {"asr": 0.5}]).of == 4  # the unclear is not left
    assert shown.false_alarm([*rows, rows[0] | vague | {"asr": 0.0}]).of == 3
    assert shown.usable([rows[0] | {"planted": 1, "removed": 0, "unclear": 1}]) == []
    text = "\n".join(shown.section(CONTENT))
    assert "6 repairs of 3 victims" in text
    assert "2 other rows are not counted" in text
    assert (
        "| all | 6 | 35.8 | 26.2 | 3 | 0.81 | 1 of 3: 33.3 % [6.1, 79.2] | 1 of 3: 33.3 % [6.1, 79.2] |"
        in text
    )
    assert "| repair: ft | 3 |" in text
    assert "](canaries.svg)" in text


def test_a_dot_stands_where_both_figures_are_and_is_full_if_all_canaries_are_gone() -> None:
    drawing = shown.scatter(CONTENT)
    x = shown.LEFT + shown.PANEL * (0.8 + 0.1) / 1.1
    y = shown.TOP + shown.PANEL * (1 - 0.9)
    assert f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4" fill="none" stroke="{shown.COLOURS[1]}"/>' in drawing
    x, y = shown.LEFT + shown.PANEL * 0.1 / 1.1, shown.TOP + shown.PANEL * 0.9
    assert f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4" fill="{shown.COLOURS[0]}"' in drawing
    assert drawing.count("<circle") == 6 + 2


def test_figures_are_drawn_where_there_are_results_and_are_stale_if_these_change() -> None:
    kept = {path.stem: json.loads(path.read_text()) for path in render.RESULTS.glob("*.json")}
    kept = {name: content for name, content in kept.items() if name not in render.FIGURES}
    place = render.RESULTS / "canaries.svg"
    assert place not in render.rendered(kept)
    before = render.rendered(kept | {"canaries": CONTENT})[place]
    changed = {**CONTENT, "rows": [CASES[0] | {"asr": 0.5}, *CASES[1:]]}
    assert render.rendered(kept | {"canaries": changed})[place] != before


def test_features_are_told_by_the_nearest_class_and_cosines_are_of_different_classes() -> None:
    # By distance the third clip would be nearest to class 1, by cosine it is of class 0.
    features = torch.tensor([[10.0, 0.0], [0.0, 1.0], [1.0, 0.5]])
    labels = torch.tensor([0, 1, 0])
    means = why_restore.class_means(features[:2], labels[:2], 3)
    assert means[:2].tolist() == [[1, 0], [0, 1]]
    assert why_restore.nearest_class(features, means).tolist() == [0, 1, 0]
    # Clips 0 and 1 have cosine 0, clips 2 and 1 have 0.5 / sqrt(1.25).
    assert why_restore.between_classes(features, labels) == pytest.approx(0.25 / math.sqrt(1.25))


def test_the_plane_has_the_axis_of_most_variance_first_and_signs_are_fixed() -> None:
    points = torch.tensor([[5.0, 0.0, -3.0], [5.0, 0.0, 3.0], [5.0, 1.0, 0.0], [5.0, -1.0, 0.0]])
    assert torch.allclose(why_restore.plane_of(points).T, torch.tensor([[0.0, 0.0, 1.0], [0.0, 1.0, 0.0]]))
    turned = why_restore.plane_of(-points)
    assert torch.allclose(turned, why_restore.plane_of(points))
