"""What removals share that train against one universal perturbation."""

from abc import ABC
from collections.abc import Callable
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Generator, Tensor, nn

from closesesame.core.bounds import BatchSize, LearningRate, LossWeight, Steps, WeightDecay
from closesesame.optimisation.hypergradient import hypergradient, within
from closesesame.removal.base import FineTuning
from closesesame.training import Batch, Training

Term = Callable[[Tensor], Tensor]
"""Features of a batch to a term of its loss."""
LEAST = 1.0
"""Deviations: a shorter perturbation of a whole example changes none of its features by much."""


class Adversarial(FineTuning, ABC):
    """Settings of rounds that first find one universal perturbation and then weights that withstand it.

    Defaults are those of I-BAU's code: 5 rounds, each a pass over 5,000 examples in batches of 100 for the
    perturbation and one for the weights, are 250 steps for the weights. What has the unit of a feature is
    counted in deviations of the features: of a log-mel map about 1, of a picture in 0..1 about a quarter.
    """

    fp32_only: ClassVar[bool] = True
    quick: ClassVar[dict[str, Any]] = {
        "steps": 2,
        "rounds": 2,
        "ascent_steps": 2,
        "fixed_point_steps": 2,
    }

    rounds: int = Field(5, ge=1, le=1000, description="times that the perturbation is found anew")
    steps: Steps = Field(250, description="batches for the weights in all rounds")
    ascent_steps: int = Field(50, ge=1, le=10_000, description="batches a round for the perturbation")
    ascent_step: float = Field(
        1.0,
        gt=0,
        le=1000,
        description="length of each step of the perturbation, in deviations; 10 of them are a radius",
    )
    penalty: LossWeight = Field(0.001, description="weight of its squared L2 norm")
    radius: float | None = Field(
        10.0, gt=0, le=10_000, description="L2 ball it stays in, in deviations; None leaves it to the penalty"
    )
    fixed_point_steps: int = Field(5, ge=0, le=10_000, description="iterations for the implicit gradient, K")
    fixed_point_rate: LearningRate = Field(0.1, description="learning rate of the fixed-point map")
    share: float = Field(0.01, gt=0, le=1, description="of a batch that is perturbed in the outer loss")
    optimizer: Literal["adamw", "sgd"] = Field("adamw", description="without weight decay AdamW is Adam")
    lr: LearningRate = Field(1e-3, description="highest learning rate of the weights")
    batch_size: BatchSize = Field(100, description="examples a batch; at most the whole set")
    weight_decay: WeightDecay = Field(0, description="L2")
    schedule: Literal["one_cycle", "cosine", "constant"] = Field(
        "constant", description="of the learning rate"
    )
    augmentation: Literal["none", "light", "strong"] = Field("none", description="of the features")

    def plan(self) -> tuple[Training, int]:
        """The run, ascent and descent together, and how many batches a round has for the weights."""
        length = -(-self.steps // self.rounds)
        return self.training(steps=self.rounds * self.ascent_steps + self.steps, precision="fp32"), length


class Unlearning:
    """Gradient rule for `fit`: some batches move only the perturbation, then `length` only the weights.

    Args:
        method: the settings.
        length: batches for the weights in a round.
        rng: draws which examples of a batch are perturbed.
        also: added to the outer loss, from the unperturbed features of the batch.
    """

    def __init__(self, method: Adversarial, length: int, rng: Generator, also: Term | None = None) -> None:
        self.method, self.length, self.rng, self.also = method, length, rng, also
        self.delta: Tensor | None = None
        self.unit = 1.0
        self.norms: list[float] = []
        self.at = 0

    def __call__(self, body: nn.Module, batch: Batch) -> Tensor:
        """Fills the gradients of the weights, or leaves them out where it is the perturbation's turn."""
        body.eval()  # statistics of perturbed batches are no statistics of speech
        place = self.at % (self.method.ascent_steps + self.length)
        self.at += 1
        ascends = place < self.method.ascent_steps
        return self._ascend(body, batch, place) if ascends else self._descend(body, batch)

    def found(self) -> dict[str, Any]:
        """Length of the perturbation at the end of each round, in deviations, and whether the ascent died."""
        short = [number for number, norm in enumerate(self.norms, 1) if norm < LEAST]
        said: dict[str, Any] = {"perturbation_norms": self.norms}
        if short:
            rounds = ", ".join(str(number) for number in short)
            said["inner_ascent"] = (
                f"died in round {rounds}: no perturbation raised the loss, none was unlearned"
            )
        return said

    def _perturbed(self, batch: Batch, delta: Tensor) -> Batch:
        return batch.with_features(batch.features + self.unit * delta)

    def _inner(self, body: nn.Module, batch: Batch, delta: Tensor) -> Tensor:
        """Minus the loss of a batch that is perturbed as a whole, plus the penalty."""
        return self.method.penalty * delta.square().sum() - self._perturbed(batch, delta).loss(body)

    def _outer(self, body: nn.Module, batch: Batch, delta: Tensor) -> Tensor:
        """The loss of a batch of which a random share is perturbed."""
        features = batch.features
        count = max(1, int(self.method.share * len(features)))
        rows = torch.randperm(len(features), generator=self.rng)[:count].to(features.device)
        on = features.new_zeros(len(features)).index_fill(0, rows, self.unit)
        loss = batch.with_features(features + on.view(-1, *[1] * (features.ndim - 1)) * delta).loss(body)
        return loss if self.also is None else loss + self.also(features)

    def _ascend(self, body: nn.Module, batch: Batch, place: int) -> Tensor:
        if place == 0 or self.delta is None:
            self.unit = float(batch.features.std())
            self.delta = torch.zeros_like(batch.features[:1])
        delta = self.delta.requires_grad_()
        loss = self._perturbed(batch, delta).loss(body)
        slope = torch.autograd.grad(loss, delta)[0]
        # The slope of a loss that is near 0 has no length, but a direction; the penalty keeps its own length.
        uphill = _direction(slope)
        moved = delta + self.method.ascent_step * (uphill - 2 * self.method.penalty * delta)
        self.delta = within(moved.detach(), self.method.radius)
        if place == self.method.ascent_steps - 1:
            self.norms.append(round(float(self.delta.norm()), 2))
        return loss.detach()

    def _descend(self, body: nn.Module, batch: Batch) -> Tensor:
        assert self.delta is not None
        weights = [w for w in body.parameters() if w.requires_grad]
        gradients, loss = hypergradient(
            lambda delta: self._inner(body, batch, delta),
            lambda delta: self._outer(body, batch, delta),
            self.delta,
            weights,
            iterations=self.method.fixed_point_steps,
            rate=self.method.fixed_point_rate,
        )
        for weight, gradient in zip(weights, gradients, strict=True):
            weight.grad = gradient
        return loss


def _direction(slope: Tensor) -> Tensor:
    """The slope with length 1, or zero; scaled first, since squares of the smallest numbers are 0."""
    scaled = slope / slope.abs().amax().clamp(min=torch.finfo(slope.dtype).tiny)
    length: Tensor = scaled.norm().clamp(min=torch.finfo(slope.dtype).tiny)
    return scaled / length
