"""Weights drawn anew, or between two sets."""

import torch

from closesesame.training.weights import interpolated


def test_a_share_of_the_way_and_the_counters_of_the_end() -> None:
    start = {"w": torch.tensor([0.0, 4.0]), "count": torch.tensor(3)}
    end = {"w": torch.tensor([1.0, 0.0]), "count": torch.tensor(9)}
    between = interpolated(start, end, 0.25)
    assert between["w"].tolist() == [0.25, 3.0]
    assert between["count"] == 9
