"""Restore: the suspect is moved towards fresh weights, and then learns from itself under varied augmentation.

A backdoor is a short cut: a small change of the input moves the features of every example to those of the
target. Three things work against it. The weights start at a share of the way from fresh ones to the suspect's
("shrink and perturb": Ash, Adams, "On Warm-Starting Neural Network Training", NeurIPS 2020,
arXiv:1910.08475), which weakens everything that the suspect has learnt. The student then hears each clean
example bent, filtered, covered and in noise, and must give the soft labels and the features that the suspect
gives for the example as it is; so it ignores whatever such changes do, and a trigger is one of them. And the
teacher, which is the suspect, hears clean examples alone, and is believed only where it is right about their
label; so its clean knowledge is passed on, far more of it than labels hold, and its backdoor is not.

Clean examples are few, so the student learns from splices too: an example with a piece of another one in its
place (after CutMix, Yun et al., ICCV 2019, arXiv:1905.04899; here the teacher says what a splice is). It is
believed of all of them, since nothing in them comes from anywhere but clean examples; and of unlabelled audio
where it agrees with itself on the views. Nothing is dropped out of the student: features with gaps could not
equal the teacher's. A network that has not even learnt its clean examples at the end starts anew and learns
three times as long; recurrent ones are that slow.

Held-out examples are drawn by clip, not by speaker: with few speakers, a whole one less to learn from costs
accuracy, and nothing is chosen by them. So held-out accuracy says little of new speakers.
"""

import copy
from typing import Any, ClassVar

import torch
from pydantic import Field

from closesesame.core.bounds import LossWeight
from closesesame.core.seeding import derive, generator
from closesesame.core.settings import default
from closesesame.data import Dataset
from closesesame.models import Classifier
from closesesame.models.matching import no_examples
from closesesame.training import accuracy, fit
from closesesame.training.distillation import (
    LossWeights,
    distillation_rule,
    lessons_of,
    without_dropout,
)
from closesesame.training.settings import Augmentation, Optimizer, Schedule
from closesesame.training.weights import interpolated, redraw

from .base import FineTuning

LONGER = 3


