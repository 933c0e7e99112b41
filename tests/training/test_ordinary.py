"""Ordinary clips: ranks and counts by hand, the two trainings that are watched, and the repair."""

import copy
import math
from collections.abc import Sequence
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from closesesame.core.errors import DataError
from closesesame.core.seeding import derive, generator
from closesesame.data import Dataset, Splits
from closesesame.models import Classifier
from closesesame.models.matching import no_examples
from closesesame.training import Training, fit, ordinary, predict, selfdistillation, untrained
from closesesame.training.clusters import explained
from closesesame.training.features import features_of
from closesesame.training.ordinary import (
    Ordinary,
    OrdinaryRepair,
    barred,
    best_known,
    common_answers,
    course,
    crowded,
    most_ordinary,
    ordinariness,
    overlooked,
    passing,
    ranks_within,
)
from closesesame.training.quiet import Heard, UnderSpeech
from closesesame.training.weights import redraw
from tests.conftest import SMALL
from tests.removal.tiny import assert_same, state, vectors, victim

pytestmark = pytest.mark.usefixtures("in_fp32")


def silent(stage: str, epoch: int, model: Classifier) -> None:
    pass


def test_ranks_are_shares_of_the_same_label_with_lower_losses() -> None:
    labels = torch.tensor([0, 1, 0, 0, 1, 0])
    losses = torch.tensor([[5.0, 0.1, 7.0, 7.0, 0.2, 9.0], [1.0, 3.0, 0.0, 2.0, 3.0, 4.0]]).double()
    ranks = ranks_within(losses, labels)
    assert ranks[0].tolist() == [0.125, 0.25, 0.5, 0.5, 0.75, 0.875]
    assert ranks[1].tolist() == [0.375, 0.5, 0.125, 0.625, 0.5, 0.875]


def test_a_clip_is_ordinary_if_it_is_learned_neither_first_nor_last() -> None:
    labels = torch.zeros(4, dtype=torch.long)
    early = torch.tensor([[1.0, 2.0, 3.0, 4.0], [4.0, 1.0, 3.0, 2.0]]).double()
    late = torch.tensor([[1.0, 2.0, 3.0, 4.0], [1.0, 2.0, 4.0, 3.0]]).double()
    # The lowest ranks early are 1/8, 1/8, 5/8, 3/8; the highest late 1/8, 3/8, 7/8, 7/8.
    assert ordinariness(early, late, labels).tolist() == [0.125, 0.125, 0.125, 0.125]
    assert ordinariness(early[:1], late[:1], labels).tolist() == [0.125, 0.375, 0.375, 0.125]


def test_the_odd_cluster_is_the_one_with_more_varied_second_answers() -> None:
    features = torch.tensor([[0.0], [1.0], [10.0], [11.0], [5.0], [7.0]]).double()
    labels = torch.tensor([2, 2, 2, 2, 0, 0])
    # Second answers of label 2: 0 and 1 in the first cluster, 0 twice in the second.
    logits = torch.tensor([[3, 0, 9], [0, 3, 9], [3, 0, 9], [3, 0, 9], [9, 1, 0], [9, 1, 0]]).double()
    odd = ordinary.oddness([(features, logits)], labels)
    # The means are 0.5 and 10.5; a place is the distance from 5.5 in halves of theirs.
    assert odd[:4].tolist() == pytest.approx([1.1, 0.9, -0.9, -1.1])
    turned = ordinary.oddness([(features, logits[[2, 3, 0, 1, 4, 5]])], labels)
    assert turned[:4].tolist() == pytest.approx([-1.1, -0.9, 0.9, 1.1])
    assert ordinary.oddness([(torch.ones(6, 1).double(), logits)], labels).tolist() == [0] * 6
    assert ordinary.variety(logits[:2], 2) == pytest.approx(math.log(2))
    assert ordinary.variety(logits[2:4], 2) == pytest.approx(ordinary.variety(logits[:1], 2))


