"""Training loss as a score, by hand."""

import math

import pytest
import torch
from torch import Tensor, nn

from closesesame.data import Dataset
from closesesame.detection import TrainingLoss
from closesesame.models import adapt


class Fixed(nn.Module):
    """Logits 0 and log 3 for whatever it hears."""

    def forward(self, wav: Tensor) -> Tensor:
        return torch.tensor([0.0, math.log(3)]).expand(len(wav), 2)


def test_the_score_is_the_logarithm_of_the_probability_of_the_given_label() -> None:
    data = Dataset.of(torch.zeros(2, 800), torch.tensor([0, 1]), classes=("a", "b"), sample_rate=8_000)
    scores = TrainingLoss().score(adapt(Fixed(), ("a", "b"), (800,), 8_000), data, None, 0).scores
    assert scores.tolist() == pytest.approx([math.log(0.25), math.log(0.75)], abs=1e-6)
