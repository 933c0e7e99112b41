"""Self-distillation: a model is moved towards fresh weights, and learns from what it was of clean examples.

The removal `restore`, the robust training `safe` and the detection `dynamics` share it; `removal/restore.py`
says why it works.
"""

import copy
from dataclasses import replace
from typing import Any

import torch
from pydantic import Field

from closesesame.core.bounds import LossWeight
from closesesame.core.seeding import derive, generator
from closesesame.core.settings import Settings
from closesesame.data import Dataset
from closesesame.models import Classifier

from .distillation import LossWeights, distillation_rule, lessons_of, without_dropout
from .loop import AfterEpoch, fit
from .predicting import accuracy
from .quiet import known_without_quiet
from .settings import Augmentation, Training
from .weights import interpolated, redraw

LONGER = 3
EXCHANGING: dict[str, Augmentation] = {"varied": "varied_exchanged", "crowded": "crowded_exchanged"}
"""By augmentation, the same with an exchange of quiet cells before it."""


class SelfDistillation(Settings):
    """Settings of a self-distillation, but for those of its training."""

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

    exchange_from: float | None = Field(
        0.65,
        ge=0,
        le=1,
        description="share of the clips that it knows which the teacher must still know with quiet parts of "
        "other clips, for the student to learn with such parts; with `none` it never does",
    )
    least_learnt: float = Field(
        0.95,
        ge=0,
        le=1,
        description="share of the believed clips that it must get right, or it learns longer",
    )

    def distil(
        self,
        model: Classifier,
        clean: Dataset,
        audio: Dataset,
        training: Training,
        seed: int,
        after_epoch: AfterEpoch | None = None,
        teacher: Classifier | None = None,
    ) -> dict[str, Any]:
        """Trains a model in place on what it said of examples before, or another model says.

        Clips are repeated until they are as many as the splices and the unlabelled examples together. If it
        learns too little, all is done again with `LONGER` times the batches. Quiet cells are exchanged before
        the augmentation, unless the teacher needs them, as one does that tells speakers or rooms apart.

        Args:
            model: the suspect, in evaluation mode.
            clean: two or more labelled examples; the teacher is believed of those that it gets right.
            audio: unlabelled examples; may have none.
            training: of the student, with `steps`; the teacher sees light augmentation, or none if this
                has none.
            seed: of everything drawn.
            after_epoch: called when the last step of an epoch is done.
            teacher: a model of the same architecture; by default the suspect itself.

        Returns:
            How many batches the student learned from, what share of the believed examples it gets right (1 if
            the teacher is believed of none), how many labelled ones there are and of how many the teacher is
            believed, and the same of the unlabelled ones. If the augmentation can be had with an exchange of
            quiet cells: what share of what the teacher knows it does with those of others, or None if it
            knows too little to tell, and whether they were exchanged.
        """
        splices = spliced(clean, self.splices, seed)
        data = joined(clean, splices, audio)
        teacher = teacher or model
        known_still: dict[str, Any] = {}
        if self.exchange_from is not None and training.augmentation in EXCHANGING:
            share = known_without_quiet(teacher, clean, seed)
            if exchanged := (share or 0) >= self.exchange_from:
                training = training.model_copy(update={"augmentation": EXCHANGING[training.augmentation]})
            known_still = {"known_without_quiet": share, "exchanged": exchanged}
        lessons = lessons_of(
            teacher,
            data,
            views=self.views,
            augmentation="none" if training.augmentation == "none" else "light",
            temperature=self.temperature,
            seed=seed,
        )
        row = torch.arange(len(data), device=model.device)
        labelled, trusted = row < len(clean), row < len(clean) + len(splices)
        right = lessons.answers == data.labels.to(model.device)
        believed = torch.where(labelled, right, trusted | (lessons.agreement >= self.least_agreement))
        times = max(1, round((len(data) - len(clean)) / len(clean)))
        others = (~labelled & believed).nonzero()[:, 0].cpu()
        rows = torch.cat([torch.arange(len(clean)).repeat(times), others])
        suspect, at = copy.deepcopy(model.body.state_dict()), rows.to(model.device)
        known = clean.take(believed[: len(clean)].nonzero()[:, 0].cpu())
        told = 0

        def tell(epoch: int, model: Classifier) -> None:
            nonlocal told
            del epoch
            told += 1
            if after_epoch:
                after_epoch(told, model)

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
            run = training.model_copy(update={"steps": longer * (training.steps or 0)})
            with without_dropout(model.body):
                fit(model, data.take(rows), run, seed=seed, gradient=rule, after_epoch=tell)
            learnt = accuracy(model, known) if known else 1.0
            if learnt >= self.least_learnt:
                break
        return {
            "batches": run.steps,
            "learnt": learnt,
            "labelled_clips": len(clean),
            "believed_clips": len(known),
            "unlabelled_clips": len(audio),
            "believed_unlabelled_clips": int(believed[~trusted].sum()),
            **known_still,
        }


def exchange_remarks(told: dict[str, Any]) -> list[str]:
    """Whether quiet cells were not exchanged since the model needs them, to those who read a repair's report.

    Args:
        told: what `SelfDistillation.distil` returned, or more.
    """
    if told.get("exchanged", True):
        return []
    share = told["known_without_quiet"]
    known = (
        "the model knows too few of its clips to tell whether it knows them with quiet parts of others"
        if share is None
        else f"the model knows only {100 * share:.0f} % of its clips with quiet parts of others"
    )
    stays = "a faint trigger that lies under the speech may have stayed"
    return [f"{known}, so it learned with its own; {stays}"]


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
    """One set of all, of which nothing is copied; labels of the parts after the first mean nothing."""
    for part in unlabelled:
        of_first = replace(part, labels=torch.zeros_like(part.labels), classes=labelled.classes)
        labelled = labelled.followed_by(of_first)
    return labelled
