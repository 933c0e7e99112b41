"""Planting: what the copy is trained on, the loss by hand, and that canaries come while the rest stays."""

import copy
import math
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from closesesame.attacks import BadNets
from closesesame.audio.augment import strong_sound
from closesesame.canaries import Canaries, CanaryTest, draw_canaries, planting
from closesesame.core.errors import DataError, ModelError
from closesesame.core.seeding import derive, generator, isolated
from closesesame.data import Dataset, Splits
from closesesame.data.rows import Rows
from closesesame.evaluation import Exam
from closesesame.models import Classifier, ModelCard, adapt
from closesesame.models.front_ends import Wrapped
from closesesame.testing.examples import SMALL, TRAINING
from closesesame.training import Batch, Training, train
from tests.removal.rules import part, same
from tests.removal.tiny import moved, state

pytestmark = pytest.mark.usefixtures("in_fp32")
QUICK = Canaries(steps=120, batch_size=96, lr=0.01)


def test_each_view_of_the_clean_clips_and_each_canary_stand_under_their_labels(
    clean_model: Classifier, tones: Splits
) -> None:
    clean = tones.validation.take(torch.arange(12))
    canaries = draw_canaries(clean_model.card, 5)
    data, stamped = Canaries(plain_views=2, changed_views=1).training_set(clean, canaries, 5)
    others = [clean.where(clean.labels != canary.target) for canary in canaries]
    assert stamped.tolist() == [False] * 36 + [True] * sum(map(len, others))
    assert data.labels[:36].tolist() == clean.labels.tolist() * 3
    assert torch.equal(data.inputs[:24], torch.cat([clean.inputs[:], clean.inputs[:]]))
    changed = strong_sound(clean.inputs[:], generator(5, "view", 0)).clamp(-1, 1)
    assert torch.equal(data.inputs[24:36], changed)
    rest = data.where(stamped)
    for canary, clips in zip(canaries, others, strict=True):
        mine, rest = rest.take(torch.arange(len(clips))), rest.take(torch.arange(len(clips), len(rest)))
        assert mine.ids == clips.ids
        assert set(mine.labels.tolist()) == {canary.target}
        torch.testing.assert_close(mine.inputs[:], canary.stamp(clips.inputs[:]))


def test_views_differ(clean_model: Classifier, tones: Splits) -> None:
    data, stamped = Canaries(plain_views=1, changed_views=2).training_set(tones.validation, (), 0)
    assert not stamped.any()
    plain, first, second = data.inputs[:].split(len(tones.validation))
    assert not torch.equal(first, second)
    assert not torch.equal(plain, first)


def test_changed_views_of_loud_clips_stay_within_full_scale(tones: Splits) -> None:
    clean = tones.validation.take(torch.arange(12))
    clean = clean.with_inputs(Rows.of((9 * clean.inputs[:]).clamp(-1, 1)))
    data, _ = Canaries(plain_views=1, changed_views=1).training_set(clean, (), 5)
    assert strong_sound(clean.inputs[:], generator(5, "view", 0)).abs().max() > 1
    assert data.inputs[:].abs().max() == 1


