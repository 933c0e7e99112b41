"""What an attack with a generator hands to the joint training."""

from collections.abc import Callable

import pytest
import torch

from closesesame.attacks import DriNet, InputAware
from closesesame.attacks.common.surrogate import Made
from closesesame.data import Dataset

Make = Callable[[torch.Tensor, torch.Generator], Made]


def generator_of(
    attack: InputAware | DriNet, data: Dataset, monkeypatch: pytest.MonkeyPatch, seed: int = 0
) -> tuple[Make, dict[str, torch.Tensor]]:
    """What an attack hands to the joint training: how it makes a batch, and its weights before."""
    caught: list[Make] = []
    monkeypatch.setattr(type(attack), "train_jointly", lambda *given: caught.append(given[-1]))
    state = dict(attack.prepare(data, seed))
    return caught[0], state
