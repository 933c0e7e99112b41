"""Dynamics: what the score is, by hand, and what it finds."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from closesesame.data import Dataset, Splits
from closesesame.detection import Dynamics
from closesesame.detection.base import hidden_order
from closesesame.evaluation import Screening
from closesesame.models import Classifier, ResNet, SmallCNN
from closesesame.training import Training, train, untrained
from closesesame.training.ordinary import Ordinary
from tests.conftest import QUICK, SMALL
from tests.removal.tiny import assert_same


def chosen(*barred: bool) -> Ordinary:
    return Ordinary(torch.arange(0), torch.tensor(barred), [], [])


def test_the_score_is_the_loss_of_the_check_and_more_for_what_quiet_cells_tell(
    clean_model: Classifier, tones: Splits, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Any] = []
    scores = torch.tensor([2.5, 0.125 + math.log(10), 2.25]).double()

    def checked(
        self: Dynamics, model: Classifier, data: Dataset, training: Training, seed: int, tell: Any
    ) -> tuple[Ordinary, Tensor]:
        asked.append((data.ids, training, seed, all(one.requires_grad for one in model.parameters())))
        tell("slow", 1, model)
        return chosen(False, True, False), torch.tensor([2.5, 0.125, 2.25]).double()

    monkeypatch.setattr(Dynamics, "checked", checked)
    data = tones.train.take(torch.arange(3))
    found = Dynamics().score(clean_model, data, None, 7)
    place = hidden_order(data).argsort()
    assert torch.equal(found.scores, scores[place])
    assert asked == [(tuple(data.ids[row] for row in hidden_order(data).tolist()), Training(), 7, True)]
    assert found.flagged is not None
    assert torch.equal(found.flagged, torch.tensor([True, True, False])[place])
    assert Dynamics(threshold=3).score(clean_model, data, None, 7).flagged_above == 3.0


def test_another_network_is_scored_by_a_resnet_that_is_trained_on_the_clips(
    tones: Splits, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Classifier] = []

    def checked(self: Dynamics, model: Classifier, data: Dataset, *given: Any) -> tuple[Ordinary, Tensor]:
        asked.append(model)
        return chosen(*[False] * len(data)), torch.arange(len(data)).double()

    monkeypatch.setattr(Dynamics, "checked", checked)
    data = tones.train.take(torch.arange(8))
    other = untrained(SmallCNN(), data, seed=0)
    for method in (Dynamics(), Dynamics(chooser="own")):
        method.score(other, data, None, 7)
    first, second = asked
    order = data.take(hidden_order(data))
    assert_same(first, train(ResNet(), order, Training(), seed=7))
    assert second.card.architecture == "small_cnn"
    assert Dynamics().in_place_of(
        other, data
    ) == "a ResNet that it trains on these clips (--set chooser=own " + ("changes that)")
    assert Dynamics(chooser="own").in_place_of(other, data) is None
    assert Dynamics().in_place_of(first, data) is None


def test_wrong_labels_are_found_whether_their_trigger_is_learned_first_or_not_at_all(tones: Splits) -> None:
    rng = torch.Generator().manual_seed(0)
    wav, labels = tones.train.inputs[:].clone(), tones.train.labels.clone()
    rows = (labels != 0).nonzero()[:, 0][torch.randperm(240, generator=rng)[:30]]
    wav[rows[:15]] += 0.05 * torch.sin(torch.arange(wav.shape[1]) * 2.5)
    labels[rows] = 0
    data = Dataset.of(wav, labels, classes=tones.train.classes, sample_rate=8_000)
    poisoned = torch.zeros(len(data), dtype=torch.bool)
    poisoned[rows] = True
    suspect = train(SMALL, data, QUICK, seed=0)
    found = Dynamics(check_steps=30, strong_epochs=6, splices=100, views=2).score(suspect, data, None, 0)
    screened = Screening(dict(zip(data.ids, poisoned.tolist(), strict=True))).score(found)
    assert screened.auroc is not None
    assert screened.auroc.value > 0.97


def test_poison_whose_labels_are_right_is_found_by_its_quiet_cells(tones: Splits) -> None:
    noise = 0.05 * torch.randn(4000, generator=torch.Generator().manual_seed(0))
    rows = (tones.train.labels == 0).nonzero()[::2, 0]
    data = tones.train.with_inputs(tones.train.inputs.replace(rows, tones.train.inputs[rows] + noise))
    suspect = train(SMALL, data, Training(epochs=8, batch_size=32, lr=0.01), seed=0)
    method = Dynamics(chooser="own", check_steps=30, strong_epochs=6, splices=100, views=2)
    flagged = method.score(suspect, data, None, 0).flagged
    assert flagged is not None
    assert flagged.nonzero()[:, 0].tolist() == rows.tolist()
    flagged = method.model_copy(update={"bar_told": False}).score(suspect, data, None, 0).flagged
    assert flagged is not None
    assert not flagged.any()
