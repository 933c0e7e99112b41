"""Hooks on modules, and that none stays."""

from collections.abc import Callable

import pytest
from torch import nn

from closesesame.models import Classifier
from closesesame.models.channels import channels_in
from closesesame.removal.fine_pruning import mean_activation, mean_output
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
