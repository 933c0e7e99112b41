"""Which clips keep their labels, by hand."""

import math

import pytest
import torch

from closesesame.robust_training.common.splitting import lowest, symmetric_losses


def test_the_symmetric_loss_is_that_of_the_formula() -> None:
    p = [0.7, 0.2, 0.1]
    logits = torch.log(torch.tensor([p, p]))
    by_hand = [-0.1 * math.log(p[label]) - math.log(1e-4) * (1 - p[label]) for label in (0, 2)]
    assert symmetric_losses(logits, torch.tensor([0, 2])).tolist() == pytest.approx(by_hand, rel=1e-5)


def test_the_lowest_share_is_chosen() -> None:
    losses = torch.tensor([3.0, 1.0, 2.0, 0.5, 9.0])
    assert lowest(losses, 0.4).tolist() == [False, True, False, True, False]
    assert lowest(losses, 0.01).tolist() == [False, False, False, True, False]
    assert lowest(losses, 1.0).all()
