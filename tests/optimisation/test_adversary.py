"""Steps of an adversary, by hand."""

import pytest
import torch

from closesesame.optimisation.adversary import sign_step, sign_steps, within_ball


def test_a_step_goes_along_the_sign_of_the_slope_up_or_down() -> None:
    x = torch.tensor([1.0, -2.0, 0.0], requires_grad=True)
    assert sign_step((x * x).sum(), x, 0.5).tolist() == [1.5, -2.5, 0.0]
    found = sign_step((x * x).sum(), x, torch.tensor([-0.5, -1.0, -1.0]))
    assert found.tolist() == [0.5, -1.0, 0.0]
    assert not found.requires_grad


def test_of_several_variables_one_that_does_not_matter_stays() -> None:
    x, y = (torch.tensor([1.0, 2.0], requires_grad=True) for _ in range(2))
    assert [moved.tolist() for moved in sign_steps(-x.sum(), [x, y], 0.25)] == [[0.75, 1.75], [1.0, 2.0]]


def test_the_ball_shortens_each_example_by_itself() -> None:
    delta = torch.tensor([[[3.0], [4.0]], [[0.3], [0.4]], [[0.0], [0.0]]])
    assert within_ball(delta, 1.0).flatten(1).flatten().tolist() == pytest.approx([0.6, 0.8, 0.3, 0.4, 0, 0])
