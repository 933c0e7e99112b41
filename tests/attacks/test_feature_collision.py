"""Feature collision and gradient matching: the goal, the clips that are chosen, and how they are moved."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from closesesame.attacks import FeatureCollision, Trigger
from closesesame.attacks.common import collision
from closesesame.attacks.common.collision import Goal, Mode, errors, margins
from closesesame.data import Dataset, Splits
from closesesame.data.rows import Rows
from closesesame.models import Classifier
from closesesame.testing.examples import trained
from closesesame.training import predict
from closesesame.training.features import features_and_logits
from tests.attacks.stamping import speech
from tests.conftest import RATE
from tests.sounds import level_db

LOGITS = torch.tensor([[0.0, 0.0, 0.0], [1.0, 2.0, 0.5]])


def by_hand(mode: Mode, pull: Tensor) -> Goal:
    """A goal in a space of two features; its model is of no matter."""
    anchors = torch.tensor([[1.0, 0.0], [0.0, 3.0]])
    return Goal(trained(), nn.Linear(2, 3), 1, mode, anchors, 2.0, pull)


def test_errors_and_margins_by_hand() -> None:
    third = 1 / 3
    assert torch.allclose(errors(LOGITS[:1], 1), torch.tensor([[third, third - 1, third]]))
    assert margins(LOGITS, torch.tensor([0, 1])).tolist() == [0, 1]
    assert margins(LOGITS, torch.tensor([2, 2])).tolist() == [0, -1.5]


def test_distances_by_hand() -> None:
    features = torch.tensor([[1.0, 2.0], [2.0, 0.0]])
    goal = by_hand("anchor", torch.zeros(3, 2))
    assert torch.equal(goal.nearest(features), goal.anchors.flip(0))
    far = goal.distance(features, LOGITS, goal.nearest(features))
    assert far.tolist() == [(1 + 1) / 2, 1 / 2]
    stego = by_hand("anchor_stego", torch.zeros(3, 2))
    assert torch.equal(stego.distance(features, LOGITS, features), 0 * far)
    pull = torch.tensor([[1.0, 0.0], [-2.0, 1.0], [0.0, 0.5]])
    slopes = [torch.outer(wrong, feature) for wrong, feature in zip(errors(LOGITS, 1), features, strict=True)]
    wanted = [1 - float((slope * pull).sum() / slope.norm() / pull.norm()) for slope in slopes]
    found = by_hand("gradient", pull).distance(features, LOGITS, features)
    assert found.tolist() == pytest.approx(wanted, abs=1e-5)


def test_the_goal_is_set_by_features_and_slopes_of_the_last_layer(
    tones: Splits, clean_model: Classifier, in_fp32: None
) -> None:
    data = tones.test.take(torch.arange(6))
    goal = Goal.of(clean_model, data, 2, "gradient")
    features, logits = features_and_logits(clean_model, data)
    assert torch.equal(goal.anchors, features)
    middle = features - features.mean(0)
    assert goal.scale == pytest.approx(float(middle.square().sum(1).mean()), rel=1e-4)
    head = nn.Linear(features.shape[1], 4)
    head.load_state_dict(goal.head.state_dict())
    assert torch.allclose(head(features), logits, atol=1e-5)
    nn.functional.cross_entropy(head(features), torch.full((6,), 2)).backward()
    assert head.weight.grad is not None
    assert torch.allclose(goal.pull, head.weight.grad, atol=1e-5)
    seen, said = goal.ask(data.inputs[:])
    assert torch.allclose(seen, features, atol=1e-5)
    assert torch.allclose(said, logits, atol=1e-5)


def test_the_hardest_clips_are_chosen(tones: Splits, known: Classifier) -> None:
    attack = FeatureCollision(target="high")
    eligible = (tones.train.labels == 2).nonzero().flatten()
    trigger = Trigger(attack, {}, speech(RATE), 2, tones.train.classes)
    chosen = attack.choose(tones.train, eligible, 7, trigger, 0)
    margin = margins(predict(known, tones.train), tones.train.labels)
    assert len(set(chosen.tolist())) == 7
    rest = [row for row in eligible.tolist() if row not in chosen.tolist()]
    assert margin[chosen].max() <= margin[rest].min()


def test_silent_clips_which_can_hold_nothing_are_chosen_last(
    tones: Splits, known: Classifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first ten of class 0 are silent and the hardest; clips are read in pieces."""
    eligible = (tones.train.labels == 0).nonzero().flatten()
    data = tones.train.with_inputs(tones.train.inputs.replace(eligible[:10], torch.zeros(10, 4000)))
    logits = torch.zeros(len(eligible), 4)
    logits[:, 0] = torch.arange(len(eligible))
    monkeypatch.setattr(collision, "predict", lambda *_: logits)
    sizes: list[int] = []
    read = Rows.__getitem__

    def noted(rows: Rows, index: Tensor) -> Tensor:
        sizes.append(len(index))
        return read(rows, index)

    monkeypatch.setattr(Rows, "__getitem__", noted)
    attack = FeatureCollision()
    trigger = Trigger(attack, {}, speech(RATE), 0, data.classes)
    chosen = attack.choose(data, eligible, len(eligible), trigger, 0)
    assert torch.equal(chosen, torch.cat([eligible[10:], eligible[:10]]))
    assert sizes == [64, 16]


