"""ASD: split the clips into a clean and a polluted pool, again and again while the network learns from both.

Gao, Bai, Gu, Yang, Xia, "Backdoor Defense via Adaptively Splitting Poisoned Dataset", CVPR 2023,
arXiv:2303.12993. The clean pool keeps its labels, the polluted one does not. Three parts, half, a quarter
and a quarter of the training: the clean pool begins with a few clips known to be clean and grows by the
`growth` clips of each label with the lowest symmetric cross-entropy; then it is the half of all clips with
the lowest; then the half whose loss falls least when a copy of the network is trained for one more epoch on
all given labels, since a poisoned clip is learned faster than a hard clean one.

Ours differs: FixMatch takes the place of MixMatch; the clean pool grows after each epoch, by as many clips
as the authors add every 5, since 120 epochs are 15 here, and of a class of 233 clips these are a third, where
they are 2 % of one of 5,000; all weights of the copy are trained, as in the whole training, where the authors
train those of the last layers with Adam at 0.015.
"""

import copy
import math
from functools import partial
from typing import Any, ClassVar

import torch
from jaxtyping import Bool
from pydantic import Field
from torch import Tensor

from closesesame.core.seeding import derive
from closesesame.core.types import PerUnit
from closesesame.data import Dataset
from closesesame.models import Architecture, Classifier
from closesesame.training import Training, fit, predict, untrained
from closesesame.training.fixmatch import FixMatch, FixMatchRule

from .base import RobustTraining, Watch
from .common.splitting import lowest, symmetric_losses

PARTS = {"class_aware": 0.5, "class_agnostic": 0.25, "meta": 0.25}


class ASD(RobustTraining):
    """Keep the labels of a clean pool that is chosen anew by its losses after each epoch."""

    name: ClassVar[str] = "asd"
    cite: ClassVar[str] = "arXiv:2303.12993"
    needs_clean: ClassVar[bool] = True
    quick: ClassVar[dict[str, Any]] = {"training": {"epochs": 3}, "fixmatch": {"ratio": 20}}

    growth: int = Field(10, ge=0, le=100_000, description="clips of each label by which the pool grows")
    labelled_share: float = Field(0.5, gt=0, le=1, description="share of all clips in the pool, later on")
    fixmatch: FixMatch = Field(FixMatch(), description="of the learning from both pools")

    def learn(
        self,
        architecture: Architecture,
        untrusted: Dataset,
        clean: Dataset | None,
        seed: int,
        watch: Watch,
    ) -> tuple[Classifier, dict[str, Any]]:
        """Clean clips stand behind the untrusted ones and always keep their labels."""
        assert clean is not None
        model = untrained(architecture, untrusted, seed=seed, device=self.training.device)
        known = torch.arange(len(untrusted) + len(clean)) >= len(untrusted)
        rule = FixMatchRule(model, untrusted.followed_by(clean), known, self.fixmatch, derive(seed, "pools"))

        def next_epoch(part: str, epoch: int, model: Classifier) -> None:
            chosen = self.pool(part, epoch, model, untrusted, derive(seed, part, epoch))
            rule.labelled = torch.cat([chosen, known[len(untrusted) :]])
            watch(part, epoch, model)

        for part, share in PARTS.items():
            rule.fit(shortened(self.training, share), after_epoch=partial(next_epoch, part))
        return model, {"labelled": int(rule.labelled.sum()) - len(clean)}

    def pool(
        self, part: str, epoch: int, model: Classifier, untrusted: Dataset, seed: int
    ) -> Bool[Tensor, " n"]:
        """A mask over the untrusted clips that keep their labels in the next epoch."""
        if part == "class_aware":
            return lowest_of_each(losses_of(model, untrusted), untrusted.labels, self.growth * epoch)
        if part == "class_agnostic":
            return lowest(losses_of(model, untrusted), self.labelled_share)
        return lowest(self.falls(model, untrusted, seed), self.labelled_share)

    def falls(self, model: Classifier, untrusted: Dataset, seed: int) -> PerUnit:
        """By how much the symmetric loss of each clip falls in one more epoch of a copy on all labels."""
        ahead = copy.deepcopy(model)
        fit(ahead, untrusted, self.training.for_epochs(1), seed=seed)
        return losses_of(model, untrusted) - losses_of(ahead, untrusted)


def shortened(training: Training, share: float) -> Training:
    """A share of the training, at least one epoch or one batch."""
    steps = None if training.steps is None else math.ceil(share * training.steps)
    return training.model_copy(update={"epochs": math.ceil(share * training.epochs), "steps": steps})


def losses_of(model: Classifier, data: Dataset) -> PerUnit:
    """The symmetric cross-entropy of each clip on its plain view."""
    return symmetric_losses(predict(model, data).double(), data.labels)


def lowest_of_each(losses: PerUnit, labels: Tensor, count: int) -> Bool[Tensor, " n"]:
    """A mask over the `count` examples of each label with the lowest losses."""
    order = losses.argsort(stable=True)
    chosen = torch.zeros(len(losses), dtype=torch.bool)
    for label in labels.unique():
        chosen[order[labels[order] == label][:count]] = True
    return chosen
