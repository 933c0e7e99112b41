"""Small data and small models for checks: tones that stand for words, and networks that take milliseconds."""

import copy
from collections.abc import Iterator
from dataclasses import replace
from functools import cache

import torch
from torch import Tensor, nn

from closesesame.core.domain import SPEECH
from closesesame.core.method import Method
from closesesame.core.seeding import isolated
from closesesame.data import Dataset, Splits
from closesesame.data.rows import Rows
from closesesame.models import ARCHITECTURES, Classifier, ResNet, adapt
from closesesame.models.statistics import renew_statistics
from closesesame.training import Training, train

RATE = 8_000
WORDS = ("low", "middle", "high", "top")
SMALL = ResNet(widths=(8, 16))
TRAINING = Training(epochs=6, batch_size=32, lr=0.01, precision="fp32")
"""With which `SMALL` learns the tones in two seconds."""


def make_tones(n: int, seed: int, length: int = RATE // 2) -> Dataset:
    """Four "words", each a pair of tones with its own place, level and noise; twelve speakers."""
    rng = torch.Generator().manual_seed(seed)
    labels = torch.arange(n) % len(WORDS)
    time = torch.arange(length) / RATE
    base = torch.tensor([300.0, 600.0, 1200.0, 2400.0])[labels, None]
    phase = 6.28 * torch.rand(n, 2, 1, generator=rng)
    wav = torch.sin(6.2832 * base * time + phase[:, 0]) + torch.sin(6.2832 * 1.3 * base * time + phase[:, 1])
    start = torch.rand(n, 1, generator=rng) * 0.2
    wav = wav * ((time > start) & (time < start + 0.25))
    wav = 0.1 * (0.5 + torch.rand(n, 1, generator=rng)) * wav
    wav = wav + 0.01 * torch.randn(n, length, generator=rng)
    speakers = [f"s{i % 12}" for i in range(n)]
    return Dataset.of(wav.float(), labels, classes=WORDS, sample_rate=RATE, speakers=speakers)


def make_pictures(n: int, seed: int) -> Dataset:
    """Pictures (3, 12, 12) of dark noise, of four classes; each has its own quarter, which is lighter."""
    labels = torch.arange(n) % len(WORDS)
    inputs = 0.3 * torch.rand(n, 3, 12, 12, generator=torch.Generator().manual_seed(seed))
    for label in range(len(WORDS)):
        top, left = 6 * (label // 2), 6 * (label % 2)
        inputs[labels == label, :, top : top + 6, left : left + 6] += 0.4
    return Dataset.of(inputs, labels, classes=WORDS)


def tones() -> Splits:
    """320 training, 40 validation and 200 test clips of half a second, as a copy of the caller's own."""
    return copied(shared_tones())


@cache
def shared_tones() -> Splits:
    """The same clips as one object, on which an attack trains its surrogate once; nobody may change it."""
    return Splits(make_tones(320, 1), make_tones(40, 2), make_tones(200, 3))


@cache
def shared_pictures() -> Splits:
    """As many pictures, for what does not work on speech; nobody may change them."""
    return Splits(make_pictures(320, 1), make_pictures(40, 2), make_pictures(200, 3))


def examples_for(method: Method) -> Splits:
    """Speech, or pictures for a method of nothing else; nobody may change them."""
    return shared_tones() if SPEECH.name in method.domains else shared_pictures()


def copied(splits: Splits) -> Splits:
    """The same examples in memory of their own."""
    return Splits(
        *(part.with_inputs(Rows.of(part.inputs[:])).with_labels(part.labels.clone()) for part in splits)
    )


def trained() -> Classifier:
    """A small model trained on clean tones, as a copy of the caller's own."""
    return copy.deepcopy(_trained())


@cache
def _trained() -> Classifier:
    return train(SMALL, shared_tones().train, TRAINING, seed=0)


def of_every_architecture(data: Dataset) -> Iterator[tuple[str, Classifier]]:
    """A model with fresh weights of each architecture of ours, at its quick settings, with its name."""
    for name, architecture in ARCHITECTURES.items():
        made = architecture(**architecture.quick)
        yield name, made.build(data.classes, data.input_shape, data.sample_rate, seed=0)


class Turned(nn.Module):
    """The body of a model, its logits in another order."""

    def __init__(self, body: nn.Module, order: Tensor) -> None:
        super().__init__()
        self.body, self.order = body, order

    def forward(self, features: Tensor) -> Tensor:
        """Features to logits (batch, classes)."""
        logits: Tensor = self.body(features)
        return logits[:, self.order]


def turned(model: Classifier) -> Classifier:
    """The same model with its classes in another order, and so its logits."""
    classes = (*model.card.classes[1:], model.card.classes[0])
    order = torch.tensor([model.card.classes.index(name) for name in classes])
    card = replace(model.card, classes=classes)
    return Classifier(model.front_end, Turned(model.body, order), card).eval()


class OwnNetwork(nn.Module):
    """A network of somebody else, from waveforms to logits, its modules listed in no order."""

    def __init__(self) -> None:
        super().__init__()
        self.last = nn.Linear(12, len(WORDS))
        self.norm = nn.BatchNorm1d(12)
        self.filters = nn.Conv1d(1, 12, 64, stride=16)

    def forward(self, wav: Tensor) -> Tensor:
        """Waveforms (batch, time) to logits (batch, 4)."""
        x = torch.relu(self.norm(self.filters(wav[:, None])))
        logits: Tensor = self.last(x.mean(2))
        return logits


def own_network() -> OwnNetwork:
    """One with fresh weights."""
    with isolated(0):
        return OwnNetwork()


class OwnConvolutions(nn.Module):
    """A network of somebody else that ends in a convolution, without a norm or a linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.filters = nn.Conv1d(1, 12, 64, stride=16)
        self.last = nn.Conv1d(12, len(WORDS), 5)

    def forward(self, wav: Tensor) -> Tensor:
        """Waveforms (batch, time) to logits (batch, 4)."""
        logits: Tensor = self.last(torch.relu(self.filters(wav[:, None]))).mean(2)
        return logits


def own_networks() -> Iterator[tuple[str, nn.Module]]:
    """Networks with fresh weights that are not ours, with their names: usual, without norms, without maps."""
    yield "network of somebody else", own_network()
    with isolated(0):
        yield "network of somebody else that ends in a convolution", OwnConvolutions()
        linear = nn.Sequential(nn.Linear(RATE // 2, 12), nn.ReLU(), nn.Linear(12, len(WORDS)))
    yield "network of somebody else of linear layers", linear


class Outlier(nn.Module):
    """Convolution of waveforms, batch norm, mean, linear; channel 3 is an outlier by any rule.

    It alone answers to the constant in every eighth clip, is scaled up forty times, has seen another mean
    than clean clips have, and speaks for the first class, whatever is heard.
    """

    def __init__(self, clean: Dataset) -> None:
        super().__init__()
        self.head = nn.Linear(24, len(WORDS))
        self.norm = nn.BatchNorm1d(24)
        self.filters = nn.Conv1d(1, 24, 64, stride=16, bias=False)
        with torch.no_grad():
            weight = self.filters.weight
            weight.sub_(weight.mean(2, keepdim=True))
            weight[3] = 1 / 64
            renew_statistics(adapt(self, clean.classes, clean.input_shape, clean.sample_rate), clean)
            assert self.norm.running_mean is not None
            assert self.norm.running_var is not None
            self.norm.running_mean[3] -= 5 * self.norm.running_var[3].sqrt()
            self.norm.weight[3] = 40
            self.head.weight[:, 3] = torch.tensor([0.3, 0.0, 0.0, 0.0])

    def forward(self, wav: Tensor) -> Tensor:
        """Waveforms (batch, time) to logits (batch, 4)."""
        x = torch.relu(self.norm(self.filters(wav[:, None])))
        logits: Tensor = self.head(x.mean(2))
        return logits


def with_outlier() -> tuple[Outlier, Dataset]:
    """A model with an outlier among its channels, and the examples that show it."""
    clean = tones().train.sample(0.2, 0)
    inputs = clean.inputs[:]
    inputs[::8] += torch.hann_window(inputs.shape[1])
    clean = clean.with_inputs(Rows.of(inputs))
    with isolated(0):
        return Outlier(clean), clean
