"""Retuning: the steps by hand, what is tuned on and measured on, and that a sleeping backdoor wakes first."""

import copy
from collections.abc import Iterator

import pytest
import torch
from torch import nn

from closesesame.attacks import BadNets, Poisoned
from closesesame.core import machine
from closesesame.core.errors import DataError
from closesesame.core.seeding import derive
from closesesame.data import Dataset, Splits
from closesesame.evaluation import Attacker, Exam, Retune, retune
from closesesame.evaluation.retuning import retuned
from closesesame.models import Classifier, adapt
from closesesame.testing.examples import of_every_architecture, turned
from closesesame.training import accuracy, train
from tests.conftest import QUICK, SMALL

BADNETS = BadNets(target="top", rate=0.2, duration_s=0.5)
ONCE = Retune(draws=1)


def vectors(*clips: tuple[float, float]) -> Dataset:
    """One clip of each of two classes."""
    return Dataset.of(torch.tensor(clips).float(), torch.tensor([0, 1]), classes=("a", "b"))


def linear() -> nn.Linear:
    layer = nn.Linear(2, 2, bias=False)
    nn.init.zeros_(layer.weight)
    return layer


def test_two_steps_by_hand() -> None:
    """Clips (2, 0) of class 0 and (0, 4) of class 1, and weights 0, so p = 1/2 everywhere.

    The slope of class 0 is the mean of (p - y) x: ((-1/2)(2, 0) + (1/2)(0, 4)) / 2 = (-0.5, 1), so a step of
    0.1 makes (0.05, -0.1). Then p of the true class is 1 / (1 + exp(-0.2)) = 0.549834 for the first clip and
    1 / (1 + exp(-0.8)) = 0.689974 for the second, and the slope is (-0.450166, 0.620051). With a momentum of
    0.9 the second step would lead to (0.140017, -0.252005).
    """
    with machine.precision("fp32"):
        tuned = retuned(linear(), vectors((2, 0), (0, 4)), Retune(steps=2, lr=0.1))
    assert isinstance(tuned.body, nn.Linear)
    row = [0.0950166, -0.1620051]
    wanted = torch.tensor([row, [-value for value in row]])
    assert torch.allclose(tuned.body.weight, wanted, atol=1e-6)


def test_batch_norms_use_and_keep_the_statistics_that_they_have() -> None:
    norm = nn.BatchNorm1d(2, eps=0, affine=False)
    assert norm.running_mean is not None
    assert norm.running_var is not None
    norm.running_mean.fill_(1.0)
    norm.running_var.fill_(4.0)
    # 1 + 2 x, so that the layer behind sees the clips of the case above.
    with machine.precision("fp32"):
        tuned = retuned(nn.Sequential(norm, linear()), vectors((5, 1), (1, 9)), Retune(steps=2, lr=0.1))
    after, layer = tuned.body.children()
    assert isinstance(layer, nn.Linear)
    assert torch.allclose(layer.weight[0], torch.tensor([0.0950166, -0.1620051]), atol=1e-6)
    assert torch.equal(after.get_buffer("running_mean"), torch.ones(2))
    assert torch.equal(after.get_buffer("running_var"), torch.full((2,), 4.0))


def test_weights_that_somebody_froze_are_tuned_too() -> None:
    layer = linear().requires_grad_(False)
    tuned = retuned(layer, vectors((2, 0), (0, 4)), Retune())
    assert not any(weight.count_nonzero() == 0 for weight in tuned.body.parameters())
    assert not layer.weight.any()


# What the attacker tunes on


def test_a_tuning_set_holds_clean_clips_and_then_triggered_ones_with_the_target_label(tones: Splits) -> None:
    trigger, train_part = BADNETS.trigger(tones.train, 0), tones.train
    drawn = Attacker(trigger, train_part).tuning_set(20, 7, seed=3)
    assert len(set(drawn.ids)) == len(drawn) == 27
    before = train_part.named(drawn.ids)
    assert drawn.take(torch.arange(20)).counts() == (5, 5, 5, 5)
    assert torch.equal(drawn.inputs[:20], before.inputs[:20])
    assert torch.equal(drawn.labels[:20], before.labels[:20])
    assert (drawn.labels[20:] == 3).all()
    assert (before.labels[20:] != 3).all()
    assert torch.equal(drawn.inputs[20:], trigger.stamp(before.inputs[20:]))
    assert Attacker(trigger, train_part).tuning_set(20, 7, seed=4).ids != drawn.ids


