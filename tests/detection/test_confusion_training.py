"""Confusion training: the loss, the wrong labels, the test of a class and the rounds, by hand."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from closesesame.core.seeding import derive, generator
from closesesame.data import Dataset
from closesesame.detection import ConfusionTraining, confusion_training
from closesesame.detection.base import hidden_order
from closesesame.detection.confusion_training import (
    best_fitted,
    confusion_rule,
    likelihood_ratio,
    wrong_labels,
)
from closesesame.models import Classifier
from closesesame.training import Batch, Training
from tests.removal.tiny import assert_same, state, vectors, victim


def test_wrong_labels_are_all_others_alike_and_never_the_true_one() -> None:
    labels = torch.arange(4).repeat(3000)
    wrong = wrong_labels(labels, 4, generator(0))
    assert not bool((wrong == labels).any())
    for label in range(4):
        counts = torch.bincount(wrong[labels == label], minlength=4)
        assert counts[label] == 0
        assert int(counts.max() - counts.sort().values[1]) < 150


def test_the_loss_weighs_clean_clips_with_wrong_labels_and_the_batch() -> None:
    """The network passes on what it gets, so features are logits."""
    network = nn.Linear(3, 3, bias=False)
    nn.init.eye_(network.weight)
    clean, labels = torch.tensor([[2.0, 0.0, 0.0], [0.0, 1.0, 0.0]]), torch.tensor([0, 1])
    batch = Batch(torch.tensor([[0.0, 0.0, 3.0], [0.0, 0.5, 0.0]]), torch.tensor([2, 0]), torch.arange(2))
    loss = float(confusion_rule(clean, labels, 5.0, generator(3))(network, batch).detach())
    rng = generator(3)
    rows = torch.randperm(2, generator=rng)
    wrong = wrong_labels(labels[rows], 3, rng)
    confused = F.cross_entropy(clean[rows], wrong)
    expected = (4 * float(confused) + float(F.cross_entropy(batch.features, batch.labels))) / 5
    assert loss == pytest.approx(expected)
    slope = network.weight.grad
    assert slope is not None
    assert slope.abs().sum() > 0


def test_the_ratio_is_that_of_two_gaussians_to_the_one_of_the_rest() -> None:
    """Four places around 0 and four around (10, 0), a tenth as far apart, and a third number of noise."""
    cross = torch.tensor([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0]]).double()
    places = torch.cat([cross, 0.1 * cross + torch.tensor([10.0, 0.0])])
    features = torch.cat([places, torch.full((8, 1), 5.0).double()], 1)
    fitted = torch.tensor([False] * 4 + [True] * 4)
    rest, own = 2 / 3 + 1e-3, 0.02 / 3 + 1e-3  # variances along each axis

    def density(distance: float, variance: float) -> float:
        return -math.log(2 * math.pi * variance) - distance / (2 * variance)

    gained = sum(density(0.01, own) - density(place, rest) for place in (10.1**2, 9.9**2, 100.01, 100.01))
    found = likelihood_ratio(features, fitted)
    assert found == pytest.approx(math.exp(gained / 8), rel=1e-6)
    assert likelihood_ratio(features, ~fitted) != pytest.approx(found, rel=0.1)
    assert likelihood_ratio(features, torch.arange(8) == 0) == 1
    assert likelihood_ratio(features, torch.arange(8) > 0) == 1


@pytest.mark.parametrize(
    ("ratios", "fails"),
    [
        ([1.6, 1.0, 1.4], [True, False, False]),  # the highest may be lower
        ([1.6, 1.9, 1.4], [False, True, False]),
        ([2.1, 1.9, 9.0], [True, False, True]),
        ([1.2, 1.4, 1.0], [False, False, False]),
    ],
)
def test_a_class_fails_by_its_ratio(
    ratios: list[float], fails: list[bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    data, fitted = vectors(12), torch.arange(12) % 2 == 0
    asked: list[Tensor] = []

    def ratio(features: Tensor, chosen: Tensor) -> float:
        asked.append(chosen)
        assert features.shape == (4, 12)
        return ratios[len(asked) - 1]

    monkeypatch.setattr(confusion_training, "likelihood_ratio", ratio)
    assert ConfusionTraining()._fails(victim(), data, fitted).tolist() == fails
    assert all(torch.equal(one, fitted[data.labels == label]) for label, one in enumerate(asked))


def test_each_round_starts_from_the_suspect_and_learns_from_what_the_last_one_fits_best(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    suspect, data, clean = victim(), vectors(30), vectors(9, 3)
    before, rounds, rules = state(suspect), list[Any](), list[Any]()
    probabilities = [torch.linspace(0, 1, 30).double(), torch.linspace(1, 0, 30).double()]
    fails = torch.tensor([False, True, False])

    def fit(model: Classifier, learned: Dataset, training: Training, *, seed: int, gradient: Any) -> None:
        assert_same(model, suspect)
        rounds.append((learned.ids, training, seed))
        nn.init.zeros_(next(model.body.parameters()))

    def rule(features: Tensor, labels: Tensor, weight: float, rng: torch.Generator) -> None:
        rules.append((features.shape, labels, weight))

    monkeypatch.setattr(confusion_training, "fit", fit)
    monkeypatch.setattr(confusion_training, "confusion_rule", rule)
    monkeypatch.setattr(
        confusion_training, "_of_given_label", lambda model, examples: probabilities[len(rounds) - 1]
    )
    monkeypatch.setattr(ConfusionTraining, "_fails", lambda *_: fails)
    method = ConfusionTraining(kept_shares=(0.2,), steps=7, lr=0.02, momentum=0.3, weight=11)
    found = method.score(suspect, data, clean, 4)
    training = Training(
        optimizer="sgd",
        lr=0.02,
        momentum=0.3,
        weight_decay=1e-4,
        schedule="constant",
        steps=7,
        augmentation="none",
    )
    names = tuple(data.ids[row] for row in hidden_order(data).tolist())
    best = torch.zeros(30, dtype=torch.bool)
    best[best_fitted(probabilities[0], data.labels[hidden_order(data)], 0.2)] = True
    kept = tuple(name for name, chosen in zip(names, best.tolist(), strict=True) if chosen)
    assert [one[0] for one in rounds] == [names, kept]
    assert [one[1:] for one in rounds] == [
        (training, derive(4, "round", 0)),
        (training, derive(4, "round", 1)),
    ]
    assert [(shape, weight) for shape, _, weight in rules] == [((9, 5), 11)] * 2
    assert torch.equal(rules[0][1], clean.labels[hidden_order(clean)])
    given = probabilities[1][hidden_order(data).argsort()]
    assert torch.equal(found.scores, given - (data.labels != 1).double())
    assert found.flagged is not None
    assert torch.equal(found.flagged, (data.labels == 1) & (given > 0.5))
    assert all(torch.equal(value, before[name]) for name, value in state(suspect).items())


def test_the_best_fitted_share_is_kept_and_the_best_of_each_label() -> None:
    probability, labels = (
        torch.linspace(0, 1, 200).double(),
        torch.arange(200) // 100,
    )  # label 1 is fitted best
    assert best_fitted(probability, labels, 0.1).tolist() == [98, 99, *range(180, 200)]
    assert best_fitted(probability, labels, 0.9).tolist() == list(range(20, 200))
    assert best_fitted(probability, torch.arange(200) % 2, 0.001).tolist() == [196, 197, 198, 199]


def test_a_trigger_outlives_confusion() -> None:
    """Vectors with the trigger get the first label; the rest is undone by clean ones with wrong labels."""
    data, rows = vectors(90), torch.arange(1, 90, 9)
    inputs, labels = data.inputs[:].clone(), data.labels.clone()
    inputs[rows, 4] = 3
    labels[rows] = 0
    poisoned = Dataset.of(inputs, labels, classes=data.classes)
    method = ConfusionTraining(steps=60, lr=0.05, kept_shares=(0.5,))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(victim().front_end), "augmentation", lambda *_: None)
        found = method.score(victim(), poisoned, vectors(30, 5), 0)
    assert set(found.scores.topk(len(rows)).indices.tolist()) == set(rows.tolist())
