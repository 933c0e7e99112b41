"""Gated distillation: what the teacher says, and the loss, by hand."""

import math

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from closesesame.data import Dataset
from closesesame.models import Classifier, adapt
from closesesame.training import Batch
from closesesame.training.distillation import (
    Lessons,
    LossWeights,
    distillation_rule,
    lessons_of,
    without_dropout,
)
from tests.conftest import SMALL


class Head(nn.Module):
    """Logits are three times the first two numbers, which are the features."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(2, 2, bias=False)
        nn.init.eye_(self.head.weight)
        with torch.no_grad():
            self.head.weight.mul_(3)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.head(x[:, :2])
        return logits


class Headless(nn.Module):
    """Logits without a linear layer behind them."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(2.0))

    def forward(self, x: Tensor) -> Tensor:
        return self.scale * x[:, :2]


def model(body: nn.Module) -> Classifier:
    return adapt(body, ("a", "b"), (3,), None).eval()


INPUTS = torch.tensor([[1.0, 0.0, 5.0], [0.0, 1.0, 5.0], [0.5, 0.25, 5.0]])
LABELS = torch.tensor([0, 0, 1])


def data() -> Dataset:
    return Dataset.of(INPUTS, LABELS, classes=("a", "b"))


def test_lessons_without_augmentation_are_softened_answers_and_features() -> None:
    lessons = lessons_of(model(Head()), data(), views=3, augmentation="none", temperature=2.0, seed=0)
    assert torch.allclose(lessons.soft, F.softmax(1.5 * INPUTS[:, :2], 1), atol=1e-6)
    assert lessons.features is not None
    assert torch.allclose(lessons.features, INPUTS[:, :2])
    assert lessons.agreement.tolist() == [1, 1, 1]
    assert lessons.answers.tolist() == [0, 1, 0]
    two = lessons.take(torch.tensor([2, 0]))
    assert two.answers.tolist() == [0, 0]
    assert torch.equal(two.soft, lessons.soft[[2, 0]])
    assert two.features is not None
    assert torch.equal(two.features, INPUTS[[2, 0], :2])


def test_views_are_averaged_and_their_agreement_counted(make_clip: Dataset) -> None:
    teacher = SMALL.build(make_clip.classes, make_clip.input_shape, make_clip.sample_rate, seed=3).eval()
    one, many = (
        lessons_of(teacher, make_clip, views=n, augmentation="light", temperature=1.0, seed=1)
        for n in (1, 64)
    )
    views = lessons_of(
        teacher,
        make_clip.take(torch.arange(2).repeat_interleave(64)),
        views=1,
        augmentation="light",
        temperature=1.0,
        seed=1,
    )
    # A view is one row of a batch of 128, in either case.
    assert torch.allclose(many.soft[0], views.soft[:64].mean(0), atol=1e-5)
    assert many.features is not None
    assert views.features is not None
    assert torch.allclose(many.features[0], views.features[:64].mean(0), atol=1e-5)
    share = float((views.answers[:64] == many.answers[0]).float().mean())
    assert float(many.agreement[0]) == pytest.approx(share)
    assert not torch.allclose(one.soft[0], many.soft[0], atol=1e-5)


