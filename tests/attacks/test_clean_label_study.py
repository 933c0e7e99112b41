"""How near clips of clean-label attacks come to their anchors: what is counted, and what is drawn of it."""

import json
import re
import sys
from pathlib import Path

import pytest
import torch

from benchmarks.measure import clean_label as study
from benchmarks.measure.clean_label import ATTACKS, OUT, asked, bits_read, counted, distances, measured
from benchmarks.render.clean_label import clean_label
from benchmarks.render.pages import render
from closesesame.attacks import DRLCLBA, FeatureCollision, Trigger
from closesesame.attacks.common.collision import Goal
from closesesame.data import Splits
from closesesame.evaluation.stealth import spread
from closesesame.models import Classifier
from tests.attacks.stamping import speech
from tests.conftest import RATE

QUICK = FeatureCollision.quick | {"rate": 0.1, "anchors": 30}


def test_every_attack_is_measured_in_every_mode() -> None:
    own = [
        f"{name}: {mode}"
        for name in ("drl_clba", "feature_collision")
        for mode in ("anchor_stego", "anchor", "gradient")
    ]
    assert list(ATTACKS)[:6] == own
    for name, attack in ATTACKS.items():
        assert name.partition(",")[0] == f"{attack.name}: {attack.mode}"
        assert attack.rate == 0.05
    others = {name: attack.settings() for name, attack in ATTACKS.items() if name not in own}
    assert [(name, given.get("steps"), given.get("discount")) for name, given in others.items()] == [
        ("feature_collision: anchor_stego, 35 steps", 35, None),
        ("feature_collision: anchor, 35 steps", 35, None),
        ("drl_clba: anchor_stego, discount 0.99", None, 0.99),
    ]


def test_gradient_steps_that_are_called_equal_pass_as_many_clips_through_the_surrogate() -> None:
    rows = {row["attack"]: row for row in json.loads(OUT.read_text())["rows"]}
    agent, steps = rows["drl_clba: anchor_stego"], rows["feature_collision: anchor_stego, 35 steps"]
    assert steps["forward"] + 2 * steps["backward"] == pytest.approx(agent["forward"], rel=0.02)


def test_clips_come_nearer_and_passes_are_counted(tones: Splits, known: Classifier) -> None:
    for mode, carries in (("anchor_stego", True), ("anchor", False)):
        attack = FeatureCollision(**QUICK | {"mode": mode, "steps": 7})
        row, drawn = measured("this", attack, tones.train, 0)
        count = round(0.1 * len(tones.train))
        assert (row["attack"], row["clips"]) == ("this", count)
        assert row["distance, moved"] < row["distance, carried"]
        assert (row["distance, carried"] != row["distance, clean"]) == carries
        assert row["backward"] == 7 * count
        # Clips of the target class are ranked, anchors are asked for, and each clip once for its anchor.
        of_target = int((tones.train.labels == 0).sum())
        assert row["forward"] == of_target + 30 + count + row["backward"]
        assert row["reward, first tenth"] is None
        assert drawn["curve"] == []
        low, middle, high = drawn["moved"]
        assert low <= middle <= high
        poisoned = attack.poison(tones.train, 0)
        rows = poisoned.poisoned_mask.nonzero().flatten()
        clean, moved = (data.inputs[rows] for data in (tones.train, poisoned.dataset))
        others = tones.train.inputs[tones.train.labels != 0]
        played = poisoned.trigger.stamp(others[spread(len(others))])
        ratios = 20 * (clean.norm(dim=1) / (moved - clean).norm(dim=1)).log10()
        assert row["bits, played"] == bits_read(attack, played, poisoned.trigger)
        assert row["bits, planted"] == bits_read(attack, moved, poisoned.trigger)
        assert row["snr_db"] == pytest.approx(float(ratios.mean()), abs=0.01)


