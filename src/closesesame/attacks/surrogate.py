"""What attacks that optimise share: a model of the attacker's own, trained on the data it poisons."""

from abc import ABC
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import ClassVar

import torch
from jaxtyping import Float32
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from closesesame.core.progress import Track
from closesesame.core.seeding import derive, generator
from closesesame.core.types import Wave
from closesesame.data import Dataset
from closesesame.models import ARCHITECTURES, Architecture, Classifier
from closesesame.training import Training, train

from .base import Attack


class SurrogateAttack(Attack, ABC):
    """An attack that looks for its trigger, or its hosts, with a clean model of its own."""

    needs: ClassVar[str] = "a surrogate model, which it trains on the clean training set"

    surrogate: str = Field("resnet", description="architecture of the surrogate, see `sesame list model`")
    surrogate_epochs: int = Field(15, ge=1, description="passes over the training set")

    def train_surrogate(self, data: Dataset, seed: int) -> Classifier:
        """A clean model, frozen and in evaluation mode; trained once for all that ask with the same seed."""
        training = Training(epochs=self.surrogate_epochs)
        return _train(ARCHITECTURES.make(self.surrogate), data, training, derive(seed, "surrogate"))


@lru_cache(maxsize=2)
def _train(architecture: Architecture, data: Dataset, training: Training, seed: int) -> Classifier:
    return train(architecture, data, training, seed=seed).requires_grad_(requires_grad=False)


def last_linear(model: Classifier) -> nn.Linear:
    """The layer that makes the logits: what it takes are the penultimate features."""
    return [module for module in model.body.modules() if isinstance(module, nn.Linear)][-1]


def penultimate(model: Classifier, inputs: Wave) -> Tensor:
    """Penultimate features (batch, units) of clips (batch, time), differentiable."""
    seen: list[Tensor] = []
    hook = last_linear(model).register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    try:
        model(inputs)
    finally:
        hook.remove()
    return seen[0]


def draws(
    data: Dataset, size: int, steps: int, what: str, seed: int
) -> Iterator[tuple[Float32[Tensor, "batch time"], Tensor]]:
    """Random batches of clips (size, time) and their labels, one a step, with a progress bar."""
    rng = generator(seed, what)
    for _ in Track(range(steps), what, steps):
        index = torch.randperm(len(data), generator=rng)[:size]
        yield data.inputs[index], data.labels[index]


def laid(sound: Float32[Tensor, " sound"], starts: Sequence[int], length: int) -> Wave:
    """As `effects.placed`, and gradients reach the sound."""
    size = len(sound)
    return torch.stack([F.pad(sound, (start, max(0, length - start - size)))[:length] for start in starts])
