"""Unlearning of clean data by gradient ascent; it shows which weights the clean classes need."""

import torch
from torch import Tensor, nn

from closesesame.data import Dataset
from closesesame.models import Classifier
from closesesame.training.loop import Batch
from closesesame.training.predicting import accuracy


class Ascent:
    """A gradient rule that climbs the loss until clean accuracy is low.

    From then on it gives no gradient, so the weights stay where they are.

    Attributes:
        batches: how many were used.
    """

    LOOK = 4
    """Batches between two looks at the accuracy."""

    def __init__(self, model: Classifier, data: Dataset, floor: float, clip: float | None = None) -> None:
        """Climbs on `model` until accuracy on `data` is at most `floor`; `clip` is the longest gradient."""
        self.model, self.data, self.floor, self.clip = model, data, floor, clip
        self.batches, self._over = 0, False

    def __call__(self, body: nn.Module, batch: Batch) -> Tensor:
        """Fills the gradients of one batch."""
        if not self._over and self.batches % self.LOOK == 0:
            self._over = accuracy(self.model, self.data) <= self.floor
        if self._over:
            return torch.zeros(())
        self.batches += 1
        loss = batch.loss(body)
        (-loss).backward()
        if self.clip is not None:
            nn.utils.clip_grad_norm_(body.parameters(), self.clip)
        return loss
