"""Losses beside the cross-entropy of a batch."""

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