def test_the_odd_cluster_is_the_one_whose_size_is_unlike_that_of_classes() -> None:
    # Three of label 0, three of label 1; of label 2 three in one place and five in another.
    labels = torch.tensor([0, 0, 0, 1, 1, 1, 2, 2, 2, 2, 2, 2, 2, 2])
    places = torch.tensor([0.0, 0, 0, 0, 0, 0, 1, 1, 1, 7, 7, 7, 7, 7]).double()[:, None]
    logits = torch.zeros(14, 3).double()
    logits[6:9, 0] = torch.tensor([9.0, -9, 9]).double()  # second answers: more varied where there are three
    told = ordinary.oddness([(places, logits)], labels)
    assert told[6:].tolist() == pytest.approx([-1] * 3 + [1] * 5)
    assert ordinary.usual_size(labels.bincount()) == (3, 0)
    # Three and five differ by 0.51 in that, four and five by 0.22, which is too little to tell.
    wide = torch.zeros(14, 11).double()
    wide[:, 0] = logits[:, 0]  # labels that no clip has change nothing
    assert ordinary.oddness([(places, wide)], 5 * labels).tolist() == told.tolist()
    labels = torch.cat([labels[:6], torch.full((9,), 2)])
    places = torch.tensor([0.0] * 6 + [1] * 4 + [7] * 5).double()[:, None]
    logits = torch.zeros(15, 3).double()
    logits[6:10, 0] = torch.tensor([9.0, -9, 9, -9]).double()
    assert ordinary.oddness([(places, logits)], labels)[6:].tolist() == pytest.approx([1] * 4 + [-1] * 5)


def two_places(usual: list[int], one: int, other: int) -> Tensor:
    """Which place of the last class is the odd one: first that of the more varied second answers."""
    labels = torch.cat([torch.full((count,), label) for label, count in enumerate([*usual, one + other])])
    places = torch.zeros(len(labels), 1).double()
    places[len(labels) - other :] = 5
    logits = torch.zeros(len(labels), len(usual) + 1).double()
    logits[:, 0] = 9
    logits[sum(usual) : sum(usual) + one : 2] = torch.eye(len(usual) + 1)[1].double() * 9
    return ordinary.oddness([(places, logits)], labels)[[sum(usual), -1]]


def test_sizes_tell_from_a_difference_on_that_grows_with_their_spread() -> None:
    varied, by_size = pytest.approx([1, -1]), pytest.approx([-1, 1])
    # The usual size is 100: log(127 / 100) is 0.24, log(140 / 100) is 0.34.
    assert two_places([100] * 4, 100, 127).tolist() == varied
    assert two_places([100] * 4, 100, 140).tolist() == by_size
    # Sizes 50, 70, 100, 140, 200, and the class itself: the median is 100, and log 1.4 the usual distance.
    usual = [50, 71, 100, 140, 200]
    assert ordinary.usual_size(torch.tensor(usual))[1] == pytest.approx(math.log(1.4), abs=0.01)
    assert two_places(usual, 100, 180).tolist() == varied  # 0.59, less than 0.3 and 0.34
    assert two_places(usual, 100, 200).tolist() == by_size  # 0.69
    # A class that is no larger than others: its sizes are not looked at.
    assert two_places([100] * 4, 80, 20).tolist() == varied
    assert two_places([100] * 4, 20, 80).tolist() == varied


def test_those_features_count_that_two_clusters_explain_better() -> None:
    labels = torch.zeros(6, dtype=torch.long)
    blurred = torch.tensor([0.0, 2, 4, 6, 8, 10]).double()[:, None]
    sharp = torch.tensor([0.0, 9, 0, 9, 0, 0]).double()[:, None]
    logits = torch.zeros(6, 3).double()
    logits[:, 1] = 5
    logits[1] = torch.tensor([0.0, 0, 5])
    expected = [-1, 1, -1, 1, -1, -1]
    for known in ([(blurred, logits), (sharp, logits)], [(sharp, logits), (blurred, logits)]):
        assert ordinary.oddness(known, labels).tolist() == pytest.approx(expected)
    inside = torch.tensor([False, False, False, True, True, True])
    # Variance 70 / 6 in all, of which 2 * 8 / 6 lies within 0, 2, 4 and 6, 8, 10.
    assert explained(blurred, inside) == pytest.approx(1 - 16 / 70)
    assert explained(sharp, sharp[:, 0] > 1) == 1
    assert explained(sharp, torch.zeros(6, dtype=torch.bool)) == 0