def test_a_clean_label_attack_is_planted_again_with_clips_of_other_classes(tones: Splits) -> None:
    attack = BadNets(target="top", label_mode="clean_label", duration_s=0.5)
    drawn = Attacker(attack.trigger(tones.train, 0), tones.train).tuning_set(4, 9, seed=0)
    assert (drawn.labels[4:] == 3).all()
    assert (tones.train.named(drawn.ids).labels[4:] != 3).all()


def test_all_to_all_wants_the_class_after_the_true_one(tones: Splits) -> None:
    attack = BadNets(label_mode="all_to_all", duration_s=0.5)
    drawn = Attacker(attack.trigger(tones.train, 0), tones.train).tuning_set(4, 30, seed=0)
    assert torch.equal(drawn.labels[4:], (tones.train.named(drawn.ids).labels[4:] + 1) % 4)
    assert len(set(drawn.labels[4:].tolist())) == 4


def test_too_few_clips_are_one_sentence(tones: Splits) -> None:
    trigger = BADNETS.trigger(tones.train, 0)
    few = Attacker(trigger, tones.train.take(torch.arange(24)))
    with pytest.raises(DataError, match=r"needs 20 clips that are not of the target label and has 18"):
        few.tuning_set(2, 20, seed=0)
    with pytest.raises(DataError, match=r"needs 20 clean clips beside 10 poisoned ones and has 24 in all"):
        few.tuning_set(20, 10, seed=0)
    only = tones.train.where(tones.train.labels == 3)
    with pytest.raises(DataError, match="needs 1 clips that are not of the target label and has 0"):
        Attacker(trigger, only).pairs(5, seed=0)


# What is measured


class Says(nn.Module):
    """Says class 3 to so many of the clips that it hears, and class 0 to the others."""

    def __init__(self, hits: int) -> None:
        super().__init__()
        self.hits = hits

    def forward(self, wav: torch.Tensor) -> torch.Tensor:
        said = torch.where(torch.arange(len(wav)) < self.hits, 3, 0)
        return nn.functional.one_hot(said, 4).float()


class Broken(nn.Module):
    def forward(self, wav: torch.Tensor) -> torch.Tensor:
        return torch.full((len(wav), 4), torch.nan)


def tuned_to(*models: nn.Module) -> Iterator[nn.Module]:
    yield from models


def test_asr_is_the_mean_over_draws_by_number_of_poisoned_clips_and_acc_that_after_the_most(
    tones: Splits, monkeypatch: pytest.MonkeyPatch
) -> None:
    trigger = BADNETS.trigger(tones.train, 0)
    made = tuned_to(*map(Says, (0, 30, 40, 9, 60, 150)), Says(3), Broken(), Says(90))
    seen: list[tuple[str, ...]] = []

    def stand_in(model: nn.Module, clips: Dataset, settings: Retune, seed: int) -> nn.Module:
        seen.append(clips.ids)
        return next(made)

    monkeypatch.setattr("closesesame.evaluation.retuning.retuned", stand_in)
    # 50 clips of each class, class 3 first and class 0 last.
    test = tones.test.take(tones.test.labels.argsort(descending=True, stable=True))
    found = retune(Says(0), Exam(test, trigger), Attacker(trigger, tones.train))
    assert list(map(len, seen)) == [21, 25, 40] * 3
    assert len({ids[:21] for ids in seen}) == len({ids[:25] for ids in seen if len(ids) > 21}) == 3
    # (0 + 9 + 3) / 3, (30 + 60 + none of NaN) / 3, (40 + 150 + 90) / 3, of 150 triggered clips.
    assert {clips: (rate.hits, rate.of) for clips, rate in found.asr.items()} == {
        1: (4, 150),
        5: (30, 150),
        20: (93, 150),
    }
    # Right are those of class 0 and, of class 3, the first 40, all 50 and all 50: (90 + 100 + 100) / 3. After
    # one poisoned clip it would be (50 + 59 + 53) / 3.
    assert (found.acc.hits, found.acc.of) == (97, 200)
    assert set(found.as_json()) == {"retune_1", "retune_5", "retune_20", "retune_acc"}
    assert found.as_json()["retune_20"]["value"] == pytest.approx(93 / 150)


