"""What tests of gradient rules share: batches whose loss is given, and networks to differentiate by hand."""

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from closesesame.core.seeding import isolated
from closesesame.models import Classifier
from closesesame.training import Batch

M = TypeVar("M", bound=nn.Module)
HESSIAN = torch.tensor([[3.0, 1.0, 0.0], [1.0, 2.0, 0.5], [0.0, 0.5, 1.0]], dtype=torch.float64)
START = torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64)


def batch_of(features: Tensor, labels: Tensor) -> Batch:
    """All examples as one batch."""
    return Batch(features, labels, torch.arange(len(labels)))


@dataclass(frozen=True)
class Exact(Batch):
    """A batch whose losses keep all digits of a network in double precision."""

    def losses(self, body: nn.Module) -> Tensor:
        return F.cross_entropy(body(self.features), self.labels, reduction="none")

    def loss(self, body: nn.Module) -> Tensor:
        return F.cross_entropy(body(self.features), self.labels)


def exact(features: Tensor, labels: Tensor) -> Batch:
    return Exact(features, labels, torch.arange(len(labels)))


@dataclass(frozen=True)
class Scripted(Batch):
    """A batch whose loss is what a function returns."""

    run: Callable[[], Tensor] = torch.empty

    def loss(self, body: nn.Module) -> Tensor:
        return self.run()


def scripted(run: Callable[[], Tensor]) -> Batch:
    none = torch.zeros(0, dtype=torch.long)
    return Scripted(torch.zeros(0, 1), none, none, run=run)


class Quadratic(nn.Module):
    """Loss w H w / 2 over two tensors: the first two weights and the third; a fourth is not used."""

    def __init__(self) -> None:
        super().__init__()
        self.one = nn.Parameter(START[:2].clone())
        self.two = nn.Parameter(START[2:].clone())
        self.unused = nn.Parameter(torch.zeros(1))

    def loss(self) -> Tensor:
        w = self.weights()
        loss: Tensor = w @ HESSIAN @ w / 2
        return loss

    def batch(self) -> Batch:
        return scripted(self.loss)

    def weights(self) -> Tensor:
        return torch.cat([self.one, self.two])

    def gradient(self) -> Tensor:
        assert self.one.grad is not None
        assert self.two.grad is not None
        assert self.unused.grad is None
        return torch.cat([self.one.grad, self.two.grad])


class Net(nn.Module):
    """A small network whose head is listed first; `tail` adds what makes it end otherwise."""

    def __init__(self, inputs: int = 5, tail: nn.Module | None = None) -> None:
        super().__init__()
        self.head = nn.Linear(6, 4)
        self.norm = nn.BatchNorm1d(6)
        self.first = nn.Linear(inputs, 6)
        self.drop = nn.Dropout(0.5)
        self.tail = tail or nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.tail(self.head(self.drop(torch.tanh(self.norm(self.first(x))))))
        return out


def small_net(inputs: int = 5) -> tuple[Net, Tensor, Tensor]:
    """A network without dropout, in double precision and evaluation mode, and a batch for it."""
    with isolated(3):
        body = Net(inputs)
        x, y = torch.randn(6, inputs, dtype=torch.float64), torch.tensor([0, 1, 2, 3, 0, 1])
    return body.double().eval(), x, y


def part(body: nn.Module, name: str, kind: type[M]) -> M:
    """A module of a network, by its name."""
    found = body.get_submodule(name)
    assert isinstance(found, kind)
    return found


def model_of(body: nn.Module, clean_model: Classifier) -> Classifier:
    """A model with another body behind the same front end."""
    return Classifier(copy.deepcopy(clean_model.front_end), body, clean_model.card)


def same(a: nn.Module, b: nn.Module) -> bool:
    """Whether two networks hold the same numbers."""
    other = b.state_dict()
    return all(torch.equal(value, other[key]) for key, value in a.state_dict().items())