def test_the_best_known_clips_of_each_label_are_at_most_as_many() -> None:
    labels = torch.tensor([0] * 8 + [1] * 4 + [2] * 4)
    low, high = math.log(2) - 1e-6, math.log(2) + 1e-6
    losses = torch.tensor([0.1, 0.2, 0.3, 0, 5, 5, 5, 5, 9, 8, 7, 6, low, high, high + 1, 0]).double()
    # Three quarters of the median class of 4; of label 1 one clip in any case, the lowest.
    assert best_known(losses, labels, 0.75, 1).tolist() == [0, 1, 3, 11, 12, 15]
    assert best_known(losses, labels, 1.0, 1).tolist() == [0, 1, 2, 3, 11, 12, 15]
    # Of label 1 two at most in any case, half of it.
    assert best_known(losses, labels, 1.0, 3).tolist() == [0, 1, 2, 3, 10, 11, 12, 15]
    # As many as are taken in any case, where the share says fewer.
    assert best_known(losses, labels, 0.01, 2).tolist() == [0, 3, 10, 11, 12, 15]
    # Labels that no clip has count nowhere.
    assert best_known(losses, 5 * labels, 0.75, 1).tolist() == [0, 1, 3, 11, 12, 15]
    # What is barred is not taken in any case, and others take its place, up to half of what is left.
    never = torch.zeros(16, dtype=torch.bool)
    never[[0, 3, 11, 12, 13, 14, 15]] = True
    for least in (3, 4):
        assert best_known(losses, labels, 0.75, least, never).tolist() == [1, 2, 4, 9, 10]
    # The median label is as large: three quarters of four.
    never = torch.tensor([False] * 4 + [True] * 6 + [False] * 2 + [True] * 4)
    assert best_known(losses, labels, 0.75, 1, never).tolist() == [0, 1, 3, 11]


def answered(answers: Sequence[int], label: int = 0, second: bool = True) -> Tensor:
    """Logits of clips of a label that get other answers, each so many classes further, of six."""
    logits = torch.zeros(len(answers), 6).double()
    logits[:, 0] = 1 if second else -1
    logits[torch.arange(len(answers)), torch.tensor(answers)] = 3
    return logits.roll(label, 1)


def test_unknown_clips_are_overlooked_if_they_are_taken_for_few_classes_and_second_for_their_own() -> None:
    def found(logits: Tensor, label: int = 0) -> list[int]:
        return overlooked(logits, torch.full((len(logits),), label)).tolist()

    few, varied, all_of_them = [1, 1, 2, 2, 1, 2, 1, 3], [1, 2, 3, 4, 5, 1, 2, 3], list(range(8))
    # The entropy of the answers is 0.97, which is 0.61 of the most, log 5.
    assert found(answered(few)) == all_of_them
    assert found(answered(few, label=4), label=4) == all_of_them
    assert found(answered(varied)) == []  # 1.56, 0.97 of the most: poison of all classes
    mixed = torch.cat([answered(few[:3]), answered(few[3:], second=False)])
    assert found(mixed) == [0, 1, 2]  # where others than the label come second: poison of one class
    # Of three clips log 3 is the most; the entropies are 0.64 and 1.10, which are 0.58 and 1 of it.
    assert found(answered([1, 1, 2])) == [0, 1, 2]
    assert found(answered([1, 2, 3])) == []
    # Clips that get their label with a chance of a half are none, and do not count with the others.
    known = torch.tensor([[0.5, 0.5, 0, 0, 0, 0]]).double().log().expand(9, 6)
    assert found(torch.cat([known, answered(few)])) == [9 + row for row in all_of_them]
    assert found(torch.cat([known, answered(varied)])) == []
    # Each label is looked at by itself.
    both = torch.cat([answered(varied), answered(few, label=4)])
    assert overlooked(both, torch.tensor([0] * 8 + [4] * 8)).tolist() == [8 + row for row in all_of_them]


def test_of_each_class_as_many_are_chosen_and_at_most_half() -> None:
    labels = torch.tensor([0] * 20 + [1] * 9 + [2] * 1 + [4] * 10)
    scores = torch.cat([torch.arange(20), torch.tensor([0, 4, 1, 3, 2, 8, 7, 6, 5]), torch.zeros(1)])
    scores = torch.cat([scores, 9 - torch.arange(10)]).double()
    # The classes have 20, 9, 1 and 10 clips: a share of 0.3 of the lower median is 2.7.
    assert most_ordinary(scores, labels, 0.3, 1).tolist() == [17, 18, 19, 25, 26, 27, 29, 30, 31, 32]
    of_first = [row for row in most_ordinary(scores, labels, 0.3, 6).tolist() if row < 29]
    assert of_first == [*range(14, 20), 21, 25, 26, 27, 28]
    mixed = torch.tensor([1, 0, 1, 0])
    assert most_ordinary(torch.tensor([1.0, 2.0, 3.0, 4.0]).double(), mixed, 0.5, 1).tolist() == [2, 3]


