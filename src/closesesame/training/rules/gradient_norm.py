"""The gradient of loss plus lambda times its own norm, by two gradients a step; removals share it.

Zhao, Zhang, Hu, "Penalizing Gradient Norm for Efficiently Improving Generalization in Deep Learning", ICML
2022, arXiv:2202.03599.
"""

import torch
from torch import Tensor, nn

from closesesame.training.loop import Batch, GradientRule
from closesesame.training.steps import elsewhere, remember_draws


def gradient_norm_rule(r: float, alpha: float, *, per_tensor: bool) -> GradientRule:
    """G = (1 - alpha) g(w) + alpha g(w + r v), v = g(w) / ||g(w)||, which is g + alpha r H v for small r."""

    def rule(body: nn.Module, batch: Batch) -> Tensor:
        weights = [w for w in body.parameters() if w.requires_grad]
        put_back = remember_draws(body)
        loss = batch.loss(body)
        here = torch.autograd.grad(loss, weights, allow_unused=True)
        with elsewhere(body, weights, _ascent(here, r, per_tensor=per_tensor)):
            put_back()
            there = torch.autograd.grad(batch.loss(body), weights, allow_unused=True)
        for w, g, h in zip(weights, here, there, strict=True):
            w.grad = None if g is None or h is None else (1 - alpha) * g + alpha * h
        return loss

    return rule


def _ascent(gradients: tuple[Tensor | None, ...], r: float, *, per_tensor: bool) -> list[Tensor | None]:
    norms = [None if g is None else g.norm() for g in gradients]
    whole = torch.stack([n for n in norms if n is not None]).norm()
    return [
        None if g is None or n is None else r * g / (n if per_tensor else whole).clamp(min=1e-12)
        for g, n in zip(gradients, norms, strict=True)
    ]
