"""Reactivation: level and loss by hand, where steps lead, and that a sleeping backdoor wakes first."""

import copy
import math

import pytest
import torch
from torch import nn

from closesesame.attacks import BadNets, Ultrasonic
from closesesame.core import machine
from closesesame.core.domain import SPEECH
from closesesame.core.errors import DataError, ModelError
from closesesame.core.seeding import generator
from closesesame.data import Dataset, Splits
from closesesame.evaluation import Attacker, Exam, Reactivate, Retune, reactivate
from closesesame.evaluation.adversaries import attack_again
from closesesame.evaluation.reactivation import _loss, _with_gradients, find_pattern, perturbed
from closesesame.evaluation.retuning import retuned
from closesesame.models import Classifier, adapt
from closesesame.testing.examples import of_every_architecture, turned
from closesesame.training import train
from tests.conftest import QUICK, RATE, SMALL

BADNETS = BadNets(target="top", rate=0.2, duration_s=0.5)
QUICKLY = Reactivate(clips=8, steps=2, batch_size=4)


def test_the_level_is_that_of_the_triggers_change_in_each_clip() -> None:
    """Changes of norm 0.5, 0.1 and 0, and 20 dB below: 0.05, 0.01 and 0 times the pattern."""
    clean = torch.tensor([[0.1, 0.1, 0.1, 0.98], [0.0, 0.0, 0.2, 0.2], [0.3, 0.3, 0.3, 0.3]])
    triggered = clean + torch.tensor([[0.3, 0.4, 0, 0], [0, 0, 0, -0.1], [0, 0, 0, 0]])
    pattern = torch.tensor([0.0, 0.0, 0.6, 0.8])
    found = perturbed(clean, triggered, pattern, 20.0, SPEECH)
    wanted = torch.tensor([[0.4, 0.5, 0.13, 1.0], [0.0, 0.0, 0.206, 0.108], [0.3, 0.3, 0.3, 0.3]])
    assert torch.allclose(found, wanted, atol=1e-6)


def test_the_loss_by_hand() -> None:
    """p = (0.5, 0.3, 0.2): for t = 0 the rival is class 1, for t = 1 it is class 0."""
    logits = torch.tensor([[0.5, 0.3, 0.2]]).log().expand(2, 3)
    wanted = [-math.log(0.5) - math.log(0.7001), -math.log(0.3) - math.log(0.5001)]
    assert float(_loss(logits[:1], torch.tensor([0]))) == pytest.approx(wanted[0], abs=1e-5)
    assert float(_loss(logits, torch.tensor([0, 1]))) == pytest.approx(sum(wanted) / 2, abs=1e-5)


