"""A backdoored network with a batch norm whose statistics are those of a poisoned training set."""

import torch
from torch import Tensor, nn

from closesesame.data import Dataset
from closesesame.models import Classifier, adapt
from tests.removal.tiny import NAMES, Victim, triggered, vectors


class Stained(nn.Module):
    """The twelve units of `Victim` behind a batch norm; unit 11 hears the trigger alone."""

    def __init__(self) -> None:
        super().__init__()
        plain = Victim()
        self.first, self.head = plain.first, plain.head
        self.norm = nn.BatchNorm1d(12)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.head(torch.relu(self.norm(self.first(x))))
        return logits


def mixture() -> Dataset:
    """The untrusted training set: 450 clean vectors, and 50 triggered ones under the first class's label."""
    clean, poisoned = vectors(450), triggered(vectors(75, 2))
    inputs = torch.cat([clean.inputs[:], poisoned.inputs[:]])
    labels = torch.cat([clean.labels, torch.zeros_like(poisoned.labels)])
    return Dataset.of(inputs, labels, classes=NAMES)


def stained() -> Classifier:
    """The network: its norm changes unit 11 alone, which is 0 on clean vectors and high on triggered ones."""
    net, data = Stained(), mixture()
    with torch.no_grad():
        made = net.first(data.inputs[:])
        net.norm.running_mean = made.mean(0)
        net.norm.running_var = made.var(0, correction=0)
        net.norm.weight.copy_((net.norm.running_var + net.norm.eps).sqrt())
        net.norm.bias.copy_(net.norm.running_mean)
        net.norm.bias[11] = 0
    return adapt(net, NAMES, (5,), None).eval()
