"""Unlearning of clean data by gradient ascent; it shows which weights the clean classes need."""

import torch
from torch import Tensor, nn

from closesesame.data import Dataset
from closesesame.models import Classifier
from closesesame.training.loop import Batch
from closesesame.training.predicting import accuracy


class Ascent:
    """A gradient rule that raises the loss until clean accuracy is low, and then gives no gradient.

    Attributes:
        batches: how many were used.
    """

    LOOK = 4
    """Batches between two measurements of the accuracy."""

    def __init__(
        self, model: Classifier, data: Dataset, stop_accuracy: float, clip: float | None = None
    ) -> None:
        """Stops when the accuracy of `model` on `data` is low enough; `clip` is the largest gradient norm."""
        self.model, self.data, self.stop_accuracy, self.clip = model, data, stop_accuracy, clip
        self.batches, self._over = 0, False

    def __call__(self, body: nn.Module, batch: Batch) -> Tensor:
        """Fills the gradients of one batch."""
        if not self._over and self.batches % self.LOOK == 0:
            self._over = accuracy(self.model, self.data) <= self.stop_accuracy
        if self._over:
            return torch.zeros(())
        self.batches += 1
        loss = batch.loss(body)
        (-loss).backward()
        if self.clip is not None:
            nn.utils.clip_grad_norm_(body.parameters(), self.clip)
        return loss
