"""What the tests of single removals share: vectors of three classes, and networks small enough to follow."""

import copy

import torch
from torch import Tensor, nn

from closesesame.core.seeding import isolated
from closesesame.data import Dataset
from closesesame.models import Classifier, adapt

NAMES = ("one", "two", "three")
TRIGGER = 4
"""The number of the input that no clean vector uses."""
BARE: dict[str, object] = {
    "momentum": 0.0,
    "weight_decay": 0.0,
    "schedule": "constant",
    "augmentation": "none",
}
"""Gradient descent without anything else, to follow by hand."""


def vectors(n: int, seed: int = 0) -> Dataset:
    """Five numbers each: the first three say the class, the fourth is noise, the last is zero."""
    noise = 0.3 * torch.randn(n, 5, generator=torch.Generator().manual_seed(seed))
    labels = torch.arange(n) % 3
    inputs = noise + nn.functional.one_hot(labels, 5)
    inputs[:, TRIGGER] = 0
    return Dataset.of(inputs, labels, classes=NAMES)


def triggered(data: Dataset) -> Dataset:
    """The vectors not of the first class, with the trigger."""
    data = data.where(data.labels != 0)
    inputs = data.inputs[:]
    inputs[:, TRIGGER] = 3
    return Dataset.of(inputs, data.labels, classes=NAMES)


class Tiny(nn.Module):
    """Linear, batch norm, tanh, and a head that is listed first."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(6, 3)
        self.norm = nn.BatchNorm1d(6)
        self.first = nn.Linear(5, 6)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.head(torch.tanh(self.norm(self.first(x))))
        return logits


class Victim(nn.Module):
    """Twelve rectified units: three say the class, eight hear a little of all, the last the trigger alone."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(5, 12)
        self.head = nn.Linear(12, 3)
        with torch.no_grad():
            for weight in self.parameters():
                weight.zero_()
            self.first.weight[:3, :3] = torch.eye(3)
            self.head.weight[:, :3] = 4 * torch.eye(3)
            self.first.weight[3:11, :4] = 0.7
            self.first.weight[11, TRIGGER] = 5
            self.head.weight[0, 11] = 4

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.head(torch.relu(self.first(x)))
        return logits


def tiny(seed: int = 0) -> Classifier:
    """A tiny network with fresh weights, as `repair` gets it."""
    with isolated(seed):
        return adapt(Tiny(), NAMES, (5,), None).eval()


def victim() -> Classifier:
    """A network that says the first class when the trigger is there."""
    return adapt(Victim(), NAMES, (5,), None).eval()


def suspect() -> Classifier:
    """`victim` with a little noise on all weights, so that no two channels are alike."""
    model = victim()
    with torch.no_grad():
        for weight in model.body.parameters():
            weight.add_(0.1 * torch.randn(weight.shape, generator=torch.Generator().manual_seed(2)))
    return model


def body_of(model: Classifier) -> Tiny:
    """The network of `tiny`, to work with by name."""
    assert isinstance(model.body, Tiny)
    return model.body


def asr(model: Classifier, data: Dataset) -> float:
    """How often the first class is said for what is not of it but has the trigger."""
    with torch.no_grad():
        return float((model(triggered(data).inputs[:]).argmax(1) == 0).float().mean())


def state(model: nn.Module) -> dict[str, Tensor]:
    """A copy of weights and statistics."""
    return copy.deepcopy(model.state_dict())


def moved(model: nn.Module, before: dict[str, Tensor]) -> set[str]:
    """The names of what is not as it was."""
    return {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}


def assert_same(model: nn.Module, expected: nn.Module) -> None:
    """Two networks hold the same numbers, but for rounding."""
    other = expected.state_dict()
    for name, value in model.state_dict().items():
        assert torch.allclose(value, other[name], rtol=1e-4, atol=1e-5), name


class BrokenError(Exception):
    """What the tests break with."""


def breaks() -> Tensor:
    raise BrokenError
