"""FT-SAM: fine-tuning with sharpness-aware minimisation, with a budget that grows with the weights.

Zhu, Wei, Shen, Fan, Wu, "Enhancing Fine-Tuning Based Backdoor Defense with Sharpness-Aware Minimization",
ICCV 2023, arXiv:2304.11823; label smoothing as in BackdoorBench, arXiv:2206.12654, and its length: 100 epochs
of 2,500 examples in batches of 256 are 1,000 steps.

Ours differs: the learning rate falls once over the whole run, as the paper has it (the public code lets it
rise and fall every 100 batches); clean examples are not drawn in equal numbers from each class; both passes
share their dropout mask.
"""

from typing import Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from closesesame.data import Dataset
from closesesame.models import Classifier
from closesesame.training import Batch, GradientRule, fit
from closesesame.training.steps import elsewhere, remember_draws

from .base import FineTuning


class FTSAM(FineTuning):
    """Descend by the gradient at the worst point nearby, where large weights may move furthest."""

    name: ClassVar[str] = "ft_sam"
    cite: ClassVar[str] = "arXiv:2304.11823"
    cost: ClassVar[str] = "about twice plain fine-tuning"

    rho: float = Field(
        2.0, ge=0, le=1000, description="size of the neighbourhood; the paper has 2, and 8 for GTSRB"
    )
    label_smoothing: float = Field(
        0.1, ge=0, lt=1, description="share of the label spread over all other classes"
    )

    def repair(self, model: Classifier, tune: Dataset, held_out: Dataset, seed: int) -> dict[str, Any]:
        """One run, nothing to choose."""
        del held_out
        rule = sharpness_rule(self.rho, self.label_smoothing)
        fit(model, tune, self.training(), seed=seed, gradient=rule)
        return {}


def sharpness_rule(rho: float, smoothing: float) -> GradientRule:
    """The gradient at w + rho T^2 g / ||T g|| with T = diag |w|, equations 4 to 6 of the paper."""

    def rule(body: nn.Module, batch: Batch) -> Tensor:
        weights = [w for w in body.parameters() if w.requires_grad]
        put_back = remember_draws(body)
        loss = smoothed_loss(body, batch, smoothing)
        here = torch.autograd.grad(loss, weights, allow_unused=True)
        with elsewhere(body, weights, ascent(weights, here, rho)):
            put_back()
            there = torch.autograd.grad(smoothed_loss(body, batch, smoothing), weights, allow_unused=True)
        for w, gradient in zip(weights, there, strict=True):
            w.grad = gradient
        return loss

    return rule


@torch.no_grad()
def ascent(
    weights: list[nn.Parameter], gradients: tuple[Tensor | None, ...], rho: float
) -> list[Tensor | None]:
    """The step towards the worst point in the adaptive neighbourhood, None for weights that are not used."""
    pairs = list(zip(weights, gradients, strict=True))
    norm = torch.stack([(w * g).norm() for w, g in pairs if g is not None]).norm().clamp(min=1e-12)
    return [None if g is None else rho * w.square() * g / norm for w, g in pairs]


def smoothed_loss(body: nn.Module, batch: Batch, smoothing: float) -> Tensor:
    """Cross-entropy against labels of which a share is spread evenly over all other classes."""
    if smoothing == 0:
        return batch.loss(body)
    logits = batch.logits(body)
    own = F.cross_entropy(logits.float(), batch.labels)
    of_all = -F.log_softmax(logits.float(), 1).sum(1).mean()
    return (1 - smoothing) * own + smoothing * (of_all - own) / (logits.shape[1] - 1)
