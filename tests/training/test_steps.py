"""What gradient rules share: everything comes back, also when something breaks."""

import pytest
import torch
from torch import Tensor, nn

from closesesame.core.seeding import isolated
from closesesame.training.steps import elsewhere, remember_draws, training_only
from tests.removal.tiny import BrokenError, body_of, breaks, moved, state, tiny, vectors


def test_dropout_draws_again_what_it_drew() -> None:
    drop, x = nn.Sequential(nn.Linear(3, 50), nn.Dropout(0.5)).train(), torch.ones(4, 3)
    with isolated(0):
        put_back = remember_draws(drop)
        first, other = drop(x), drop(x)
        put_back()
        again = drop(x)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


@pytest.mark.parametrize("break_it", [False, True])
def test_weights_and_statistics_come_back_from_elsewhere(break_it: bool) -> None:
    body = body_of(tiny()).train()
    before, weights = state(body), list(body.parameters())
    steps: list[Tensor | None] = [torch.full_like(weight, 0.1) for weight in weights]
    steps[0] = None
    try:
        with elsewhere(body, weights, steps):
            names = [name for name, _ in body.named_parameters()]
            body(vectors(8).inputs[:])
            assert moved(body, before) == set(before) - {names[0]}
            for weight, name in zip(weights[1:], names[1:], strict=True):
                torch.testing.assert_close(weight.detach(), before[name] + 0.1)
            if break_it:
                breaks()
    except BrokenError:
        assert break_it
    assert not moved(body, before)


@pytest.mark.parametrize("break_it", [False, True])
def test_only_the_chosen_weights_take_part_and_all_do_again_afterwards(break_it: bool) -> None:
    body = body_of(tiny())
    body.first.bias.requires_grad_(False)
    try:
        with training_only(body, [*body.head.parameters()][:1] + [*body.first.parameters()][1:]):
            taking_part = {name for name, weight in body.named_parameters() if weight.requires_grad}
            assert taking_part == {"head.weight", "first.bias"}
            if break_it:
                breaks()
    except BrokenError:
        assert break_it
    left_out = {name for name, weight in body.named_parameters() if not weight.requires_grad}
    assert left_out == {"first.bias"}
