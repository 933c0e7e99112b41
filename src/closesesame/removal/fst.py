"""Feature shift tuning, and three baselines of the same paper that train head and features separately.

Min, Qin, Wang, Cheng, "Towards Stable Backdoor Purification through Feature Shift Tuning", NeurIPS 2023,
arXiv:2310.01875: learning rate 0.01, alpha 0.1, and 10 epochs of 1,000 examples, 2 % of CIFAR-10, in batches
of 128, which are 8 an epoch: 80 steps.

Ours differs: the head of the linear probe is trained with the batch-norm statistics of the features frozen as
well; the head of FST is scaled to its old norm before each step and once at the end, not after each step; the
learning rate falls along a cosine. At this length two of them fall short of what their names say: FE-tuning
left a clean model a held-out accuracy of 0.39 (it did fit the new head in 300 steps at 0.1 with strong
augmentation), and the head of FST did not turn away from the old one on a ResNet (cosine +0.20; -0.998 at a
learning rate of 1).
"""

from abc import ABC
from typing import Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn

from closesesame.core.bounds import LossWeight
from closesesame.core.seeding import isolated
from closesesame.core.settings import default
from closesesame.data import Dataset
from closesesame.models import Classifier
from closesesame.models.channels import head_in
from closesesame.models.statistics import freeze_statistics
from closesesame.training import Batch, GradientRule, backpropagate, fit
from closesesame.training.steps import training_only

from .base import FineTuning


class _HeadTuning(FineTuning, ABC):
    cite: ClassVar[str] = "arXiv:2310.01875"

    steps: int = default(FineTuning, "steps", 80)
    batch_size: int = default(FineTuning, "batch_size", 128)
    weight_decay: float = default(FineTuning, "weight_decay", 0)


class LinearProbe(_HeadTuning):
    """Train the last linear layer alone, from where it stands."""

    name: ClassVar[str] = "linear_probe"

    def repair(self, model: Classifier, tune: Dataset, held_out: Dataset, seed: int) -> dict[str, Any]:
        """One run, nothing to choose."""
        del held_out
        head = head_in(model)
        with training_only(model.body, list(head.parameters())):
            fit(model, tune, self.training(), seed=seed, gradient=frozen_features)
        return {}


class FETuning(_HeadTuning):
    """Draw a new head, keep it as it is, and train everything in front of it to fit it."""

    name: ClassVar[str] = "fe_tuning"

    def repair(self, model: Classifier, tune: Dataset, held_out: Dataset, seed: int) -> dict[str, Any]:
        """One run, nothing to choose."""
        del held_out
        head = head_in(model)
        redraw(head, seed)
        fixed = {id(weight) for weight in head.parameters()}
        with training_only(model.body, [w for w in model.body.parameters() if id(w) not in fixed]):
            fit(model, tune, self.training(), seed=seed)
        return {}


class FTInit(_HeadTuning):
    """Draw a new head, then fine-tune all weights."""

    name: ClassVar[str] = "ft_init"

    def repair(self, model: Classifier, tune: Dataset, held_out: Dataset, seed: int) -> dict[str, Any]:
        """One run, nothing to choose."""
        del held_out
        redraw(head_in(model), seed)
        fit(model, tune, self.training(), seed=seed)
        return {}


class FST(_HeadTuning):
    """Draw a new head and push it away from the old one while all weights are fine-tuned."""

    name: ClassVar[str] = "fst"

    alpha: LossWeight = Field(0.1, description="weight of the inner product of the new head and the old")

    def repair(self, model: Classifier, tune: Dataset, held_out: Dataset, seed: int) -> dict[str, Any]:
        """One run, nothing to choose; returns the cosine between the heads, -1 if they are opposite."""
        del held_out
        head = head_in(model)
        old = head.weight.detach().clone()
        redraw(head, seed)
        fit(model, tune, self.training(), seed=seed, gradient=shift_rule(head, old, self.alpha))
        project(head, old)
        return {"cosine": float(torch.cosine_similarity(head.weight.detach().flatten(), old.flatten(), 0))}


def frozen_features(body: nn.Module, batch: Batch) -> Tensor:
    """Back-propagation that leaves batch-norm statistics alone."""
    freeze_statistics(body)
    return backpropagate(body, batch)


def shift_rule(head: nn.Linear, old: Tensor, alpha: float) -> GradientRule:
    """The gradient of CE + alpha <w, w_old>, with ||w|| = ||w_old|| held before each step (equation 1)."""

    def rule(body: nn.Module, batch: Batch) -> Tensor:
        project(head, old)
        loss = batch.loss(body) + alpha * (head.weight * old).sum()
        loss.backward()
        return loss

    return rule


@torch.no_grad()
def project(head: nn.Linear, old: Tensor) -> None:
    """Scales the head's weights to the norm of the old ones."""
    head.weight.mul_(old.norm() / head.weight.norm().clamp(min=1e-12))


def redraw(head: nn.Linear, seed: int) -> None:
    """Draws the weights of a linear layer anew."""
    with isolated(seed, "head"):
        head.reset_parameters()
