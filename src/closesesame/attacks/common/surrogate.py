"""What attacks that optimise share: a model of the attacker's own, trained on the data it poisons."""

import copy
import math
from abc import ABC
from collections.abc import Callable, Iterator, Sequence
from typing import Any, ClassVar, NamedTuple
from weakref import WeakKeyDictionary

import torch
from jaxtyping import Float32
from pydantic import Field
from torch import Generator, Tensor, nn
from torch.nn import functional as F

from closesesame.attacks.base import Attack
from closesesame.core.bounds import BatchSize, LossWeight, Steps
from closesesame.core.errors import DivergedError
from closesesame.core.progress import Track
from closesesame.core.seeding import derive, generator, isolated
from closesesame.core.types import Wave
from closesesame.data import Dataset
from closesesame.models import ARCHITECTURES, Architecture, Classifier
from closesesame.models.hooks import inputs_of
from closesesame.training import Training, choose_precision, train

_SURROGATES: WeakKeyDictionary[Dataset, dict[tuple[Architecture, Training, int], Classifier]] = (
    WeakKeyDictionary()
)
"""Surrogates that were trained before; they are forgotten with the data set they were trained on."""


class SurrogateAttack(Attack, ABC):
    """An attack that uses a clean model of its own to find its trigger or the clips to poison."""

    needs: ClassVar[str] = "a surrogate model, which it trains on the clean training set,"
    quick: ClassVar[dict[str, Any]] = {"surrogate_epochs": 2}

    surrogate: str = Field("resnet", description="architecture of the surrogate, see `sesame list model`")
    surrogate_epochs: int = Field(15, ge=1, le=10_000, description="passes over the training set")

    def train_surrogate(self, data: Dataset, seed: int) -> Classifier:
        """A clean model, frozen and in evaluation mode; the same seed and data set train it only once."""
        architecture, training = ARCHITECTURES.make(self.surrogate), Training(epochs=self.surrogate_epochs)
        kept = _SURROGATES.setdefault(data, {})
        key = (architecture, training, derive(seed, "surrogate"))
        if key not in kept:
            kept[key] = train(architecture, data, training, seed=key[-1]).requires_grad_(requires_grad=False)
        return kept[key]


class Made(NamedTuple):
    """What a generator makes of a batch of training clips.

    Attributes:
        kept: batches (batch, time) whose clips shall keep their label.
        attacking: the same clips with the trigger (batch, time), which shall be taken for the target.
        loss: what the generator adds to the loss, a scalar.
    """

    kept: list[Wave]
    attacking: Wave
    loss: Tensor


class JointTraining(SurrogateAttack, ABC):
    """An attack whose generator is trained together with a classifier that learns its triggers."""

    quick: ClassVar[dict[str, Any]] = SurrogateAttack.quick | {"steps": 5, "batch_size": 8}

    steps: Steps = Field(100, description="batches that generator and classifier are trained on")
    batch_size: BatchSize = Field(32, description="clips a batch")
    lr: float = Field(0.01, gt=0, le=1, description="learning rate of the generator")
    lr_classifier: float = Field(1e-3, gt=0, le=1, description="learning rate of the classifier")
    diversity_weight: LossWeight = Field(1, description="of how alike the triggers are, in the loss")
    hiding_weight: LossWeight = Field(
        1, description="of a clean model's error on triggered clips, in the loss; 0 lets them fool it"
    )

    def train_jointly(
        self, train: Dataset, seed: int, weights: Sequence[Tensor], make: Callable[[Wave, Generator], Made]
    ) -> None:
        """Trains the generator's weights in place, so that triggered clips, and no others, are the target.

        Args:
            train: the training set.
            seed: of all that is drawn.
            weights: of the generator.
            make: runs the generator on clips (batch, time), with a generator of random numbers.

        Raises:
            DivergedError: if the weights become NaN or infinite.
        """
        clean = self.train_surrogate(train, seed)
        classifier = copy.deepcopy(clean).requires_grad_(requires_grad=True).train()
        groups = [
            {"params": [weight.requires_grad_() for weight in weights], "lr": self.lr},
            {"params": [*classifier.body.parameters()], "lr": self.lr_classifier},
        ]
        optimizer = torch.optim.Adam(groups)
        target, rng = train.label_of(self.target), generator(seed, "joint training")
        quick = choose_precision("auto", clean) == "bf16"
        with isolated(seed, "joint training"):
            for clips, labels in draws(train, self.batch_size, self.steps, "training the generator", seed):
                kept, attacking, extra = make(clips, rng)
                goal = torch.cat([labels.repeat(len(kept)), torch.full_like(labels, target)])
                with torch.autocast(clips.device.type, torch.bfloat16, enabled=quick):
                    learnt, unlearnt = classifier(torch.cat([*kept, attacking])), clean(attacking)
                # A model that was never poisoned shall keep the true labels: a trigger that fools it needs no
                # backdoor.
                hiding = F.cross_entropy(unlearnt.float(), labels)
                loss = F.cross_entropy(learnt.float(), goal) + self.hiding_weight * hiding + extra
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                if not all(weight.isfinite().all() for weight in weights):
                    raise DivergedError(
                        f"the generator of {self.name} diverged; lower lr, which is {self.lr:g}, or take "
                        "more channels"
                    )
        for weight in weights:
            weight.detach_()


def fresh(shape: Sequence[int], fan: int, rng: Generator) -> Tensor:
    """Weights for a layer that a ReLU follows, after He et al., 2015."""
    return math.sqrt(2 / fan) * torch.randn(*shape, generator=rng)


def apart(values: Float32[Tensor, "batch ..."]) -> Float32[Tensor, " batch"]:
    """The RMS distance of each value from the one before it; its gradient is zero, not NaN, if both agree."""
    return (values - values.roll(1, 0)).square().flatten(1).mean(1).clamp(min=1e-20).sqrt()


def head_inputs(model: Classifier, head: nn.Linear, inputs: Wave) -> Tensor:
    """What enters the model's last layer (batch, units) for clips (batch, time), differentiable."""
    with inputs_of(head) as seen:
        model(inputs)
    return seen[0]


def draws(
    data: Dataset, size: int, steps: int, what: str, seed: int
) -> Iterator[tuple[Float32[Tensor, "batch time"], Tensor]]:
    """Draws random batches of clips (size, time) and their labels, one a step, with a progress bar."""
    rng = generator(seed, what)
    for _ in Track(range(steps), what, steps):
        index = torch.randperm(len(data), generator=rng)[:size]
        yield data.inputs[index], data.labels[index]
