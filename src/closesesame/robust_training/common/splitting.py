"""Which clips keep their labels: those that the model fits best.

The symmetric cross-entropy is that of Wang et al., "Symmetric Cross Entropy for Robust Learning with Noisy
Labels", ICCV 2019, arXiv:1908.06112, with the factors that Huang et al. use in DBD.
"""

import math

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional as F

from closesesame.core.types import Labels, Logits, PerUnit

FORWARD, REVERSE, LEAST = 0.1, 1.0, 1e-4
"""Factors of the two cross-entropies, and what a probability of 0 of a label counts as."""


def symmetric_losses(logits: Logits, labels: Labels) -> PerUnit:
    """0.1 CE(label, p) + CE(p, label) of each example (batch,), in nats; the second is -ln(1e-4) (1 - p)."""
    forward = F.cross_entropy(logits, labels, reduction="none")
    p = F.softmax(logits, 1).gather(1, labels[:, None])[:, 0]
    return FORWARD * forward - REVERSE * math.log(LEAST) * (1 - p)


def lowest(losses: Float[Tensor, " n"], share: float) -> Bool[Tensor, " n"]:
    """A mask over the share of examples with the lowest losses, at least one."""
    chosen = torch.zeros(len(losses), dtype=torch.bool)
    chosen[losses.argsort(stable=True)[: max(1, round(share * len(losses)))]] = True
    return chosen