@pytest.mark.usefixtures("in_fp32")
def test_agreement_and_answers_are_those_of_the_mean_of_the_views_by_hand(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Three views of each of two clips; features of d and 0 give class a the share 1 / (1 + exp(-3 d)).

    First clip: 0.62, 0.05, 0.05, so the mean is b, and two of three agree. Second clip: 0.43, 0.43, 0.998, so
    the mean is 0.62, which is a, and one of three agrees, though most say b, and so does the first.
    """
    apart = torch.tensor([0.1602, -0.9815, -0.9815, -0.0953, -0.0953, 2.0])
    teacher = model(Head())

    def views(maps: Tensor, _: torch.Generator) -> Tensor:
        return torch.stack([apart, torch.zeros(6), maps[:, 2]], 1)

    monkeypatch.setattr(teacher.front_end, "augmentation", lambda _: views)
    two = data().take(torch.arange(2))
    lessons = lessons_of(teacher, two, views=3, augmentation="light", temperature=1.0, seed=0)
    assert lessons.answers.tolist() == [1, 0]
    assert lessons.agreement.tolist() == pytest.approx([2 / 3, 1 / 3])
    share = torch.sigmoid(3 * apart).view(2, 3).mean(1)
    assert torch.allclose(lessons.soft[:, 0], share, atol=1e-5)
    assert share.tolist() == pytest.approx([0.24, 0.62], abs=0.01)
    assert lessons.features is not None
    assert torch.allclose(lessons.features[:, 0], apart.view(2, 3).mean(1), atol=1e-6)


def test_every_batch_has_views_of_its_own_and_the_seed_draws_them(
    make_clip: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    teacher = SMALL.build(make_clip.classes, make_clip.input_shape, make_clip.sample_rate, seed=3).eval()
    again = make_clip.take(torch.zeros(3, dtype=torch.long))
    monkeypatch.setattr("closesesame.training.distillation.VIEWS_AT_ONCE", 2)
    one, same, other = (
        lessons_of(teacher, again, views=2, augmentation="light", temperature=1.0, seed=seed).soft
        for seed in (1, 1, 2)
    )
    assert torch.equal(one, same)
    rows = torch.cat([one, other])  # the same clip in six batches
    apart = (rows[:, None] - rows).abs().sum(2) + torch.eye(6)
    assert (apart > 1e-6).all()


@pytest.fixture
def make_clip() -> Dataset:
    wav = 0.5 * torch.randn(2, 8000, generator=torch.Generator().manual_seed(0)).clamp(-1, 1)
    return Dataset.of(wav, torch.tensor([0, 1]), classes=("a", "b"), sample_rate=8000)


def loss_of(
    body: nn.Module, weights: LossWeights, labelled: list[bool], trusted: list[bool], rows: list[int]
) -> tuple[float, Tensor | None]:
    lessons = Lessons(
        soft=torch.tensor([[0.9, 0.1], [0.5, 0.5], [0.2, 0.8]]),
        features=torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 2.0]]),
        agreement=torch.ones(3),
        temperature=2.0,
    )
    at = torch.tensor(rows)
    rule = distillation_rule(
        model(body), lessons, weights, labelled=torch.tensor(labelled), trusted=torch.tensor(trusted)
    )
    loss = rule(body, Batch(INPUTS[at], LABELS[at], at))
    return float(loss.detach()), next(body.parameters()).grad


def by_hand(row: int, label: float, soft: float, feature: float) -> float:
    logits = [3 * value for value in INPUTS[row, :2].tolist()]
    total = math.log(sum(math.exp(value) for value in logits))
    cross = total - logits[int(LABELS[row])]
    warm = [math.exp(value / 2) for value in logits]
    p = [value / sum(warm) for value in warm]
    q = [[0.9, 0.1], [0.5, 0.5], [0.2, 0.8]][row]
    divergence = sum(t * math.log(t / s) for t, s in zip(q, p, strict=True))
    taught = [(1.0, 0.0), (1.0, 0.0), (0.0, 2.0)][row]
    own = INPUTS[row, :2].tolist()
    cosine = sum(a * b for a, b in zip(own, taught, strict=True)) / math.hypot(*own) / math.hypot(*taught)
    return float(label * cross + soft * 4 * divergence + feature * (1 - cosine))


def test_the_loss_is_that_of_the_formula_with_each_term_by_its_own_weight() -> None:
    weights = LossWeights(label=0.3, soft=0.7, feature=2.0)
    loss, gradient = loss_of(Head(), weights, [True] * 3, [True] * 3, [2, 0])
    assert loss == pytest.approx((by_hand(2, 0.3, 0.7, 2.0) + by_hand(0, 0.3, 0.7, 2.0)) / 2, rel=1e-5)
    assert gradient is not None
    assert gradient.abs().sum() > 0


def test_who_is_not_trusted_teaches_nothing_and_unlabelled_examples_have_no_label() -> None:
    weights = LossWeights(label=0.3, soft=0.7, feature=2.0)
    loss, _ = loss_of(Head(), weights, [True, True, False], [False, True, True], [0, 1, 2])
    expected = by_hand(0, 0.3, 0, 0) + by_hand(1, 0.3, 0.7, 2) + by_hand(2, 0, 0.7, 2)
    assert loss == pytest.approx(expected / 3, rel=1e-5)


def test_a_network_without_a_linear_head_learns_from_soft_labels_alone() -> None:
    teacher = model(Headless())
    lessons = lessons_of(teacher, data(), views=1, augmentation="none", temperature=1.0, seed=0)
    assert lessons.features is None
    body = Headless()
    ones = torch.ones(3, dtype=torch.bool)
    rule = distillation_rule(model(body), lessons, LossWeights(0, 1, 7), labelled=ones, trusted=ones)
    assert float(rule(body, Batch(INPUTS, LABELS, torch.arange(3))).detach()) == pytest.approx(0, abs=1e-6)


def test_nothing_is_dropped_inside_and_everything_again_after() -> None:
    drop = nn.Dropout(0.4)
    lstm = nn.LSTM(3, 4, num_layers=2, dropout=0.3, batch_first=True)
    attention = nn.MultiheadAttention(4, 2, dropout=0.2)
    body = nn.ModuleList([drop, lstm, attention]).train()

    def answers() -> list[Tensor]:
        states = lstm(drop(torch.ones(2, 5, 3)))[0]
        return [states, attention(states, states, states)[0]]

    def same() -> list[bool]:
        return [torch.equal(one, two) for one, two in zip(answers(), answers(), strict=True)]

    assert same() == [False, False]
    with without_dropout(body):
        assert same() == [True, True]
    assert [drop.p, lstm.dropout, attention.dropout] == [0.4, 0.3, 0.2]
    with pytest.raises(ZeroDivisionError), without_dropout(drop):
        raise ZeroDivisionError
    assert [drop.p, lstm.dropout] == [0.4, 0.3]
