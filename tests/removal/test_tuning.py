"""What removals that fine-tune share: everything comes back, also when something breaks."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from closesesame.core.seeding import isolated
from closesesame.models import Classifier
from closesesame.models.channels import channels_in
from closesesame.models.statistics import freeze_statistics, renew_statistics
from closesesame.removal.fine_pruning import mean_activation, mean_output
from closesesame.removal.ngf import per_example
from closesesame.training.steps import elsewhere, remember_draws, training_only, with_logits
from tests.removal.tiny import body_of, moved, state, tiny, vectors


class BrokenError(Exception):
    """What the tests break with."""


def breaks() -> Tensor:
    raise BrokenError


def hooks_on(body: nn.Module) -> int:
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in body.modules())


def test_the_logits_are_those_of_the_loss() -> None:
    body, data = body_of(tiny()), vectors(6)
    value, logits = with_logits(body, lambda: nn.functional.cross_entropy(body(data.inputs[:]), data.labels))
    torch.testing.assert_close(value, nn.functional.cross_entropy(logits, data.labels))
    assert torch.equal(logits, body(data.inputs[:]))
    assert hooks_on(body) == 0


@pytest.mark.parametrize(
    "watch",
    [
        lambda model: with_logits(model.body, breaks),
        lambda model: per_example(model.body.head, breaks),
        lambda model: mean_activation(model, model.body.head, vectors(4)),
        lambda model: mean_output(model, channels_in(model)[0], vectors(4)),
    ],
)
def test_no_hook_stays_when_the_run_breaks(
    watch: Callable[[Classifier], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = tiny()
    monkeypatch.setattr("closesesame.removal.fine_pruning.predict", lambda *_: breaks())
    with pytest.raises(BrokenError):
        watch(model)
    assert hooks_on(model.body) == 0


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


def test_frozen_statistics_are_used_and_kept() -> None:
    body = body_of(tiny()).train()
    before, x = state(body), vectors(8).inputs[:]
    freeze_statistics(body)
    logits = body(x)
    assert not moved(body, before)
    assert body.head.training
    assert torch.equal(logits, body.eval()(x))


def test_renewed_statistics_leave_the_momentum_alone_when_the_run_breaks() -> None:
    model = tiny()
    model.body.register_forward_pre_hook(lambda *_: breaks())
    with pytest.raises(BrokenError):
        renew_statistics(model, vectors(8))
    assert body_of(model).norm.momentum == 0.1
    assert not any(module.training for module in model.modules())
