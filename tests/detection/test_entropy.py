"""Entropy as a score, by hand."""

import math

import pytest
import torch
from torch import Tensor, nn

from closesesame.data import Dataset
from closesesame.detection import Entropy
from closesesame.models import Classifier, adapt


class Spoken(nn.Module):
    """Logits that are twice the first three samples of a clip."""

    def forward(self, wav: Tensor) -> Tensor:
        return 2 * wav[:, :3]


def model() -> Classifier:
    return adapt(Spoken(), ("a", "b", "c"), (800,), 8_000)


def test_the_score_is_minus_the_entropy_in_bits_whatever_the_label() -> None:
    wav = torch.zeros(3, 800)
    wav[1, 0] = math.log(2) / 2  # probabilities 1/2, 1/4, 1/4
    wav[2, 2] = 20.0
    data = Dataset.of(wav, torch.tensor([0, 2, 1]), classes=("a", "b", "c"), sample_rate=8_000)
    scores = Entropy().score(model(), data, None, 0).scores
    assert scores.tolist() == pytest.approx([-math.log2(3), -1.5, 0], abs=1e-6)


def test_entropies_near_0_still_differ() -> None:
    wav = torch.zeros(2, 800)
    wav[:, 0] = torch.tensor([60.0, 70.0])
    data = Dataset.of(wav, torch.tensor([0, 0]), classes=("a", "b", "c"), sample_rate=8_000)
    less, more = Entropy().score(model(), data, None, 0).scores.tolist()
    assert less < more < 0
