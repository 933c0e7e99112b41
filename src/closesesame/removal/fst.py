"""Feature shift tuning and its three simpler relatives, which part what the head and the features do.

Min, Qin, Wang, Cheng, "Towards Stable Backdoor Purification through Feature Shift Tuning", NeurIPS 2023,
arXiv:2310.01875: learning rate 0.01, batches of 128, 10 epochs on 2 % of CIFAR-10, which are 80 batches,
alpha 0.1.

Ours differs: the length of the training is given as those 80 batches, since ten passes over a hundred clips
are ten batches; what is said to be frozen is so with its batch-norm statistics. FE-tuning has the learning
rate 0.1: at 0.01 a clean model does not learn to fit a new head in 80 batches (held-out accuracy 0.39). It
also has 300 batches and strong augmentation: with 80 and light three clean models lost 4.4 points of test
accuracy.
"""

from abc import ABC
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from closesesame.core.seeding import isolated
from closesesame.data import Dataset
from closesesame.models import Classifier
from closesesame.models.channels import head_in
from closesesame.training import GradientRule, Loss, backpropagate, fit

from .base import FineTuning
from .tuning import freeze_statistics, training_only


class _HeadTuning(FineTuning, ABC):
    cite: ClassVar[str] = "arXiv:2310.01875"

    steps: int | None = Field(80, ge=0, description="batches in all, instead of `epochs`")
    batch_size: int = Field(128, ge=2, description="examples a batch; at most the whole set")
    weight_decay: float = Field(0, ge=0, description="L2")


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

    lr: float = Field(0.1, gt=0, description="highest learning rate")
    steps: int | None = Field(300, ge=0, description="batches in all, instead of `epochs`")
    augmentation: Literal["none", "light", "strong"] = Field("strong", description="of the features")

    def repair(self, model: Classifier, tune: Dataset, held_out: Dataset, seed: int) -> dict[str, Any]:
        """One run, nothing to choose."""
        del held_out
        head = head_in(model)
        renew(head, seed)
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
        renew(head_in(model), seed)
        fit(model, tune, self.training(), seed=seed)
        return {}


class FST(_HeadTuning):
    """Draw a new head and push it away from the old one while all weights are fine-tuned."""

    name: ClassVar[str] = "fst"

    alpha: float = Field(0.1, ge=0, description="weight of the inner product of the new head and the old")

    def repair(self, model: Classifier, tune: Dataset, held_out: Dataset, seed: int) -> dict[str, Any]:
        """One run, nothing to choose; returns the cosine between the heads, -1 if they are opposite."""
        del held_out
        head = head_in(model)
        old = head.weight.detach().clone()
        renew(head, seed)
        fit(model, tune, self.training(), seed=seed, gradient=shift_rule(head, old, self.alpha))
        project(head, old)
        return {"cosine": float(torch.cosine_similarity(head.weight.detach().flatten(), old.flatten(), 0))}


def frozen_features(body: nn.Module, loss: Loss) -> Tensor:
    """Back-propagation that leaves batch-norm statistics alone."""
    freeze_statistics(body)
    return backpropagate(body, loss)


def shift_rule(head: nn.Linear, old: Tensor, alpha: float) -> GradientRule:
    """The gradient of CE + alpha <w, w_old>, with ||w|| = ||w_old|| held before each step (equation 1)."""

    def rule(body: nn.Module, loss: Loss) -> Tensor:
        del body
        project(head, old)
        value = loss() + alpha * (head.weight * old).sum()
        value.backward()  # type: ignore[no-untyped-call]
        return value

    return rule


@torch.no_grad()
def project(head: nn.Linear, old: Tensor) -> None:
    """Scales the head's weights to the norm of the old ones."""
    head.weight.mul_(old.norm() / head.weight.norm().clamp(min=1e-12))


def renew(head: nn.Linear, seed: int) -> None:
    """Draws the weights of a linear layer anew."""
    with isolated(seed, "head"):
        head.reset_parameters()