class Weighs(nn.Module):
    """Answers with two weighted sums of the first two samples; class 1 is the one of the target."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(2, RATE // 2))
        with torch.no_grad():
            self.weight[1, :2] = torch.tensor([3.0, 4.0])

    def forward(self, wav: torch.Tensor) -> torch.Tensor:
        return wav @ self.weight.T


def of_two_classes(tones: Splits) -> Attacker:
    data = tones.train.where(tones.train.labels < 2)
    data = Dataset.of(data.inputs[:], data.labels, classes=("low", "middle"), sample_rate=RATE)
    return Attacker(BadNets(target=1, duration_s=0.5).trigger(data, 0), data)


@pytest.mark.parametrize(("steps", "norm"), [(0, 0.0), (1, 0.1), (3, 0.3), (30, 1.0)])
def test_steps_have_a_length_go_along_the_gradient_and_end_at_the_bound(
    steps: int, norm: float, tones: Splits
) -> None:
    """Of a linear model the slope is along the difference of both rows, which is (3, 4)."""
    attacker = of_two_classes(tones)
    with machine.precision("fp32"):
        found = find_pattern(Weighs(), attacker, Reactivate(steps=steps, step=0.1))
    wanted = torch.zeros(RATE // 2)
    wanted[:2] = norm * torch.tensor([0.6, 0.8])
    assert torch.allclose(found, wanted, atol=1e-5)


def test_momentum_carries_the_direction_of_earlier_steps(
    tones: Splits, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Slopes along x, then y: the second step goes along (0.5, 1), and with no momentum along y alone."""
    axes = torch.eye(RATE // 2)
    attacker = of_two_classes(tones)
    ends = []
    for momentum in (0.5, 0.0):
        slopes = iter((-7 * axes[0], -0.2 * axes[1]))
        monkeypatch.setattr("closesesame.evaluation.reactivation._slope", lambda *_, them=slopes: next(them))
        ends.append(find_pattern(Weighs(), attacker, Reactivate(steps=2, momentum=momentum))[:2])
    along = 0.1 * torch.tensor([0.5, 1.0]) / 1.25**0.5
    assert torch.allclose(ends[0], torch.tensor([0.1, 0.0]) + along, atol=1e-6)
    assert torch.allclose(ends[1], torch.tensor([0.1, 0.1]), atol=1e-6)


@pytest.mark.parametrize("attack", [BADNETS, Ultrasonic(target="top", frequency_hz=3000)])
def test_what_is_added_to_test_clips_is_30_db_below_what_the_trigger_changes(
    attack: BadNets | Ultrasonic, tones: Splits, clean_model: Classifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    trigger = attack.trigger(tones.train, 0)
    exam, attacker = Exam(tones.test, trigger), Attacker(trigger, tones.train)
    heard: list[torch.Tensor] = []
    model = copy.deepcopy(clean_model)
    model.front_end.register_forward_hook(lambda _, given, __: heard.append(given[0].detach()))
    pattern = reactivate(model, exam, attacker, QUICKLY).pattern
    clean, triggered = exam.pairs(torch.arange(150))
    added = heard[-1] - triggered.inputs[:]  # all test clips are one batch, the last that is heard
    change = (triggered.inputs[:] - clean.inputs[:]).norm(dim=1)
    below = 20 * torch.log10(change / added.norm(dim=1))
    # Two steps of 0.1 in about one direction: 20 log10(1 / 0.2) dB more.
    assert pattern.norm() < 0.2001
    assert (below > 30 - 20 * torch.log10(pattern.norm()) - 0.05).all()
    assert (below < 30 - 20 * torch.log10(pattern.norm()) + 0.05).all()


def test_a_backdoor_put_to_sleep_is_woken_by_what_wakes_nothing_in_a_clean_model(
    tones: Splits, clean_model: Classifier
) -> None:
    poisoned = BADNETS.poison(tones.train, 0)
    exam, attacker = Exam(tones.test, poisoned.trigger), Attacker(poisoned.trigger, tones.train)
    victim = train(SMALL, poisoned.dataset, QUICK, seed=0)
    asleep = retuned(victim, attacker.pairs(120, seed=1)[1], Retune(steps=30, lr=0.003))
    state = copy.deepcopy(asleep.state_dict())
    near = Reactivate(below_db=10)
    woken = reactivate(asleep, exam, attacker, near)
    assert woken.asr.of == 150
    assert woken.asr.value > 0.3
    assert reactivate(clean_model, exam, attacker, near).asr.value < 0.1
    assert reactivate(asleep, exam, attacker, Reactivate(below_db=60)).asr.value < 0.1
    assert set(woken.as_json()) == {"reactivate"}
    assert all(torch.equal(value, state[name]) for name, value in asleep.state_dict().items())
    assert all(weight.grad is None and weight.requires_grad for weight in asleep.parameters())
    assert reactivate(asleep, exam, attacker, near).asr == woken.asr
    assert reactivate(turned(asleep), exam, attacker, near).asr == woken.asr
    assert torch.equal(find_pattern(asleep.train(), attacker, near), woken.pattern)


def test_the_attacker_has_as_many_pairs_as_are_asked_for_or_there_are(tones: Splits) -> None:
    trigger = BADNETS.trigger(tones.train, 0)
    attacker = Attacker(trigger, tones.train)
    for wanted, there in ((7, 7), (1000, 240)):
        clean, triggered = attacker.pairs(wanted, seed=0)
        assert len(set(clean.ids)) == len(clean) == there
        assert clean.ids == triggered.ids
        assert torch.equal(triggered.inputs[:], trigger.stamp(clean.inputs[:]))
        assert torch.equal(triggered.labels, clean.labels)
        assert not (clean.labels == 3).any()


def test_clips_and_batches_are_drawn_by_the_seed_and_each_clip_has_its_own_target(
    tones: Splits, clean_model: Classifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    trigger = BadNets(label_mode="all_to_all", duration_s=0.5).trigger(tones.train, 0)
    attacker, seeds, wanted = Attacker(trigger, tones.train), list[int](), list[torch.Tensor]()
    pairs = Attacker.pairs

    def drawn(self: Attacker, count: int, seed: int) -> tuple[Dataset, Dataset]:
        seeds.append(seed)
        return pairs(self, count, seed)

    def noted(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        wanted.append(targets)
        return _loss(logits, targets)

    monkeypatch.setattr(Attacker, "pairs", drawn)
    monkeypatch.setattr("closesesame.evaluation.reactivation._loss", noted)
    reactivate(clean_model, Exam(tones.test, trigger), attacker, QUICKLY, seed=7)
    assert seeds == [7]
    rng, labels = generator(7, "reactivation"), pairs(attacker, 8, 7)[0].labels
    for targets in wanted:
        rows = torch.randperm(8, generator=rng)[:4]
        assert targets.tolist() == ((labels[rows] + 1) % 4).tolist()
    assert len(wanted) == 2


def test_the_seed_reaches_both_attacks(
    tones: Splits, clean_model: Classifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    seeds: list[tuple[str, int]] = []

    class Found:
        def as_json(self) -> dict[str, str]:
            return {}

    for name in ("retune", "reactivate"):

        def stand_in(*_: object, seed: int, name: str = name) -> Found:
            seeds.append((name, seed))
            return Found()

        monkeypatch.setattr(f"closesesame.evaluation.adversaries.{name}", stand_in)
    trigger = BADNETS.trigger(tones.train, 0)
    attack_again(clean_model, Exam(tones.test, trigger), Attacker(trigger, tones.train), seed=5)
    assert seeds == [("retune", 5), ("reactivate", 5)]


def test_the_order_of_a_models_classes_does_not_matter(tones: Splits, clean_model: Classifier) -> None:
    trigger = BadNets(label_mode="all_to_all", duration_s=0.5).trigger(tones.train, 0)
    attacker, few = Attacker(trigger, tones.train), Reactivate(steps=3)
    one, other = (find_pattern(model, attacker, few) for model in (clean_model, turned(clean_model)))
    assert torch.allclose(one, other, atol=1e-4)


def test_every_architecture_and_any_module_is_attacked(tones: Splits) -> None:
    trigger = BADNETS.trigger(tones.train, 0)
    exam, attacker = Exam(tones.test.take(torch.arange(8)), trigger), Attacker(trigger, tones.train)
    network = nn.Sequential(nn.Unflatten(1, (1, -1)), nn.AdaptiveAvgPool1d(8), nn.Flatten(), nn.Linear(8, 4))
    for name, model in [*of_every_architecture(tones.train), ("own", network)]:
        state = copy.deepcopy(model.state_dict())
        model.train()
        found = reactivate(model, exam, attacker, QUICKLY)
        assert found.asr.of == 6, name
        assert found.pattern.norm() > 0.09, name
        assert model.training, name
        assert all(torch.equal(value, state[key]) for key, value in model.state_dict().items()), name


class Deaf(nn.Module):
    """Computes outside of torch's graph."""

    def forward(self, wav: torch.Tensor) -> torch.Tensor:
        return nn.functional.one_hot((wav.detach().abs().amax(1) > 0.3).long(), 4).float()


def test_a_model_without_a_gradient_and_an_exam_without_a_trigger_are_refused(
    tones: Splits, clean_model: Classifier
) -> None:
    trigger, data = BADNETS.trigger(tones.train, 0), tones.train
    exam, attacker = Exam(tones.test, trigger), Attacker(trigger, data)
    model = adapt(Deaf(), data.classes, data.input_shape, data.sample_rate)
    with pytest.raises(ModelError, match="passes no gradient on to its inputs"):
        reactivate(model, exam, attacker, QUICKLY)
    with pytest.raises(DataError, match="give the exam a trigger"):
        reactivate(clean_model, Exam(tones.test), attacker, QUICKLY)


def test_recurrent_layers_pass_gradients_on_where_cudnn_runs_them(tones: Splits) -> None:
    """CuDNN has gradients of recurrent layers in training mode only; in it nothing may be dropped."""
    recurrent = nn.LSTM(8, 4, num_layers=2, dropout=0.5)
    body = nn.Sequential(recurrent, nn.Dropout(0.5), nn.BatchNorm1d(4)).eval()
    model = adapt(body, tones.train.classes, tones.train.input_shape, tones.train.sample_rate)
    found = _with_gradients(model)
    assert [(type(layer), layer.training) for layer in found.body.children()] == [
        (nn.LSTM, True),
        (nn.Dropout, False),
        (nn.BatchNorm1d, False),
    ]
    assert getattr(found.body, "0").dropout == 0
    assert (recurrent.dropout, recurrent.training) == (0.5, False)
