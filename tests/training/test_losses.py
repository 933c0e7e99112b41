"""Losses beside the cross-entropy, by hand."""

import math

import pytest
import torch

from closesesame.training.losses import loss_against


def test_a_class_is_pushed_down_by_minus_log_of_one_minus_its_probability() -> None:
    logits = torch.log(torch.tensor([[0.25, 0.75], [0.5, 0.5]]))
    found = loss_against(logits, torch.tensor([0, 1]), margin=1e-4)
    assert found.tolist() == pytest.approx([-math.log(0.7501), -math.log(0.5001)], rel=1e-5)
    sure = torch.tensor([[90.0, -90.0]])
    assert float(loss_against(sure, torch.tensor([0]), margin=1e-4)) == pytest.approx(
        -math.log(1e-4), rel=1e-2
    )


def test_a_class_that_is_unlikely_enough_is_left_alone() -> None:
    logits = torch.log(torch.tensor([[0.05, 0.95]])).requires_grad_()
    loss = loss_against(logits, torch.tensor([0]), margin=0.0, least=0.1)
    assert float(loss) == pytest.approx(-math.log(0.9))
    assert torch.autograd.grad(loss.sum(), logits)[0].tolist() == [[0.0, 0.0]]
