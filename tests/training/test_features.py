"""Losses of features, by hand."""

import pytest
import torch

from closesesame.training.features import likeness_of_means


def test_the_mean_features_of_classes_are_compared_by_their_angle() -> None:
    """Means (2, 0), (0, 2) and (1, 1), whose lengths do not matter: cosines 0, 0.7071 and 0.7071."""
    features = torch.tensor([[3.0, 0.0], [1.0, 0.0], [0.0, 2.0], [1.0, 1.0]])
    labels = torch.tensor([5, 5, 1, 2])
    assert float(likeness_of_means(features, labels)) == pytest.approx(2 * 0.70710678 / 3, abs=1e-6)
    assert float(likeness_of_means(features, torch.zeros(4, dtype=torch.long))) == 0