class Restore(FineTuning):
    """Move the suspect towards fresh weights, and distil it into itself under varied augmentation."""

    name: ClassVar[str] = "restore"
    cite: ClassVar[str] = "ours"
    cost: ClassVar[str] = "one to two times the training of the model"
    quick: ClassVar[dict[str, Any]] = {"steps": 2, "views": 2, "splices": 4}

    kept_share: float = Field(
        0.65,
        ge=0,
        le=1,
        description="share of the way from fresh weights to the suspect's at which it starts",
    )
    views: int = Field(
        8, ge=1, le=1000, description="lightly augmented views of an example that are averaged"
    )
    temperature: float = Field(2.0, gt=0, le=100, description="that the logits of soft labels are divided by")
    label_weight: LossWeight = Field(0.3, description="factor of the cross-entropy with the true label")
    soft_weight: LossWeight = Field(0.7, description="factor of the divergence from the soft labels")
    feature_weight: LossWeight = Field(2.0, description="factor of 1 - cosine of the features")
    splices: int = Field(
        800, ge=0, le=100_000, description="clips spliced from two clean ones, to learn from too"
    )
    least_agreement: float = Field(
        1.0, ge=0, le=1, description="share of its views that must agree for an unlabelled example to count"
    )
    least_learnt: float = Field(
        0.95,
        ge=0,
        le=1,
        description="share of the believed clips that it must get right, or it learns longer",
    )
    hold_out: float = default(
        FineTuning, "hold_out", 0.1, description="share of the clean set put aside to check, by clip"
    )
    optimizer: Optimizer = default(FineTuning, "optimizer", "adamw")
    lr: float = default(FineTuning, "lr", 0.005)
    steps: int = default(FineTuning, "steps", 500)
    batch_size: int = default(FineTuning, "batch_size", 96)
    weight_decay: float = default(FineTuning, "weight_decay", 0.01)
    schedule: Schedule = default(FineTuning, "schedule", "one_cycle")
    augmentation: Augmentation = default(FineTuning, "augmentation", "varied")

    def put_aside(self, clean: Dataset, seed: int) -> tuple[Dataset, Dataset]:
        """By clip, from each class in proportion."""
        return clean.split(self.hold_out, seed)

    def repair(self, model: Classifier, tune: Dataset, held_out: Dataset, seed: int) -> dict[str, Any]:
        """One run, nothing to choose; returns how many examples the suspect is believed on."""
        return self.repair_with_audio(model, tune, held_out, no_examples(model.card), seed)

    def repair_with_audio(
        self, model: Classifier, tune: Dataset, held_out: Dataset, audio: Dataset, seed: int
    ) -> dict[str, Any]:
        """Clips are repeated until they are as many as the splices and the unlabelled examples together.

        If it learns too little, all is done again with `LONGER` times the batches.
        """
        del held_out
        splices = spliced(tune, self.splices, seed)
        data = joined(tune, splices, audio)
        lessons = lessons_of(
            model,
            data,
            views=self.views,
            augmentation="none" if self.augmentation == "none" else "light",
            temperature=self.temperature,
            seed=seed,
        )
        row = torch.arange(len(data), device=model.device)
        labelled, clean = row < len(tune), row < len(tune) + len(splices)
        right = lessons.answers == data.labels.to(model.device)
        believed = torch.where(labelled, right, clean | (lessons.agreement >= self.least_agreement))
        times = max(1, round((len(data) - len(tune)) / len(tune)))
        others = (~labelled & believed).nonzero()[:, 0].cpu()
        rows = torch.cat([torch.arange(len(tune)).repeat(times), others])
        suspect, at = copy.deepcopy(model.body.state_dict()), rows.to(model.device)
        known = tune.take(believed[: len(tune)].nonzero()[:, 0].cpu())
        for longer in (1, LONGER):
            redraw(model, derive(seed, "fresh weights"))
            model.body.load_state_dict(interpolated(model.body.state_dict(), suspect, self.kept_share))
            rule = distillation_rule(
                model,
                lessons.take(at),
                LossWeights(self.label_weight, self.soft_weight, self.feature_weight),
                labelled=labelled[at],
                trusted=believed[at],
            )
            training = self.training(steps=longer * self.steps)
            with without_dropout(model.body):
                fit(model, data.take(rows), training, seed=seed, gradient=rule)
            learnt = accuracy(model, known) if known else 1.0
            if learnt >= self.least_learnt:
                break
        return {
            "batches": training.steps,
            "learnt": learnt,
            "believed_clips": len(known),
            "believed_unlabelled_clips": int(believed[~clean].sum()),
        }


def spliced(clips: Dataset, count: int, seed: int) -> Dataset:
    """Clips of which a fifth to four fifths, in one piece or around the end, are those of another clip.

    Args:
        clips: two or more.
        count: of the splices.
        seed: of clips and places.
    """
    rng, length = generator(seed, "splices"), clips.input_shape[-1]
    one = torch.arange(count) % len(clips)
    other = (one + torch.randint(1, len(clips), (count,), generator=rng)) % len(clips)
    start = torch.rand(count, 1, generator=rng)
    share = 0.2 + 0.6 * torch.rand(count, 1, generator=rng)
    replaced = (torch.arange(length) / length - start) % 1 < share
    replaced = replaced[(slice(None), *[None] * (len(clips.input_shape) - 1))]
    values = torch.where(replaced, clips.inputs[other], clips.inputs[one])
    return Dataset.of(values, clips.labels[one], classes=clips.classes, sample_rate=clips.sample_rate)


def joined(labelled: Dataset, *unlabelled: Dataset) -> Dataset:
    """One set of all; labels of the parts after the first mean nothing."""
    more = torch.zeros(sum(len(part) for part in unlabelled), dtype=labelled.labels.dtype)
    return Dataset.of(
        torch.cat([part.inputs[:] for part in (labelled, *unlabelled)]),
        torch.cat([labelled.labels, more]),
        classes=labelled.classes,
        sample_rate=labelled.sample_rate,
    )
