"""FCT: the pushed-apart classes and the moved features, by hand."""

from typing import Any

import pytest
import torch
from torch import Generator, Tensor, nn

from closesesame.core.seeding import derive
from closesesame.data import Dataset
from closesesame.detection import FCT, fct
from closesesame.detection.fct import separation_rule
from closesesame.models import Classifier, adapt
from closesesame.training import Batch, Training, features
from closesesame.training.weights import redraw
from tests.removal.tiny import assert_same, tiny, vectors


def test_the_rule_lowers_the_similarity_of_what_enters_the_last_layer() -> None:
    model = tiny()
    head = model.body.get_submodule("head")
    assert isinstance(head, nn.Linear)
    data = vectors(12)
    batch = Batch(data.inputs[:], data.labels, torch.arange(12))
    model.body.train()
    before = separation_rule(head)(model.body, batch).detach()
    with torch.no_grad():
        for weight in model.body.parameters():
            if weight.grad is not None:
                weight.sub_(0.05 * weight.grad)
    assert head.weight.grad is None  # its outputs do not count
    assert separation_rule(head)(model.body, batch).detach() < before


class Twice(nn.Module):
    """A layer that makes logits of the first two samples; they are its features."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(2, 2)

    def forward(self, wav: Tensor) -> Tensor:
        logits: Tensor = self.head(wav[:, :2])
        return logits


def test_the_score_is_the_mean_square_by_which_features_move(monkeypatch: pytest.MonkeyPatch) -> None:
    """The copies are twice and three times the clip."""
    model = adapt(Twice(), ("a", "b"), (800,), 8_000)
    wav = torch.zeros(3, 800)
    wav[:, :2] = torch.tensor([[0.1, 0.3], [0.0, 0.0], [-0.2, 0.2]])
    data = Dataset.of(wav, torch.tensor([0, 1, 1]), classes=("a", "b"), sample_rate=8_000)
    copies = iter((2.0, 3.0))
    asked: list[str] = []

    def augmentation(self: Any, strength: str) -> Any:
        asked.append(strength)

        def grow(maps: Tensor, rng: Generator) -> Tensor:
            return maps * next(copies)

        return grow

    monkeypatch.setattr(type(model.front_end), "augmentation", augmentation)
    monkeypatch.setattr(fct, "fit", lambda *_, **__: None)
    monkeypatch.setattr(features, "AT_ONCE", 3)
    found = FCT(copies=2, transformation="light").score(model, data, None, 0).scores
    # Differences are once and twice the features, so the mean of squares is 2.5 times their own.
    assert found.tolist() == pytest.approx([2.5 * 0.05, 0, 2.5 * 0.04], abs=1e-7)
    assert asked == ["light"]


def test_fresh_weights_are_trained_without_augmentation_and_then_pushed_apart(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    suspect, data, runs = tiny(), vectors(12), list[Any]()

    def fit(model: Classifier, learned: Dataset, training: Training, **more: Any) -> None:
        fresh = tiny()
        redraw(fresh, derive(6, "fresh weights"))
        assert_same(model, fresh)
        assert set(learned.ids) == set(data.ids)
        runs.append((training, more["seed"], "gradient" in more))

    monkeypatch.setattr(fct, "fit", fit)
    monkeypatch.setattr(fct, "feature_changes", lambda *_: torch.arange(12.0))
    FCT(epochs=3, separation_epochs=4, lr=0.2).score(suspect, data, None, 6)
    assert runs == [
        (Training(epochs=3, augmentation="none"), 6, False),
        (
            Training(
                epochs=4,
                lr=0.2,
                optimizer="sgd",
                weight_decay=5e-4,
                schedule="cosine",
                batch_size=128,
                augmentation="none",
            ),
            derive(6, "separation"),
            True,
        ),
    ]
