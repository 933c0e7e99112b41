"""NGF: natural-gradient fine-tuning of the last layer, held back where clean data need the weights.

Karim, Arafat, Khalid, Guo, Naznin, Rahnavard, "Efficient Backdoor Removal Through Natural Gradient
Fine-tuning", 2023, arXiv:2306.17441. No code is public; the settings are ours, after its successor's code:
100 epochs of 500 examples, 1 % of CIFAR-10, in batches of 128, which are 4 an epoch: 400 steps.

Ours differs: the Fisher matrix is the empirical one of the batch, whole, damped, and inverted through the
batch's own gradients (Woodbury's identity), so its size does not matter; batch-norm statistics stay frozen
with the layers in front; the learning rate falls along a cosine instead of in steps.
"""

from typing import Any, ClassVar

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn

from closesesame.core.bounds import LossWeight
from closesesame.core.settings import default
from closesesame.data import Dataset
from closesesame.models import Classifier
from closesesame.models.channels import head_in
from closesesame.models.hooks import inputs_of, outputs_of
from closesesame.models.statistics import freeze_statistics
from closesesame.training import Batch, GradientRule, fit
from closesesame.training.steps import training_only

from .base import FineTuning

PerExample = Float[Tensor, "example weight"]
Weights = Float[Tensor, "weight"]


class NGF(FineTuning):
    """Fine-tune the last linear layer by natural gradients, with a Fisher regulariser."""

    name: ClassVar[str] = "ngf"
    cite: ClassVar[str] = "arXiv:2306.17441"

    steps: int = default(FineTuning, "steps", 400)
    batch_size: int = default(FineTuning, "batch_size", 128)
    momentum: float = default(FineTuning, "momentum", 0.95)
    weight_decay: float = default(
        FineTuning, "weight_decay", 0, description="L2; the regulariser holds the weights already"
    )
    damping: float = Field(0.01, gt=0, le=1_000_000, description="added to the diagonal of the Fisher matrix")
    regularisation: LossWeight = Field(0.1, description="weight of the Fisher regulariser, eta in the paper")

    def repair(self, model: Classifier, tune: Dataset, held_out: Dataset, seed: int) -> dict[str, Any]:
        """One run, nothing to choose."""
        del held_out
        head = head_in(model)
        with training_only(model.body, list(head.parameters())):
            importance = diagonal_fisher(model, head, tune)
            rule = natural_rule(head, importance, self.damping, self.regularisation)
            fit(model, tune, self.training(), seed=seed, gradient=rule)
        return {}


def diagonal_fisher(model: Classifier, head: nn.Linear, data: Dataset) -> Weights:
    """The diagonal of the empirical Fisher matrix of the head on all examples, as the model stands."""
    total = torch.zeros((), device=model.device)
    for index in torch.arange(len(data)).split(256):
        features = model.front_end(data.inputs[index].to(model.device))
        batch = Batch(features, data.labels[index].to(model.device), index)
        total = total + per_example(head, model.body, batch)[1].square().sum(0)
    return total / len(data)


def natural_rule(head: nn.Linear, importance: Weights, damping: float, regularisation: float) -> GradientRule:
    """The gradient (F + damping)^-1 grad [CE + eta / 2 sum of importance (w - w_old)^2]."""
    old = flat(head).detach().clone()

    def rule(body: nn.Module, batch: Batch) -> Tensor:
        freeze_statistics(body)
        loss, gradients = per_example(head, body, batch)
        pull = regularisation * importance * (flat(head).detach() - old)
        step = natural(gradients, gradients.mean(0) + pull, damping)
        weights = head.weight.numel()
        head.weight.grad = step[:weights].view_as(head.weight)
        if head.bias is not None:
            head.bias.grad = step[weights:]
        return loss

    return rule


def per_example(head: nn.Linear, body: nn.Module, batch: Batch) -> tuple[Tensor, PerExample]:
    """The mean loss of a batch, and the gradient of each example's own loss for the head."""
    with inputs_of(head) as entering, outputs_of(head) as leaving:
        loss = batch.loss(body)
    (error,) = torch.autograd.grad(loss, leaving[-1])
    n = len(error)
    error = n * error.float().reshape(n, -1, head.out_features)
    units = entering[-1].detach().float().reshape(n, -1, head.in_features)
    parts = [(error.mT @ units).flatten(1)]
    if head.bias is not None:
        parts.append(error.sum(1))
    return loss.detach(), torch.cat(parts, 1)


def natural(gradients: PerExample, direction: Weights, damping: float) -> Weights:
    """(J^T J / n + damping)^-1 direction, by an inverse of n x n instead of weights x weights."""
    rows = gradients.double()
    n = len(rows)
    small = rows @ rows.T + n * damping * torch.eye(n, dtype=rows.dtype, device=rows.device)
    inside = rows.T @ torch.linalg.solve(small, rows @ direction.double())
    step: Tensor = (direction.double() - inside) / damping
    return step.to(direction)


def flat(head: nn.Linear) -> Weights:
    """The weights and the bias of a layer, one after the other."""
    return torch.cat([weight.flatten() for weight in (head.weight, head.bias) if weight is not None])
