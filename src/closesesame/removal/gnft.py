"""GN-FT: fine-tuning with a penalty on the norm of the gradient.

Zhou, Lin, Liu, "Gradient Norm-based Fine-Tuning for Backdoor Defense in Automatic Speech Recognition", 2025,
arXiv:2502.01152; the approximation is that of Zhao, Zhang, Hu, "Penalizing Gradient Norm for Efficiently
Improving Generalization in Deep Learning", ICML 2022, arXiv:2202.03599. The paper's settings are not public
in full: defaults are those of the first author's code (per-tensor norm, r, alpha, learning rate, batch).

Ours differs: batch-norm statistics come from the unperturbed pass alone, both passes share their dropout
mask, and a tensor with zero gradient stays where it is instead of becoming NaN.
"""

from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from closesesame.data import Dataset
from closesesame.models import Classifier
from closesesame.training import GradientRule, Loss, fit

from .base import FineTuning


class GNFT(FineTuning):
    """Minimise CE + lambda ||grad CE|| with lambda = alpha * r, by two gradients a step."""

    name: ClassVar[str] = "gnft"
    cite: ClassVar[str] = "arXiv:2502.01152"

    r: float = Field(0.05, gt=0, description="length of the step to where the second gradient is taken")
    alpha: float = Field(0.7, ge=0, le=1, description="share of the second gradient: 0 is SGD, 1 is SAM")
    norm: Literal["per_tensor", "global"] = Field(
        "per_tensor", description="each weight tensor moves by r, or all together do (the derivation)"
    )
    lr: float = Field(0.001, gt=0, description="highest learning rate of SGD")
    weight_decay: float = Field(0, ge=0, description="L2")
    schedule: Literal["one_cycle", "cosine", "constant"] = Field(
        "constant", description="of the learning rate"
    )

    def repair(self, model: Classifier, tune: Dataset, held_out: Dataset, seed: int) -> dict[str, Any]:
        """One run, nothing to choose."""
        del held_out
        rule = gradient_norm_rule(self.r, self.alpha, per_tensor=self.norm == "per_tensor")
        fit(model, tune, self.training(), seed=seed, gradient=rule)
        return {}


def gradient_norm_rule(r: float, alpha: float, *, per_tensor: bool) -> GradientRule:
    """G = (1 - alpha) g(w) + alpha g(w + r v), v = g(w) / ||g(w)||, which is g + alpha r H v for small r."""

    def rule(body: nn.Module, loss: Loss) -> Tensor:
        weights = [w for w in body.parameters() if w.requires_grad]
        randomness = torch.random.get_rng_state()
        value = loss()
        here = torch.autograd.grad(value, weights, allow_unused=True)
        statistics = [buffer.clone() for buffer in body.buffers()]
        steps = _ascent(here, r, per_tensor=per_tensor)
        _move(weights, steps, +1)
        torch.random.set_rng_state(randomness)
        there = torch.autograd.grad(loss(), weights, allow_unused=True)
        _move(weights, steps, -1)
        for buffer, kept in zip(body.buffers(), statistics, strict=True):
            buffer.copy_(kept)
        for w, g, h in zip(weights, here, there, strict=True):
            w.grad = None if g is None or h is None else (1 - alpha) * g + alpha * h
        return value

    return rule


def _ascent(gradients: tuple[Tensor | None, ...], r: float, *, per_tensor: bool) -> list[Tensor | None]:
    norms = [None if g is None else g.norm() for g in gradients]
    whole = torch.stack([n for n in norms if n is not None]).norm()
    return [
        None if g is None or n is None else r * g / (n if per_tensor else whole).clamp(min=1e-12)
        for g, n in zip(gradients, norms, strict=True)
    ]


@torch.no_grad()
def _move(weights: list[nn.Parameter], steps: list[Tensor | None], sign: int) -> None:
    for w, step in zip(weights, steps, strict=True):
        if step is not None:
            w.add_(step, alpha=sign)