@pytest.fixture
def planted(
    tones: Splits, known: Classifier, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., tuple[FeatureCollision, Tensor, Trigger]]:
    """Plants, with a quick network that hides, ten clips of class 0."""
    state = FeatureCollision(**FeatureCollision.quick).learn_to_hide(tones.train, 0)
    monkeypatch.setattr(FeatureCollision, "learn_to_hide", lambda *_: dict(state))

    def plant(**settings: Any) -> tuple[FeatureCollision, Tensor, Trigger]:
        attack = FeatureCollision(**(FeatureCollision.quick | settings))
        trigger = attack.trigger(tones.train, 0)
        return attack, attack.plant(tones.train, torch.arange(0, 40, 4), trigger, 0), trigger

    return plant


def test_anchors_are_triggered_clips_of_other_classes(
    tones: Splits, known: Classifier, monkeypatch: pytest.MonkeyPatch, planted: Any
) -> None:
    caught: list[tuple[Any, ...]] = []
    attack, _, trigger = planted(steps=0)

    def of(*given: Any) -> Goal:
        caught.append(given)
        return by_hand("anchor", torch.zeros(3, 2))

    monkeypatch.setattr(collision.Goal, "of", of)
    for anchors, seed in ((12, 0), (12, 0), (12, 1), (1000, 0)):
        attack.model_copy(update={"anchors": anchors, "mode": "gradient"}).goal(tones.train, trigger, seed)
    model, triggered, target, mode = caught[0]
    assert model is known
    assert (target, mode) == (0, "gradient")
    assert isinstance(triggered, Dataset)
    assert [len(given[1]) for given in caught] == [12, 12, 12, 240]
    assert (triggered.labels != 0).all()
    assert torch.equal(triggered.inputs[:], caught[1][1].inputs[:])
    assert not torch.equal(triggered.inputs[:], caught[2][1].inputs[:])
    clips = tones.train.inputs[tones.train.labels != 0]
    stamped = trigger.stamp(clips)
    first = triggered.inputs[:1]
    at = int((stamped - first).square().sum(1).argmin())
    assert torch.allclose(stamped[at], first[0], atol=1e-6)


@pytest.mark.parametrize("mode", ["anchor", "anchor_stego", "gradient"])
def test_clips_are_moved_nearer_within_the_bound(mode: Mode, tones: Splits, planted: Any) -> None:
    attack, moved, trigger = planted(steps=10, step_size=0.3, change_db=15, mode=mode)
    clips = tones.train.inputs[torch.arange(0, 40, 4)]
    start = trigger.stamp(clips, 1.0) if mode == "anchor_stego" else clips
    change = moved - start
    for row in range(3):
        assert 14.99 < level_db(clips[row]) - level_db(change[row]) < 18
    assert (change.norm(dim=1) <= clips.norm(dim=1) * 10 ** (-15 / 20) * 1.001).all()
    goal = attack.goal(tones.train, trigger, 0)
    with torch.no_grad():
        before, after = goal.ask(start), goal.ask(moved)
    anchors = goal.nearest(before[0])
    far = [goal.distance(*said, anchors).mean() for said in (before, after)]
    assert far[1] < 0.9 * far[0]


def test_anchors_are_those_nearest_to_clips_that_hold_the_key(
    tones: Splits, planted: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Tensor] = []
    ask = Goal.ask

    def noted(goal: Goal, wav: Tensor) -> tuple[Tensor, Tensor]:
        asked.append(wav.detach().clone())
        return ask(goal, wav)

    monkeypatch.setattr(Goal, "ask", noted)
    _, _, trigger = planted(steps=1, mode="anchor_stego")
    stamped = trigger.stamp(tones.train.inputs[torch.arange(0, 40, 4)], 1.0)
    assert len(asked) == 2
    assert torch.allclose(asked[0], stamped, atol=1e-6)
    assert torch.allclose(asked[1], stamped, atol=1e-6)


def test_the_surrogate_has_the_seed(
    tones: Splits, known: Classifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    seeds: list[int] = []

    def surrogate(_: FeatureCollision, data: Dataset, seed: int) -> Classifier:
        assert data is tones.train
        seeds.append(seed)
        return known

    monkeypatch.setattr(FeatureCollision, "train_surrogate", surrogate)
    FeatureCollision(**FeatureCollision.quick).poison(tones.train, 5)
    assert seeds == [5, 5]  # to choose clips, and to move them


def test_steps_have_their_size(tones: Splits, planted: Any) -> None:
    _, moved, trigger = planted(steps=2, step_size=0.1, change_db=20, mode="anchor")
    clips = tones.train.inputs[torch.arange(0, 40, 4)]
    # Each sample has moved by none, one or two steps, of a tenth of a tenth of the clip's RMS.
    size = 0.01 * clips.square().mean(1, keepdim=True).sqrt()
    assert torch.allclose((moved - clips).abs().amax(1, keepdim=True), 2 * size, rtol=1e-2)
    _, stay, _ = planted(steps=0, mode="anchor")
    assert torch.equal(stay, clips)
    _, key, _ = planted(steps=0, mode="anchor_stego", training_strength=0.5)
    assert torch.allclose(key, trigger.stamp(clips, 0.5), atol=1e-6)
