"""A small network on pictures, whose channels are easy to follow."""

import torch
from torch import Tensor, nn

from closesesame.core.seeding import isolated
from closesesame.data import Dataset
from closesesame.data.rows import Rows
from closesesame.models import Classifier, adapt
from tests.conftest import WORDS


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


class Plain(nn.Module):
    """Convolution of 3 channels to 24, batch norm, mean, linear."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(24, 4)
        self.norm = nn.BatchNorm2d(24)
        self.conv = nn.Conv2d(3, 24, 3)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.head(torch.relu(self.norm(self.conv(x))).mean((2, 3)))
        return logits


def plain() -> tuple[Classifier, Plain]:
    with isolated(0), torch.no_grad():
        net = Plain()
        net.norm.weight.uniform_(-2, 2)
        net.norm.running_var = torch.rand(24) + 0.5
        net.norm.running_mean = torch.randn(24)
    return adapt(net, WORDS, (3, 8, 8), None), net


def pictures(n: int, seed: int = 0) -> Dataset:
    """Of no bounds, to be easy to compute with."""
    dark = Dataset.of(torch.zeros(n, 3, 8, 8), torch.arange(n) % 4, classes=WORDS)
    return dark.with_inputs(Rows.of(drawn(n, 3, 8, 8, seed=seed)))
