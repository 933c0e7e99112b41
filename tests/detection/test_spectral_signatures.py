"""Spectral signatures, by hand."""

import pytest
import torch
from torch import Tensor, nn

from closesesame.data import Dataset
from closesesame.detection import SpectralSignatures
from closesesame.detection.spectral_signatures import signature
from closesesame.models import Classifier, adapt


class Twice(nn.Module):
    """A layer that makes logits of the first two samples; they are its features."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(2, 2)

    def forward(self, wav: Tensor) -> Tensor:
        logits: Tensor = self.head(wav[:, :2])
        return logits


def model() -> Classifier:
    return adapt(Twice(), ("a", "b"), (800,), 8_000)


def data() -> Dataset:
    """Four clips a class: a square stretched along one axis, far from the origin, and the axes differ."""
    wav = torch.zeros(8, 800)
    wav[:4, :2] = 0.5 + torch.tensor([[0.3, 0.0], [-0.3, 0.0], [0.0, 0.1], [0.0, -0.1]])
    wav[4:, :2] = -0.5 + torch.tensor([[0.02, 0.0], [-0.02, 0.0], [0.0, 0.04], [0.0, -0.04]])
    return Dataset.of(wav, torch.tensor([0] * 4 + [1] * 4), classes=("a", "b"), sample_rate=8_000)


def test_scores_are_squared_parts_along_the_main_direction_of_the_centred_class() -> None:
    scores = SpectralSignatures().score(model(), data(), None, 0).scores
    assert scores.tolist() == pytest.approx([0.09, 0.09, 0, 0, 0, 0, 0.0016, 0.0016], abs=1e-6)


def test_standardised_scores_of_each_class_have_mean_one() -> None:
    scores = SpectralSignatures(standardised=True).score(model(), data(), None, 0).scores
    assert scores.tolist() == pytest.approx([2, 2, 0, 0, 0, 0, 2, 2], abs=1e-4)


def test_a_clip_alone_in_its_class_is_not_suspicious() -> None:
    assert signature(torch.tensor([[3.0, 4.0]]).double()).tolist() == [0.0]


def test_it_finds_clips_of_another_kind_behind_one_label() -> None:
    rng = torch.Generator().manual_seed(0)
    wav = 0.05 * torch.randn(40, 800, generator=rng)
    wav[30:, 0] += 0.8
    set_of = Dataset.of(wav, torch.arange(40) // 36, classes=("a", "b"), sample_rate=8_000)
    scores = SpectralSignatures().score(model(), set_of, None, 0).scores[:36]
    assert set(scores.topk(6).indices.tolist()) == set(range(30, 36))
