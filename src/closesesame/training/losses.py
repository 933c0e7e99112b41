"""Losses beside the cross-entropy of a batch."""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from closesesame.core.types import Labels, Logits, PerUnit


def loss_against(logits: Logits, classes: Labels, *, margin: float, least: float = 0.0) -> PerUnit:
    """-log(1 - p) of one class of each example (batch,), which falls as the class becomes less likely.

    Args:
        logits: of the examples.
        classes: the class of each that is to become less likely.
        margin: added to 1 - p, so that p = 1 is finite.
        least: a lower p counts as this one and has no slope.
    """
    p = F.softmax(logits, 1).gather(1, classes[:, None])[:, 0]
    return -(1 + margin - p.clamp(min=least)).log()


def complement_loss(logits: Logits, classes: Labels) -> PerUnit:
    """-log(1 - p) of one class of each example (batch,), of which p is the slope even where p rounds to 1.

    Args:
        logits: of the examples.
        classes: the class of each that is to become less likely.
    """
    others = logits.scatter(1, classes[:, None], -torch.inf)
    return logits.logsumexp(1) - others.logsumexp(1)


def contrastive_loss(
    features: Float[Tensor, "example unit"], classes: Labels, temperature: float
) -> Float[Tensor, " example"]:
    """-log softmax(cosine / temperature) over all others, as a mean over those of the same class, of each.

    Khosla et al., "Supervised Contrastive Learning", NeurIPS 2020, arXiv:2004.11362.

    Args:
        features: each example must have another of its class.
        classes: of the examples.
        temperature: that cosines are divided by.
    """
    units = F.normalize(features, dim=1)
    itself = torch.eye(len(units), dtype=torch.bool, device=units.device)
    alike = (classes[:, None] == classes) & ~itself
    shares = F.log_softmax((units @ units.T / temperature).masked_fill(itself, -torch.inf), 1)
    return -shares.masked_fill(~alike, 0).sum(1) / alike.sum(1)
