"""Confident learning: the rule by hand, models that never saw a clip, and wrong labels that are found."""

from typing import Any

import pytest
import torch

from closesesame.data import Dataset, Splits
from closesesame.detection import ConfidentLearning, confident_learning
from closesesame.detection.confident_learning import doubt, folds_of
from closesesame.evaluation.screening import area
from closesesame.models import Classifier
from closesesame.training import Training, fit, predict


def test_probabilities_count_from_the_threshold_of_their_class() -> None:
    rows = [[0.8, 0.1, 0.1], [0.6, 0.3, 0.1], [0.1, 0.7, 0.2], [0.5, 0.3, 0.2]]
    p = torch.tensor(rows, dtype=torch.float64)
    labels = torch.tensor([0, 0, 1, 1])
    # Thresholds are 0.7, 0.5 and, for a class that is no label, 1.
    wanted = [-0.4 - 0.1, -0.2 + 0.1, -0.6 - 0.2, -0.2 + 0.2]
    assert doubt(p, labels).tolist() == pytest.approx(wanted)


def test_each_fold_has_its_share_of_each_class() -> None:
    labels = torch.tensor([0, 1, 0] * 4)
    fold = folds_of(labels, 4, 0)
    assert all(labels[fold == number].sort().values.tolist() == [0, 0, 1] for number in range(4))
    assert not torch.equal(folds_of(labels, 4, 1), fold)


def test_a_clip_is_judged_by_a_fresh_model_that_never_saw_it(
    clean_model: Classifier, tones: Splits, monkeypatch: pytest.MonkeyPatch
) -> None:
    learnt: list[Dataset] = []
    judged: list[Dataset] = []
    weights = []

    def fit_too(model: Classifier, data: Dataset, training: Training, **more: Any) -> None:
        learnt.append(data)
        weights.append(next(model.body.parameters()).detach().clone())
        fit(model, data, training, **more)

    def predict_too(model: Classifier, data: Dataset) -> torch.Tensor:
        judged.append(data)
        return predict(model, data)

    monkeypatch.setattr(confident_learning, "fit", fit_too)
    monkeypatch.setattr(confident_learning, "predict", predict_too)
    examples = tones.test.take(torch.arange(60))
    ConfidentLearning(folds=3, training=Training(steps=1)).score(clean_model, examples, None, 0)
    everyone = set(examples.ids)
    assert len(learnt) == len(judged) == 3
    for data, others in zip(learnt, judged, strict=True):
        assert set(data.ids) == everyone - set(others.ids)
    assert sorted(name for data in judged for name in data.ids) == sorted(everyone)
    assert not torch.equal(weights[0], weights[1])
    assert not any(torch.equal(one, next(clean_model.body.parameters())) for one in weights)


def test_it_finds_wrong_labels_in_any_order(clean_model: Classifier, tones: Splits) -> None:
    wrong = torch.arange(len(tones.train)) % 16 == 3
    labels = torch.where(wrong, (tones.train.labels + 1) % 4, tones.train.labels)
    order = torch.randperm(len(wrong), generator=torch.Generator().manual_seed(0))
    examples, wrong = tones.train.with_labels(labels).take(order), wrong[order]
    training = Training(epochs=4, batch_size=32, lr=0.01, precision="fp32")
    scores = ConfidentLearning(folds=2, training=training).score(clean_model, examples, None, 0).scores
    assert area(scores[wrong], scores[~wrong]).value > 0.95
