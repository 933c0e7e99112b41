"""Confident learning: a label is wrong if a model that never saw the clip prefers another one.

Northcutt, Jiang, Chuang, "Confident Learning: Estimating Uncertainty in Dataset Labels", JAIR 70, 2021,
arXiv:1911.00068, the rule of the library cleanlab. The probabilities must be out of sample, so the clips are
divided into folds, and for each fold the suspect's architecture is trained from fresh weights on the others.
The threshold of a class is its mean probability over the clips that have its label. A label is wrong if the
probability of another class is above the threshold of that class.

It is a baseline: the other folds hold poisoned clips, too, so a model that learns the backdoor gives a
poisoned clip its label. This finds poisoned clips only where the backdoor is not learnt.

Ours differs: the paper counts wrong labels, and ranks them by the margin p_other - p_given. Here all clips
are ranked, and each probability is taken relative to the threshold of its class: the score is the highest
p_other - t_other, minus (p_given - t_given).
"""

from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from closesesame.core.progress import Track
from closesesame.core.seeding import derive, generator
from closesesame.core.types import Labels, Logits, PerUnit
from closesesame.data import Dataset
from closesesame.models import Classifier
from closesesame.models.frozen import make_trainable
from closesesame.training import Training, fit, predict
from closesesame.training.weights import redraw

from .base import Detection


class ConfidentLearning(Detection):
    """Score how far a model that never saw a clip prefers another class to the given one."""

    name: ClassVar[str] = "confident_learning"
    cite: ClassVar[str] = "arXiv:1911.00068"
    of: ClassVar[Literal["training clips", "inputs"]] = "training clips"
    trains: ClassVar[bool] = True
    quick: ClassVar[dict[str, Any]] = {"folds": 2, "training": {"steps": 2}}

    folds: int = Field(4, ge=2, le=100, description="parts of the clips; a model is trained without each")
    training: Training = Field(Training(), description="of these models: epochs, learning rate and so on")

    def suspicion(self, model: Classifier, examples: Dataset, clean: Dataset, seed: int) -> Tensor:
        """As many trainings as there are folds."""
        del clean
        fold = folds_of(examples.labels, self.folds, seed)
        p = torch.zeros(len(examples), len(examples.classes), dtype=torch.float64)
        for number in Track(range(self.folds), "folds", self.folds):
            redraw(model, derive(seed, "weights", number))
            make_trainable(model.body)
            others = examples.where(fold != number)
            fit(model, others, self.training, seed=derive(seed, "training", number))
            p[fold == number] = predict(model, examples.where(fold == number)).double().softmax(1)
        return doubt(p, examples.labels)


def folds_of(labels: Labels, count: int, seed: int) -> Tensor:
    """The fold of each example (batch,), at random, from each class in proportion."""
    order = torch.randperm(len(labels), generator=generator(seed, "folds"))
    order = order[labels[order].argsort(stable=True)]
    fold = torch.empty_like(labels)
    fold[order] = torch.arange(len(labels)) % count
    return fold


def doubt(p: Logits, labels: Labels) -> PerUnit:
    """The score of each example (batch,) from its probabilities, see above."""
    given = p.gather(1, labels[:, None])[:, 0]
    threshold = torch.ones(p.shape[1], dtype=p.dtype)
    for label in labels.unique():
        threshold[label] = given[labels == label].mean()
    above = p - threshold
    own = above.gather(1, labels[:, None])[:, 0]
    others = above.scatter(1, labels[:, None], -torch.inf)
    return others.max(1).values - own