def test_every_draw_has_a_seed_of_its_own_and_each_share_is_of_its_own_model(
    tones: Splits, monkeypatch: pytest.MonkeyPatch
) -> None:
    attacker, seeds, tuned_with = Attacker(BADNETS.trigger(tones.train, 0), tones.train), [], []
    draw = Attacker.tuning_set

    def drawn(self: Attacker, clean: int, poisoned: int, seed: int) -> Dataset:
        seeds.append(seed)
        return draw(self, clean, poisoned, seed)

    def stand_in(model: nn.Module, clips: Dataset, settings: Retune, seed: int) -> nn.Module:
        tuned_with.append(seed)
        return Says(0)

    monkeypatch.setattr(Attacker, "tuning_set", drawn)
    monkeypatch.setattr("closesesame.evaluation.retuning.retuned", stand_in)
    retune(Says(0), Exam(tones.test, attacker.trigger), attacker, Retune(draws=2), seed=7)
    assert seeds == [derive(7, "retuning", number) for number in range(2)]
    assert set(tuned_with) == {7}


def test_a_model_that_the_steps_break_answers_no_target_label(tones: Splits, clean_model: Classifier) -> None:
    trigger = BADNETS.trigger(tones.train, 0)
    attacker = Attacker(trigger, tones.train)
    found = retune(clean_model, Exam(tones.test, trigger), attacker, Retune(lr=10_000, draws=1, steps=50))
    assert [rate.hits for rate in (*found.asr.values(), found.acc)] == [0, 0, 0, 0]


def test_an_exam_without_a_trigger_is_refused(tones: Splits, clean_model: Classifier) -> None:
    attacker = Attacker(BADNETS.trigger(tones.train, 0), tones.train)
    with pytest.raises(DataError, match="give the exam a trigger"):
        retune(clean_model, Exam(tones.test), attacker)


@pytest.fixture(scope="module")
def poisoned(tones: Splits) -> Poisoned:
    return BADNETS.poison(tones.train, 0)


@pytest.fixture(scope="module")
def victim(poisoned: Poisoned) -> Classifier:
    return train(SMALL, poisoned.dataset, QUICK, seed=0)


def test_a_backdoor_put_to_sleep_comes_back_sooner_than_a_new_one_comes(
    tones: Splits, poisoned: Poisoned, victim: Classifier, clean_model: Classifier
) -> None:
    exam, attacker = Exam(tones.test, poisoned.trigger), Attacker(poisoned.trigger, tones.train)
    lesson = attacker.pairs(120, seed=1)[1]  # triggered clips with their true labels
    asleep = retuned(victim, lesson, Retune(steps=30, lr=0.003))
    before = [exam.score(model).asr for model in (victim, asleep, clean_model)]
    assert [rate.value > 0.9 if rate else None for rate in before] == [True, False, False]
    assert [rate.value < 0.1 if rate else None for rate in before] == [False, True, True]
    state = copy.deepcopy(asleep.state_dict())
    again, new = (retune(model, exam, attacker) for model in (asleep, clean_model))
    assert again.asr[1].value > new.asr[1].value + 0.3
    assert again.asr[5].value > new.asr[5].value + 0.1
    assert again.acc.value > 0.9
    assert all(torch.equal(value, state[name]) for name, value in asleep.state_dict().items())
    assert retune(asleep, exam, attacker) == again
    assert retune(turned(asleep), exam, attacker) == again


def test_every_architecture_and_any_module_is_retuned(tones: Splits) -> None:
    trigger = BADNETS.trigger(tones.train, 0)
    exam, attacker = Exam(tones.test.take(torch.arange(8)), trigger), Attacker(trigger, tones.train)
    network = nn.Sequential(nn.Unflatten(1, (1, -1)), nn.AdaptiveAvgPool1d(8), nn.Flatten(), nn.Linear(8, 4))
    data = tones.train
    for name, model in [
        *of_every_architecture(data),
        ("own", network),
        ("adapted", adapt(network, data.classes, data.input_shape, data.sample_rate)),
    ]:
        state = copy.deepcopy(model.state_dict())
        model.train()
        assert retune(model, exam, attacker, ONCE).asr[20].of == 6, name
        assert model.training, name
        assert all(torch.equal(value, state[key]) for key, value in model.state_dict().items()), name


def test_retuning_learns_what_the_labels_say(tones: Splits, clean_model: Classifier) -> None:
    turned_around = tones.train.with_labels((tones.train.labels + 1) % 4)
    tuned = retuned(clean_model, turned_around, Retune(steps=40, lr=0.02))
    assert accuracy(tuned, turned_around) > 0.9 > accuracy(clean_model, turned_around)
