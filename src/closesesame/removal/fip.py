"""FIP: fine-tuning towards a flat minimum, by a penalty on the trace of the Fisher matrix.

Karim, Arafat, Rakin, Guo, Rahnavard, "Fisher Information guided Purification against Backdoor Attacks", CCS
2024, arXiv:2409.00863; learning rate, momentum, batch and eta_r are those of the authors' code, where the
second penalty, which holds back weights that clean data need, is written but switched off.

Ours differs: the trace is estimated by one random sign an example and a batch, which is right on average, and
its gradient by a finite difference, which needs no second derivatives; the term in the authors' code is a sum
of random numbers times the mean gradient, whose expectation is zero. So their eta_F of 0.5 says nothing about
the trace itself: of 0.5, 0.1 and 0.01 only the last left a model its held-out accuracy. The published code
runs 2,000 counters of 500 iterations, a million steps; ours takes 1,000, with a learning rate that falls
along a cosine. The penalty that holds weights back is on.
"""

import math
from typing import Any, ClassVar

import torch
from pydantic import Field
from torch import Generator, Tensor, nn
from torch.nn import functional as F

from closesesame.core.bounds import LossWeight
from closesesame.core.progress import Track
from closesesame.core.seeding import generator
from closesesame.core.settings import default
from closesesame.core.types import PerUnit
from closesesame.data import Dataset
from closesesame.models import Classifier
from closesesame.training import Batch, GradientRule, fit
from closesesame.training.steps import elsewhere, remember_draws

from .base import FineTuning

MOST = 256
"""Clean examples whose gradients say which weights matter."""

Gradients = tuple[Tensor | None, ...]


class FIP(FineTuning):
    """Fine-tune all weights towards a flat minimum: CE + eta_F Tr F + eta_r / 2 sum of F_ii (w - w_old)^2."""

    name: ClassVar[str] = "fip"
    cite: ClassVar[str] = "arXiv:2409.00863"
    fp32_only: ClassVar[bool] = True
    cost: ClassVar[str] = "about four times plain fine-tuning"

    trace_weight: LossWeight = Field(0.01, description="of the trace of the Fisher matrix, eta_F")
    keep_weight: LossWeight = Field(
        5.0, description="of the squared distance from the suspect's weights, eta_r"
    )
    radius: float = Field(0.01, gt=0, le=100, description="length of the step of the finite difference")
    lr: float = default(FineTuning, "lr", 0.005)
    batch_size: int = default(FineTuning, "batch_size", 128)
    momentum: float = default(FineTuning, "momentum", 0.95)
    weight_decay: float = default(FineTuning, "weight_decay", 0)

    def repair(self, model: Classifier, tune: Dataset, held_out: Dataset, seed: int) -> dict[str, Any]:
        """One run, nothing to choose."""
        del held_out
        importance = diagonal_fisher(model, tune.sample(min(1.0, MOST / len(tune)), seed))
        rule = trace_rule(
            model.body, importance, self.trace_weight, self.keep_weight, self.radius, generator(seed, "signs")
        )
        # Differences of gradients that lie close together need all their digits.
        fit(model, tune, self.training(precision="fp32"), seed=seed, gradient=rule)
        return {}


def diagonal_fisher(model: Classifier, data: Dataset) -> list[Tensor]:
    """The diagonal of the empirical Fisher matrix: the mean square of single examples' gradients."""
    model.eval()
    weights = list(model.body.parameters())
    total = [torch.zeros_like(weight) for weight in weights]
    for inputs, labels in Track(data.batches(1), "measuring the importance of weights", len(data)):
        features = model.front_end(inputs.to(weights[0].device))
        loss = F.cross_entropy(model.body(features), labels.to(features.device))
        for sums, gradient in zip(total, torch.autograd.grad(loss, weights, allow_unused=True), strict=True):
            if gradient is not None:
                sums.add_(gradient.square(), alpha=1 / len(data))
    return total


def trace_rule(
    body: nn.Module,
    importance: list[Tensor],
    trace_weight: float,
    keep_weight: float,
    radius: float,
    rng: Generator,
) -> GradientRule:
    """The gradient of the loss with both regularisers.

    With random signs s and L = sum of s_i loss_i / sqrt(n), the mean of ||grad L||^2 over the signs is the
    trace; its gradient is 2 H grad L, a difference of two gradients of L.
    """
    old = [weight.detach().clone() for weight in body.parameters()]

    def rule(body: nn.Module, batch: Batch) -> Tensor:
        weights = list(body.parameters())
        put_back = remember_draws(body)
        losses = batch.losses(body)
        loss = losses.mean()
        signs = (2 * torch.randint(2, losses.shape, generator=rng) - 1).to(losses)
        plain = torch.autograd.grad(loss, weights, allow_unused=True, retain_graph=True)
        here = probe(losses, weights, signs)
        length = torch.stack([g.norm() for g in here if g is not None]).norm().clamp(min=1e-12)
        steps = [None if g is None else radius * g / length for g in here]
        with elsewhere(body, weights, steps):
            put_back()
            there = probe(batch.losses(body), weights, signs)
        for w, g, a, b, kept, first in zip(weights, plain, here, there, importance, old, strict=True):
            if g is None or a is None or b is None:
                w.grad = None
                continue
            bent = 2 * (b - a) * length / radius
            w.grad = g + trace_weight * bent + keep_weight * kept * (w.detach() - first)
        return loss

    return rule


def probe(losses: PerUnit, weights: list[nn.Parameter], signs: PerUnit) -> Gradients:
    """The gradient of sum of s_i loss_i / sqrt(n)."""
    return torch.autograd.grad((signs * losses).sum() / math.sqrt(len(losses)), weights, allow_unused=True)
