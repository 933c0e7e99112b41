"""Hooks on modules, and that none stays."""

from collections.abc import Callable

import pytest
import torch
from torch import nn

from closesesame.models import Classifier
from closesesame.models.hooks import inputs_of, on_input, on_output, outputs_of
from closesesame.removal.common.pruning import mean_activation
from closesesame.removal.ngf import per_example
from tests.removal.rules import scripted
from tests.removal.tiny import BrokenError, breaks, tiny, vectors


def hooks_on(body: nn.Module) -> int:
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in body.modules())


@pytest.mark.parametrize(
    "watch",
    [
        lambda model: per_example(model.body.head, model.body, scripted(breaks)),
        lambda model: mean_activation(model, model.body.head, vectors(4)),
    ],
)
def test_no_hook_stays_when_the_run_breaks(
    watch: Callable[[Classifier], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = tiny()
    monkeypatch.setattr("closesesame.removal.common.pruning.predict", lambda *_: breaks())
    with pytest.raises(BrokenError):
        watch(model)
    assert hooks_on(model.body) == 0


def test_what_enters_and_leaves_is_seen_run_by_run_and_changed_where_asked() -> None:
    layer = nn.Linear(2, 2, bias=False)
    layer.weight.data = 2 * torch.eye(2)
    one, two = torch.ones(1, 2), torch.full((1, 2), 2.0)
    with inputs_of(layer) as entering, outputs_of(layer) as leaving:
        layer(one)
        layer(two)
    assert [float(value[0, 0].detach()) for value in (*entering, *leaving)] == [1, 2, 2, 4]
    with on_input(layer, lambda value: value + 1), on_output(layer, lambda value: 10 * value):
        assert layer(one).tolist() == [[40.0, 40.0]]
    layer(one)
    assert len(entering) == len(leaving) == 2
    assert layer(one).tolist() == [[2.0, 2.0]]


def test_of_what_a_recurrent_layer_puts_out_the_first_is_seen_and_the_rest_stays() -> None:
    layer = nn.LSTM(2, 3, batch_first=True)
    with on_output(layer, torch.zeros_like):
        output, (state, _) = layer(torch.ones(1, 4, 2))
    assert output.shape == (1, 4, 3)
    assert not output.any()
    assert state.any()