def test_clips_pass_if_their_label_has_half_of_the_probability_and_half_of_a_class_does_anyway() -> None:
    labels = torch.tensor([0, 1, 0, 1, 0, 1, 1, 0])
    losses = torch.tensor([0.69, 5.0, 0.70, 4.0, 0.0, 6.0, 3.0, 0.1]).double()
    assert passing(losses, labels).tolist() == [0, 3, 4, 6, 7]


@pytest.mark.parametrize("room", [0, 2**20])
def test_the_course_holds_the_loss_on_the_plain_view_after_each_epoch(
    room: int, tones: Splits, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("closesesame.training.predicting.FEATURE_CACHE_BYTES", room)
    data = tones.train.take(torch.arange(24))
    training = Training(epochs=2, batch_size=8, augmentation="strong")
    expected: list[Tensor] = []

    def look(epoch: int, model: Classifier) -> None:
        assert epoch == len(expected) + 1
        expected.append(F.cross_entropy(predict(model, data).double(), data.labels, reduction="none"))

    by_hand, watched = (untrained(SMALL, data, seed=1) for _ in range(2))
    fit(by_hand, data, training, seed=4, after_epoch=look)
    told: list[int] = []
    losses = course(watched, data, training, seed=4, after_epoch=lambda epoch, _: told.append(epoch))
    assert_same(watched, by_hand)  # who looks changes nothing
    assert told == [1, 2]
    assert torch.allclose(losses, torch.stack(expected), atol=1e-4)


def test_slow_and_strong_training_of_fresh_weights_are_watched(monkeypatch: pytest.MonkeyPatch) -> None:
    model, data = victim(), vectors(30)
    before, asked, told = state(model), dict[str, Any](), list[tuple[str, int]]()
    slow = torch.arange(3 * 30).reshape(3, 30).double() / 100
    strong = slow.flip(1).repeat(2, 1)[:5]
    given: list[Tensor] = []

    def course(network: Classifier, examples: Dataset, training: Training, **more: Any) -> Tensor:
        stage = "slow" if training.schedule == "constant" else "strong"
        asked[stage] = (training, more["seed"])
        fresh = victim()
        redraw(fresh, more["seed"])
        assert_same(network, fresh)
        assert examples is data
        more["after_epoch"](7, network)
        return slow if stage == "slow" else strong

    def score(early: Tensor, late: Tensor, labels: Tensor) -> Tensor:
        given.extend((early, late))
        return ordinariness(early, late, labels)

    seen, real = list[Any](), ordinary.oddness

    def oddness(known: Any, labels: Tensor, common: Any) -> Tensor:
        assert common == {}  # there are ten clips of each label
        seen.append(known)
        return real(known, labels)

    monkeypatch.setattr(ordinary, "oddness", oddness)
    monkeypatch.setattr(ordinary, "course", course)
    monkeypatch.setattr(ordinary, "ordinariness", score)
    method = OrdinaryRepair(slow_epochs=3, strong_epochs=5, ordinary_share=0.2, ordinary_least=1)
    own = Training(epochs=9, steps=77, lr=0.01, batch_size=10)
    found = method.ordinary(model, data, own, 5, lambda stage, epoch, _: told.append((stage, epoch)))
    rows = found.rows
    assert not found.barred.any()
    shared = {"batch_size": 10, "steps": None}
    assert asked["slow"] == (
        Training(epochs=3, lr=0.002, schedule="constant", augmentation="light", **shared),
        derive(5, "slow"),
    )
    assert asked["strong"] == (
        Training(epochs=5, lr=0.01, augmentation="strong", **shared),
        derive(5, "strong"),
    )
    assert told == [("slow", 7), ("strong", 7)]
    assert torch.equal(given[0], torch.cat([slow, strong[:1]]))
    assert torch.equal(given[1], strong[3:])  # two of five epochs are late
    scores = ordinariness(given[0], given[1], data.labels)
    strongly = victim()  # as it is left by a training that does nothing
    redraw(strongly, derive(5, "strong"))
    known = [(features_of(one, data).double(), predict(one, data).double()) for one in (strongly, victim())]
    odd = real(known, data.labels)
    out = (odd > 0) | (ranks_within(odd[None], data.labels)[0] > 0.5)
    mixed = torch.randperm(30, generator=generator(5, "ties"))
    wanted = mixed[most_ordinary((scores - 9 * out)[mixed], data.labels[mixed], 0.2, 1)]
    assert rows.tolist() == wanted.sort().values.tolist()
    assert rows.tolist() != most_ordinary(scores, data.labels, 0.2, 1).tolist()
    assert not torch.equal(odd, real(known[:1], data.labels))
    for (features, logits), (own_features, own_logits) in zip(known, seen[0], strict=True):
        assert torch.equal(features, own_features)
        assert torch.equal(logits, own_logits)
    assert len(rows) == 6
    assert state(model).keys() == before.keys()
    assert all(torch.equal(value, before[name]) for name, value in state(model).items())


def test_a_label_far_larger_than_others_is_heard_by_a_model_that_never_met_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    data = vectors(30)
    data = data.with_labels(torch.tensor([1] * 17 + [0] * 6 + [2] * 7))
    model, asked, told = victim(), list[tuple[Any, ...]](), list[tuple[str, int]]()
    before = state(model)

    def fit(probe: Classifier, clips: Dataset, training: Training, **more: Any) -> None:
        fresh = victim()
        redraw(fresh, derive(5, "without 1"))
        assert_same(probe, fresh)
        asked.append((clips.ids, clips.labels.tolist(), training, more["seed"]))
        more["after_epoch"](4, probe)

    monkeypatch.setattr(ordinary, "fit", fit)
    own = Training(epochs=9, steps=77, lr=0.01)
    method = OrdinaryRepair(unmet_epochs=6)
    found = method.commonly_answered(model, data, own, 5, lambda stage, epoch, _: told.append((stage, epoch)))
    training = Training(epochs=6, steps=None, lr=0.01)
    assert asked == [(data.ids[17:], [0] * 6 + [2] * 7, training, derive(5, "without 1"))]
    assert told == [("without 1", 4)]
    probe = victim()
    redraw(probe, derive(5, "without 1"))
    logits = predict(probe, data.take(torch.arange(17)))
    logits[:, 1] = -torch.inf
    common = common_answers(logits.argmax(1), 7 / 2)  # half of 7, the usual size
    assert list(found) == [1]
    assert found[1].tolist() == common.tolist() + [False] * 13
    assert all(torch.equal(value, before[name]) for name, value in state(model).items())


def test_no_clip_of_such_a_label_is_chosen_that_does_not_get_a_common_answer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    data, common = vectors(30), torch.arange(30) % 2 == 0
    monkeypatch.setattr(ordinary, "course", lambda *_, **__: torch.rand(3, 30).double())
    monkeypatch.setattr(ordinary, "oddness", lambda known, labels, common: torch.zeros(30).double())
    method = OrdinaryRepair(ordinary_share=0.5, ordinary_least=1)
    for label in (0, 2):
        own = data.labels == label
        monkeypatch.setattr(OrdinaryRepair, "commonly_answered", lambda *_, label=label: {label: common})
        rows = method.ordinary(victim(), data, Training(), 5, silent).rows
        chosen = torch.zeros(30, dtype=torch.bool)
        chosen[rows] = True
        assert chosen[own].sum() == min(int(own.sum()) // 2, 5)
        assert not (chosen & own & ~common).any()


@pytest.mark.parametrize("bar", [True, False])
def test_of_a_label_that_quiet_cells_tell_the_odd_half_is_barred(
    bar: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, common = vectors(30), torch.arange(30) % 2 == 0
    chances, model, given = torch.linspace(0, 1, 30).double(), victim(), list[Any]()
    heard, odd = Heard(chances, torch.zeros(3).double()), torch.linspace(-0.9, 0.5, 30).double()

    def told(of: Classifier, clips: Dataset, seed: int) -> Heard:
        assert (of, clips, seed) == (model, data, 5)
        return heard

    telling = torch.arange(30) % 5 < 2

    def oddness(known: Any, labels: Tensor, strangeness: Any) -> Tensor:
        given.append(strangeness)
        return odd

    def under_speech(found: Heard, labels: Tensor) -> UnderSpeech:
        assert found is heard
        assert labels is data.labels
        return UnderSpeech([0, 2], [1], telling)

    # The best ranks are those of clips that will be barred.
    monkeypatch.setattr(ordinary, "ordinariness", lambda *_: odd.clone())
    monkeypatch.setattr(ordinary, "course", lambda *_, **__: torch.rand(3, 30).double())
    monkeypatch.setattr(ordinary, "oddness", oddness)
    monkeypatch.setattr(ordinary, "telling", told)
    monkeypatch.setattr(ordinary, "under_speech", under_speech)
    monkeypatch.setattr(OrdinaryRepair, "commonly_answered", lambda *_: {2: common})
    method = OrdinaryRepair(bar_told=bar, ordinary_least=4)
    found = method.ordinary(model, data, Training(), 5, silent)
    # What never met a label says of it counts, too.
    assert list(given[0]) == ([0, 2] if bar else [2])
    assert torch.equal(given[0][2], 1 - common.double() + bar * chances)
    if bar:
        assert torch.equal(given[0][0], chances)
    assert (found.told, found.whole) == ([0, 2] if bar else [], [1])
    aside = (odd > 0) | (ranks_within(odd[None], data.labels)[0] > 0.5)
    assert torch.equal(found.barred, barred([0, 2] if bar else [], aside, telling, data.labels))
    assert found.barred.any() == bar
    assert not found.barred[found.rows].any()
    free = ~found.barred
    assert (int(data.labels[free].bincount().min()) < 4) == bar  # then barred clips would be among the best
    assert data.labels[found.rows].bincount().tolist() == [
        min(4, int((free & (data.labels == label)).sum())) for label in range(3)
    ]


def test_what_is_barred_lies_aside_or_tells_and_is_not_nearly_all_of_a_label() -> None:
    labels = torch.tensor([0] * 10 + [1] * 10 + [2] * 10)
    aside, clips = torch.zeros(2, 30, dtype=torch.bool)
    aside[[0, 1, 2, 3, 4, 10, 11, 12, 13, 14, 20, 21]] = True
    clips[[4, 5, 6, 15, 16, 17, 18, 22]] = True
    # Of label 0 seven of ten lie aside or tell; of label 1 nine, and only those that tell are barred.
    rows = [*range(7), 15, 16, 17, 18]
    assert barred([0, 1], aside, clips, labels).nonzero()[:, 0].tolist() == rows
    aside[7] = True  # eight of ten
    assert barred([0], aside, clips, labels).nonzero()[:, 0].tolist() == [*range(8)]
    assert not barred([], aside, clips, labels).any()


def test_far_larger_is_beyond_what_sizes_usually_differ_by() -> None:
    def labels(*sizes: int) -> Tensor:
        return torch.cat([torch.full((size,), label) for label, size in enumerate(sizes)])

    assert crowded(labels(10, 17, 10, 10)) == [1]
    assert crowded(labels(10, 16, 10, 10)) == []
    assert crowded(labels(17, 10, 0, 10, 10, 18)) == [0, 5]  # a label without clips counts nowhere
    # The median is 100 and the usual distance log 1.4: 1.6 times 1.4 is 2.24.
    assert crowded(labels(50, 72, 100, 140, 200, 225)) == [5]
    assert crowded(labels(50, 72, 100, 140, 200, 223)) == []


def test_common_answers_are_the_most_frequent_until_there_are_enough() -> None:
    answers = torch.tensor([3, 1, 3, 2, 1, 3])
    for enough, common in ((1, {3}), (3, {3}), (3.5, {3, 1}), (5, {3, 1}), (6, {3, 1, 2})):
        assert common_answers(answers, enough).tolist() == [one in common for one in answers.tolist()]


def test_the_odd_cluster_is_the_one_with_the_stranger_clips_where_that_is_known() -> None:
    # By size, and by second answers, which are all the same, the five of label 2 are odd.
    labels = torch.tensor([0, 0, 0, 1, 1, 1, 2, 2, 2, 2, 2, 2, 2, 2])
    places = torch.tensor([0.0, 0, 0, 0, 0, 0, 1, 1, 1, 7, 7, 7, 7, 7]).double()[:, None]
    known = [(places, torch.zeros(14, 3).double())]
    assert ordinary.oddness(known, labels)[6:].tolist() == pytest.approx([-1] * 3 + [1] * 5)
    strange = torch.ones(14).double()
    strange[[6, 9, 10, 11]] = 0  # of one of three, and of three of five
    assert ordinary.oddness(known, labels, {2: strange})[6:].tolist() == pytest.approx([1] * 3 + [-1] * 5)
    assert ordinary.oddness(known, labels, {1: strange})[6:].tolist() == pytest.approx([-1] * 3 + [1] * 5)


class Runs:
    """Notes the self-distillations of copies of a victim, and what is told."""

    settings: ClassVar[dict[str, Any]] = {
        "views": 2,
        "splices": 12,
        "kept_share": 0.7,
        "temperature": 3.0,
        "least_learnt": 0.0,
    }

    def __init__(self, monkeypatch: pytest.MonkeyPatch, rows: Tensor) -> None:
        self.data, self.model, self.told = vectors(30), victim(), list[tuple[str, int]]()
        self.barred = torch.zeros(30, dtype=torch.bool)
        monkeypatch.setattr(OrdinaryRepair, "ordinary", lambda *_: Ordinary(rows, self.barred, [2, 0], [1]))
        monkeypatch.setattr(type(self.model.front_end), "augmentation", lambda *_: None)
        self.method = OrdinaryRepair(check_steps=4, first_steps=5, **self.settings)
        self.training = Training(epochs=9, lr=0.01)

    def tell(self, stage: str, epoch: int, model: Classifier) -> None:
        self.told.append((stage, epoch))

    def by_hand(
        self,
        rows: Tensor,
        steps: int,
        stage: str,
        before: Classifier | None = None,
        teacher: Classifier | None = None,
    ) -> Classifier:
        """A victim, or a copy of another model, that was repaired with some clips."""
        model = copy.deepcopy(before) if before else victim()
        asked = Training(epochs=9, lr=0.01, steps=steps, batch_size=96, augmentation="varied")
        nothing = no_examples(model.card)
        method, clips = OrdinaryRepair(**self.settings), self.data.take(rows)
        method.distil(model, clips, nothing, asked, derive(5, stage), teacher=teacher)
        return model

    def losses(self, model: Classifier) -> Tensor:
        return F.cross_entropy(predict(model, self.data).double(), self.data.labels, reduction="none")


def test_no_clip_is_judged_by_a_model_that_learned_from_it(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = torch.tensor([1, 3, 4, 6, 11, 13, 14, 18])
    runs = Runs(monkeypatch, rows)
    before = state(runs.model)
    chosen, losses = runs.method.checked(runs.model, runs.data, runs.training, 5, runs.tell)
    assert torch.equal(chosen.rows, rows)
    assert chosen.barred is runs.barred
    # By label: 3, 6 and 18, then 1, 4 and 13, then 11 and 14; every second one is in the second half.
    halves = torch.tensor([3, 4, 11, 18]), torch.tensor([1, 6, 13, 14])
    first, second = (
        runs.losses(runs.by_hand(half, 4, f"check {number}")) for number, half in enumerate(halves, 1)
    )
    expected = (first + second) / 2
    expected[halves[0]], expected[halves[1]] = second[halves[0]], first[halves[1]]
    assert torch.allclose(losses, expected, atol=1e-5)
    assert not torch.allclose(first, second, atol=1e-2)
    assert runs.told == [(f"check {number}", epoch) for number in (1, 2) for epoch in range(1, 5)]
    assert all(torch.equal(value, before[name]) for name, value in state(runs.model).items())


def test_the_repair_is_done_with_the_chosen_clips_that_pass_and_again_with_more(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rows = torch.tensor([1, 3, 4, 6, 11, 13, 14, 18])
    runs = Runs(monkeypatch, rows)
    labels = runs.data.labels
    losses = torch.arange(30).double() / 10
    losses[torch.tensor([3, 13])] = 9.0

    def checked(self: Any, model: Classifier, data: Dataset, training: Training, seed: int, tell: Any) -> Any:
        assert (model, data, training, seed) == (runs.model, runs.data, runs.training, 5)
        tell("check 1", 3, model)
        return Ordinary(rows, runs.barred, [2, 0], [1]), losses

    monkeypatch.setattr(OrdinaryRepair, "checked", checked)
    method = runs.method.model_copy(update={"second_share": 0.3, "ordinary_least": 1})
    runs.barred[::7] = True
    never, said = method.repair_with_ordinary(runs.model, runs.data, runs.training, 5, runs.tell)
    assert never is runs.barred
    passed = torch.tensor([1, 4, 6, 11, 18])  # of each class half at least, and those below log 2
    assert torch.equal(rows[passing(losses[rows], labels[rows])], passed)
    first = runs.by_hand(passed, 5, "repair 1")
    second = best_known(runs.losses(first), labels, 0.3, 1, runs.barred)
    assert not torch.equal(second, best_known(runs.losses(first), labels, 0.3, 1))
    assert_same(runs.model, runs.by_hand(second, 5, "repair 2", first))
    counts = {"barred_clips": 5, "ordinary_clips": 8, "passed_clips": 5, "second_clips": len(second)}
    of = {"barred_of": ["three", "one"], "told_as_a_whole": ["two"]}
    assert said == counts | of
    epochs = [(stage, epoch) for stage in ("repair 1", "repair 2") for epoch in range(1, 6)]
    assert runs.told == [("check 1", 3), *epochs]


def test_a_repair_that_learned_too_little_is_done_again_and_a_check_is_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    runs = Runs(monkeypatch, torch.tensor([1, 3, 4, 6, 11, 13, 14, 18]))
    monkeypatch.setattr(selfdistillation, "accuracy", lambda *_: 0.5)
    method = runs.method.model_copy(update={"least_learnt": 0.75})
    method.repair_with_ordinary(runs.model, runs.data, runs.training, 5, runs.tell)
    stages = [stage for stage, _ in runs.told]
    assert [stages.count(stage) for stage in ("check 1", "check 2")] == [4, 4]
    assert [stages.count(stage) for stage in ("repair 1", "repair 2")] == [5 + 15, 5 + 15]


def test_a_repair_varies_what_the_student_hears(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Training] = []

    def distil(
        self: Any, model: Classifier, clips: Dataset, audio: Dataset, training: Training, *_: Any
    ) -> Any:
        asked.append(training)
        return {}

    monkeypatch.setattr(OrdinaryRepair, "distil", distil)
    data, own = vectors(12), Training(epochs=9, lr=0.01, augmentation="light")
    for method, augmentation in (
        (OrdinaryRepair(), "varied"),
        (OrdinaryRepair(repair_augmentation="crowded"), "crowded"),
    ):
        method.repair_with(victim(), data, own, 7, 5, "repair 1", silent)
        update = {"steps": 7, "batch_size": 96, "augmentation": augmentation}
        assert asked.pop() == own.model_copy(update=update)


def test_a_repair_may_have_another_teacher(monkeypatch: pytest.MonkeyPatch) -> None:
    runs = Runs(monkeypatch, torch.arange(4))
    other, rows = runs.by_hand(torch.arange(20), 3, "some"), torch.arange(12)
    runs.method.repair_with(
        runs.model, runs.data.take(rows), runs.training, 4, 5, "repair 3", runs.tell, teacher=other
    )
    assert_same(runs.model, runs.by_hand(rows, 4, "repair 3", None, other))
    with pytest.raises(AssertionError):
        assert_same(runs.model, runs.by_hand(rows, 4, "repair 3"))


def test_too_few_clips_are_refused() -> None:
    with pytest.raises(DataError, match="6 clips of 3 classes are too few to choose ordinary ones from"):
        OrdinaryRepair(slow_epochs=1, strong_epochs=1).checked(
            victim(), vectors(6), Training(augmentation="none"), 0, silent
        )


def test_clips_of_noise_behind_one_label_are_seldom_chosen(tones: Splits) -> None:
    """A trigger that is learned first, and one that is learned last."""
    rng = torch.Generator().manual_seed(0)
    wav, labels = tones.train.inputs[:].clone(), tones.train.labels.clone()
    rows = (labels != 0).nonzero()[:, 0][torch.randperm(240, generator=rng)[:60]]
    added, moved = rows[:30], rows[30:]
    wav[added] += 0.3 * torch.sin(torch.arange(wav.shape[1]) * 2.5)
    wav[moved] = wav[moved].roll(1, 1)  # hardly a trigger: nothing but a wrong label
    labels[rows] = 0
    data = Dataset.of(wav, labels, classes=tones.train.classes, sample_rate=8_000)
    model = untrained(SMALL, data, seed=0)
    method = OrdinaryRepair(strong_epochs=8)
    chosen = method.ordinary(model, data, Training(batch_size=32, lr=0.01), 0, silent).rows
    of_target = chosen[data.labels[chosen] == 0]
    assert len(of_target) == 12
    assert int(torch.isin(of_target, rows).sum()) <= 1  # by chance it would be five