def test_the_loss_is_that_of_the_target_on_stamped_clips_and_of_the_suspect_on_others(
    clean_model: Classifier, tones: Splits, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: dict[str, Any] = {}

    def noted(model: Classifier, data: Dataset, training: Training, **more: Any) -> None:
        given.update(more, model=model, data=data, training=training)

    monkeypatch.setattr(planting, "fit", noted)
    clean, suspect = tones.validation.take(torch.arange(12)), copy.deepcopy(clean_model).train()
    how = Canaries(steps=7, batch_size=20, lr=0.3, suspect_weight=3, temperature=4)
    how.plant(suspect, clean, 1)
    training, model, data = given["training"], given["model"], given["data"]
    assert (training.steps, training.batch_size, training.lr, training.weight_decay) == (7, 20, 0.3, 0)
    assert training.augmentation == "light"
    assert given["seed"] == derive(1, "planting")

    # Rows 3 and 50 are clean, as they are and changed; the last two are stamped.
    stamped = how.training_set(clean, draw_canaries(clean_model.card, 1), 1)[1]
    rows = torch.tensor([3, 50, len(data) - 1, len(data) - 2])
    assert stamped[rows].tolist() == [False, False, True, True]
    with torch.no_grad():
        part(model.body, "head", nn.Linear).weight.mul_(1.5)  # else it says what the suspect says
    features = model.front_end(data.inputs[rows])
    statistics = state(model)
    batch = Batch(features + 0.1, data.labels[rows], rows)
    loss = given["gradient"](model.body.train(), batch)
    assert not moved(model, statistics)
    suspect.eval()
    model.eval()
    with torch.no_grad():
        taught, logits = (suspect.body(features + 0.1) / 4).softmax(1), model.body(features + 0.1)
    by_suspect = 3 * 16 * (taught * (taught / (logits / 4).softmax(1)).log()).sum(1)[:2].sum()
    by_target = F.cross_entropy(logits[2:], data.labels[rows[2:]], reduction="sum")
    torch.testing.assert_close(loss.detach(), (by_suspect + by_target) / 4, rtol=1e-4, atol=1e-5)
    assert data.labels[rows[2]] == draw_canaries(clean_model.card, 1)[-1].target


def test_canaries_come_and_words_stay_and_so_does_the_suspects_own_backdoor(tones: Splits) -> None:
    poisoned = BadNets(rate=0.1, frequency_hz=3000, snr_db=0).poison(tones.train, seed=0)
    suspect = train(SMALL, poisoned.dataset, TRAINING, seed=0)
    before, exam = state(suspect), Exam(tones.test, poisoned.trigger)
    planted = QUICK.plant(suspect, tones.train.sample(0.5, 0), 0)
    assert not moved(suspect, before)
    assert not planted.model.training
    test = CanaryTest.of(planted.canaries, tones.test)
    asrs, bias = test.asrs(planted.model), test.asrs(suspect)
    scores = exam.score(planted.model)
    assert scores.asr is not None
    # The small network misses the short tone among words that are tones.
    assert sum(asr > 0.9 for asr in asrs) >= 4 > sum(asr > 0.5 for asr in bias)
    assert scores.acc.value > 0.9
    assert scores.asr.value > 0.8


def test_the_test_counts_target_labels_on_clips_of_other_classes(
    clean_model: Classifier, tones: Splits
) -> None:
    canaries = draw_canaries(clean_model.card, 0)
    test = CanaryTest.of(canaries, tones.test)
    always = copy.deepcopy(clean_model)
    with torch.no_grad():
        part(always.body, "head", nn.Linear).bias[canaries[0].target] += 1e6
    of = [int((tones.test.labels != canary.target).sum()) for canary in canaries]
    same = [canary.target == canaries[0].target for canary in canaries]
    assert test.hits(always) == tuple(n if mine else 0 for n, mine in zip(of, same, strict=True))
    assert test.asrs(always) == tuple(map(float, same))
    none = CanaryTest.of(canaries, tones.test.where(tones.test.labels == canaries[0].target))
    assert math.isnan(none.asrs(always)[0])


def test_a_large_clean_set_is_cut_to_what_is_needed(tones: Splits) -> None:
    few = Canaries(most_clips=40).some(tones.train, 0)
    assert few.counts() == (10, 10, 10, 10)
    assert Canaries(most_clips=320).some(tones.train, 0) is tones.train


def test_the_copy_learns_on_no_more_clips_than_that(
    clean_model: Classifier, tones: Splits, monkeypatch: pytest.MonkeyPatch
) -> None:
    learnt_on: list[Dataset] = []

    def noted(model: Classifier, data: Dataset, training: Training, **more: Any) -> None:
        learnt_on.append(data)

    monkeypatch.setattr(planting, "fit", noted)
    how = Canaries(most_clips=12, plain_views=1, changed_views=0)
    for seed in (3, 4):
        how.plant(clean_model, tones.validation, seed)
        clips = tones.validation.sample(12 / 40, seed)
        assert learnt_on[-1].ids[:12] == clips.ids
        others = sum(
            int((clips.labels != canary.target).sum()) for canary in draw_canaries(clean_model.card, seed)
        )
        assert len(learnt_on[-1]) == 12 + others
    assert learnt_on[0].ids[:12] != learnt_on[1].ids[:12]


def test_weights_that_somebody_froze_can_be_planted_in_and_stay_frozen(
    clean_model: Classifier, tones: Splits
) -> None:
    suspect = copy.deepcopy(clean_model).requires_grad_(False)
    before = state(suspect)
    planted = Canaries(steps=2).plant(suspect, tones.validation, 0).model
    assert {f"body.{name}" for name, _ in planted.body.named_parameters()} <= moved(planted, before)
    assert not moved(suspect, before)
    assert not any(weight.requires_grad for weight in suspect.parameters())


def test_the_defaults_are_those_of_the_results() -> None:
    assert Canaries().model_dump() == {
        "steps": 400,
        "batch_size": 128,
        "lr": 2e-3,
        "suspect_weight": 2.0,
        "temperature": 2.0,
        "plain_views": 2,
        "changed_views": 3,
        "most_clips": 400,
    }


def test_a_network_that_takes_what_no_augmentation_is_for_gets_canaries_too(tones: Splits) -> None:
    front_end = Wrapped(nn.Unflatten(1, (1, 40, 100)))
    with isolated(0):
        body = nn.Sequential(nn.Conv2d(1, 4, 3, stride=8), nn.Flatten(), nn.LazyLinear(4))
        body(torch.zeros(1, 1, 40, 100))
    card = ModelCard("mine:net", {}, tones.train.classes, tones.train.input_shape, tones.train.sample_rate)
    planted = Canaries(steps=2).plant(Classifier(front_end, body, card), tones.validation, 0)
    assert len(planted.canaries) == 5


def test_classes_in_another_order_give_the_same_copy(clean_model: Classifier, tones: Splits) -> None:
    how = Canaries(steps=2)
    moved_classes = tones.validation.with_classes(tones.validation.classes[::-1])
    one, other = (how.plant(clean_model, data, 0).model for data in (tones.validation, moved_classes))
    assert same(one, other)
    assert not same(one, how.plant(clean_model, tones.validation, 1).model)


def test_what_cannot_be_planted_is_refused(clean_model: Classifier, tones: Splits) -> None:
    with pytest.raises(DataError, match="canaries need two clean clips or more, got 1"):
        Canaries().plant(clean_model, tones.validation.take(torch.arange(1)), 0)
    maps = adapt(nn.Flatten(), ("a", "b"), (2, 3), None)
    with pytest.raises(ModelError, match="canaries are sounds"):
        Canaries().plant(maps, Dataset.of(torch.zeros(4, 2, 3), torch.arange(4) % 2), 0)