def test_nearer_are_clips_that_lie_nearer_than_before_they_were_moved(
    tones: Splits, known: Classifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    far = iter([torch.tensor([1.0, 1.0, 1.0, 9.0]), torch.tensor([5.0, 5.0, 2.0, 2.0])])
    moved = torch.tensor([4.0, 4.0, 4.0, 4.0])
    monkeypatch.setattr("benchmarks.measure.clean_label.distances", lambda *_: next(far, moved))
    row, _ = measured("this", FeatureCollision(**QUICK), tones.train, 0)
    assert row["nearer"] == 0.5


def test_anchors_are_those_nearest_to_clips_before_they_are_moved(
    tones: Splits, known: Classifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By hand, the anchor nearest to a clip is its own features; it is asked for with the key in the clip."""
    monkeypatch.setattr(Goal, "nearest", lambda _, features: features)
    used: list[torch.Tensor] = []
    places: list[torch.Tensor] = []

    def noted(goal: Goal, clips: torch.Tensor, anchors: torch.Tensor) -> torch.Tensor:
        places.append(asked(goal, clips)[0])
        used.append(anchors)
        return distances(goal, clips, anchors)

    monkeypatch.setattr(study, "distances", noted)
    measured("this", FeatureCollision(**QUICK), tones.train, 0)
    clean, carried, _ = places
    assert not torch.allclose(clean, carried, rtol=0.01)
    assert all(torch.equal(anchors, carried) for anchors in used)
    assert len(used) == 3


def test_bits_are_those_that_are_read(tones: Splits, monkeypatch: pytest.MonkeyPatch) -> None:
    attack = FeatureCollision()
    key = torch.ones(8, 4)
    found = torch.ones(3, 8, 4)
    found[0, 0] = found[2, 3, 3] = -2
    monkeypatch.setattr(FeatureCollision, "keys_in", lambda *_: found)
    trigger = Trigger(attack, {"key": key}, speech(RATE), 0, tones.train.classes)
    assert bits_read(attack, torch.zeros(3, 10), trigger) == pytest.approx(1 - 5 / 96)
    trigger = Trigger(attack, {"key": -key}, speech(RATE), 0, tones.train.classes)
    assert bits_read(attack, torch.zeros(3, 10), trigger) == pytest.approx(5 / 96)


def test_answers_that_need_no_gradient_are_not_followed_backwards(known: Classifier) -> None:
    clips = torch.zeros(3, 4000)
    with counted(known) as found:
        known(clips)
        known(clips[:2].requires_grad_())
    known(clips)
    assert found == {"forward": 5, "backward": 2}


def test_rewards_are_means_over_a_tenth(
    tones: Splits, known: Classifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    agent = pytest.importorskip("closesesame.attacks.common.agent", reason="the extra rl is not installed")
    learn = agent.learn
    curve = torch.arange(20.0)
    monkeypatch.setattr(agent, "learn", lambda *words: (learn(*words)[0], curve))
    attack = DRLCLBA(**DRLCLBA.quick | {"rate": 0.1, "anchors": 30})
    row, drawn = measured("agent", attack, tones.train, 0)
    assert (row["reward, first tenth"], row["reward, last tenth"]) == (0.5, 18.5)
    assert drawn["curve"] == curve.tolist()
    assert row["backward"] == 0
    # The agent sees 8 clips at the begin of three episodes, of which it plays two, and after 2 * 3 steps.
    # Clips of the target class are ranked, anchors are asked for twice, and each clip after 3 steps.
    of_target, count = int((tones.train.labels == 0).sum()), round(0.1 * len(tones.train))
    assert row["forward"] == (3 + 2 * 3) * 8 + of_target + 2 * 30 + count * (1 + 3)


def test_rows_that_stay_were_measured_as_those_that_are_measured_again(
    tones: Splits, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """One head stands for all rows; what was measured otherwise is replaced as a whole or not at all."""
    out, numbers = tmp_path / "clean_label.json", iter(range(100))
    monkeypatch.setattr(study, "OUT", out)
    monkeypatch.setattr(study, "load_splits", lambda _: tones)
    monkeypatch.setattr(
        study, "measured", lambda name, *_: ({"attack": name, "number": next(numbers)}, {"attack": name})
    )

    def run(*names: str) -> tuple[list[str], list[int]]:
        monkeypatch.setattr(sys, "argv", ["clean_label", "data", *names])
        assert study.main() == 0
        rows = json.loads(out.read_text(encoding="utf-8"))["rows"]
        return [row["attack"] for row in rows], [row["number"] for row in rows]

    first, second, *_ = ATTACKS
    assert run(second) == ([second], [0])
    assert run(first) == ([first, second], [1, 0])
    assert run(first) == ([first, second], [2, 0])
    monkeypatch.setattr(study, "__version__", "another")
    before = out.read_bytes()
    with pytest.raises(SystemExit, match=r"clean_label\.json has another version; measure all attacks"):
        run(first)
    assert out.read_bytes() == before
    assert run(first, second) == ([first, second], [3, 4])
    assert json.loads(out.read_text(encoding="utf-8"))["version"] == "another"
    monkeypatch.setattr(study, "host", lambda: {"cores": 3})
    monkeypatch.setattr(study, "ABOUT", "Other clips.")
    with pytest.raises(SystemExit, match="has another about, host; measure all attacks"):
        run(second)
    assert run() == (list(ATTACKS), list(range(5, 5 + len(ATTACKS))))


def test_distances_are_drawn_on_a_logarithmic_axis() -> None:
    flat = {"clean": [1.0, 1.0, 1.0], "carried": [0.1, 1.0, 10.0], "moved": [0.1, 0.1, 0.1]}
    rows = [
        {"attack": name, "clips": 9, "distance, moved": 0.1} for name in ("drl_clba: anchor", "collision<i>")
    ]
    drawn = [
        flat | {"attack": "drl_clba: anchor", "curve": [0.0, 1.0, 0.5]},
        flat | {"attack": "collision<i>", "curve": []},
    ]
    content = {"recipe": "clean_label", "about": "", "rows": rows, "drawn": drawn}
    svg = clean_label(content)
    dots = [(float(x), float(y)) for x, y in re.findall(r'<circle cx="([\d.]+)" cy="([\d.]+)"', svg)]
    (one, y1), (ten, y2), (tenth, y3) = dots[:3]
    assert one == ten  # both medians are 1
    assert y1 < y2 < y3
    lines = re.findall(r'<polyline points="([^"]+)" fill="none" stroke="(#\w+)"', svg)
    ends = [[float(pair.split(",")[0]) for pair in points.split()] for points, _ in lines]
    assert ends[1] == pytest.approx([tenth, 2 * one - tenth])  # 0.1 and 10 are as far from 1
    assert len(lines) == 3 + 1 + 3
    heights = [float(pair.split(",")[1]) for pair in lines[3][0].split()]
    assert heights[1] < heights[2] < heights[0]
    assert "collision&lt;i&gt;" in svg
    host = {"cores": 2, "processor": "this", "torch": "2"}
    page = render("attacks", {"clean_label": content | {"host": host}})
    assert "](clean_label.svg)" in page
    assert "| drl_clba: anchor | 9 | 0.10 |" in page
