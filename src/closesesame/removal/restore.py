"""Restore: the suspect is moved towards fresh weights, then learns from itself under strong augmentation."""

import copy
from typing import Any, ClassVar

import torch
from pydantic import Field

from closesesame.core.bounds import LossWeight
from closesesame.core.seeding import derive
from closesesame.core.settings import default
from closesesame.data import Dataset
from closesesame.models import Classifier
from closesesame.training import fit
from closesesame.training.distillation import LossWeights, distillation_rule, lessons_of
from closesesame.training.settings import Augmentation, Optimizer, Schedule
from closesesame.training.weights import interpolated, redraw

from .base import FineTuning


class Restore(FineTuning):
    """Shrink the suspect towards fresh weights and distil it into itself under strong augmentation."""

    name: ClassVar[str] = "restore"
    cite: ClassVar[str] = "ours"
    cost: ClassVar[str] = "about the training of the model, up to twice that"

    kept_share: float = Field(0.65, ge=0, le=1, description="share of the suspect's weights at the start")
    views: int = Field(8, ge=1, le=1000, description="augmented views of each example that the teacher sees")
    view_augmentation: Augmentation = Field("light", description="of the teacher's views")
    temperature: float = Field(2.0, gt=0, le=100, description="of the soft labels")
    label_weight: LossWeight = Field(0.3, description="of the cross-entropy with the true label")
    soft_weight: LossWeight = Field(0.7, description="of the divergence from the teacher's soft labels")
    feature_weight: LossWeight = Field(2.0, description="of the angle between student's and teacher's features")
    gate: bool = Field(True, description="distil only where the teacher is right")
    least_agreement: float = Field(
        1.0, ge=0, le=1, description="share of views of an unlabelled clip that must agree"
    )
    optimizer: Optimizer = default(FineTuning, "optimizer", "adamw")
    lr: float = default(FineTuning, "lr", 0.005)
    steps: int = default(FineTuning, "steps", 720)
    batch_size: int = default(FineTuning, "batch_size", 96)
    weight_decay: float = default(FineTuning, "weight_decay", 0.01)
    schedule: Schedule = default(FineTuning, "schedule", "one_cycle")
    augmentation: Augmentation = default(FineTuning, "augmentation", "strong")

    def repair(
        self, model: Classifier, tune: Dataset, held_out: Dataset, seed: int, audio: Dataset | None = None
    ) -> dict[str, Any]:
        """One run."""
        del held_out
        known = len(tune)
        data = tune if audio is None else joined(tune, audio)
        lessons = lessons_of(
            model,
            data,
            views=self.views,
            augmentation=self.view_augmentation,
            temperature=self.temperature,
            seed=seed,
        )
        labelled = torch.arange(len(data), device=lessons.soft.device) < known
        right = lessons.answers == data.labels.to(labelled.device)
        trusted = torch.where(labelled, right | (not self.gate), lessons.agreement >= self.least_agreement)
        data = data.with_labels(torch.where(labelled, data.labels.to(labelled.device), lessons.answers).cpu())
        rows = balanced(known, len(data) - known)
        lessons = lessons.take(rows)
        suspect = copy.deepcopy(model.body.state_dict())
        redraw(model, derive(seed, "fresh weights"))
        model.body.load_state_dict(interpolated(model.body.state_dict(), suspect, self.kept_share))
        rule = distillation_rule(
            model,
            lessons,
            LossWeights(self.label_weight, self.soft_weight, self.feature_weight),
            labelled=labelled[rows],
            trusted=trusted[rows],
        )
        fit(model, data.take(rows), self.training(), seed=seed, gradient=rule)
        return {"trusted": int(trusted.sum())}


def joined(first: Dataset, second: Dataset) -> Dataset:
    """One set of both; labels of the second mean nothing."""
    return Dataset.of(
        torch.cat([first.inputs[:], second.inputs[:]]),
        torch.cat([first.labels, torch.zeros_like(second.labels)]),
        classes=first.classes,
        sample_rate=first.sample_rate,
    )


def balanced(first: int, second: int) -> torch.Tensor:
    """Rows of both parts, those of the smaller repeated until it is about as large as the other."""
    if not second:
        return torch.arange(first)
    times = [max(1, round(max(first, second) / n)) for n in (first, second)]
    return torch.cat([torch.arange(first).repeat(times[0]), first + torch.arange(second).repeat(times[1])])
