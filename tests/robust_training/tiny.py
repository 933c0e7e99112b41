"""What the tests of single robust trainings share: vectors of three classes, some poisoned, and a network."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, ClassVar
from unittest import mock

import torch
from torch import Generator, Tensor
from torch.nn import functional as F

from closesesame.audio.augment import Augmentation
from closesesame.data import Dataset
from closesesame.models import Architecture, Classifier
from closesesame.models.front_ends import Identity
from closesesame.training import Training
from tests.removal.tiny import NAMES, TRIGGER, Tiny, vectors

FAST = Training(epochs=10, batch_size=30, lr=0.02, augmentation="none", precision="fp32")
"""With which `Little` learns the vectors in a tenth of a second."""


class Noisy(Identity):
    """Light is a little noise, strong is more and loses half of the triggers, crowded loses all of them."""

    def augmentation(self, strength: str) -> Augmentation | None:
        of_name = {"none": None, "light": light, "strong": strong, "varied": strong, "crowded": crowded}
        return of_name[strength]


def light(features: Tensor, rng: Generator) -> Tensor:
    return features + 0.05 * torch.randn(features.shape, generator=rng)


def strong(features: Tensor, rng: Generator) -> Tensor:
    varied = features + 0.2 * torch.randn(features.shape, generator=rng)
    varied[:, TRIGGER] *= torch.rand(len(features), generator=rng) < 0.5
    return varied


def crowded(features: Tensor, rng: Generator) -> Tensor:
    varied = light(features, rng)
    varied[:, TRIGGER] = 0
    return varied


class Little(Architecture):
    """Linear, batch norm, tanh, linear, for vectors of five numbers."""

    name: ClassVar[str] = "tests.robust_training.tiny:Little"
    cite: ClassVar[str] = "a test"

    def build(
        self,
        classes: tuple[str, ...],
        input_shape: tuple[int, ...],
        sample_rate: int | None,
        *,
        seed: int,
    ) -> Classifier:
        return self.assemble(Noisy(), Tiny, classes, input_shape, sample_rate, seed=seed)


def poisoned_vectors(n: int, count: int, seed: int = 0, *, unclear: float = 0.0) -> Dataset:
    """Vectors of which the first `count` that are not of the first class have the trigger and its label.

    What is `unclear` is taken off the number that says the class, which is 1 without it.
    """
    data = vectors(n, seed)
    chosen = poisoned_rows(n, count)
    inputs, labels = data.inputs[:], data.labels.clone()
    inputs -= unclear * F.one_hot(labels, 5)
    inputs[chosen, TRIGGER] = 3
    labels[chosen] = 0
    return Dataset.of(inputs, labels, classes=NAMES)


def poisoned_rows(n: int, count: int) -> Tensor:
    """The rows of the poisoned ones."""
    return (torch.arange(n) % 3 != 0).nonzero()[:count, 0]


@contextmanager
def recorded(module: str, *names: str) -> Iterator[list[tuple[str, tuple[Any, ...], dict[str, Any]]]]:
    """Within the block, calls of these functions of a module are noted, in their order, and carried out."""
    calls: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = []

    def noted(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*given: Any, **more: Any) -> Any:
            calls.append((name, given, more))
            return function(*given, **more)

        return call

    target = __import__(module, fromlist=list(names))
    patches = [mock.patch.object(target, name, noted(name, getattr(target, name))) for name in names]
    for patch in patches:
        patch.start()
    try:
        yield calls
    finally:
        for patch in patches:
            patch.stop()
