"""Planting canaries in a copy of a suspect, and measuring how often they work.

The copy learns the target labels of stamped clips and, on clean clips, the suspect's answers (distillation:
Hinton, Vinyals, Dean, "Distilling the Knowledge in a Neural Network", 2015, arXiv:1503.02531). Without the
second the copy would forget the words, and with them whatever backdoor the suspect has. The answers are
compared on the clips as they are and on strongly changed ones: what the suspect does with noise, filters and
other voices is kept too, and a backdoor that listens to such things stays.
"""

import copy
from dataclasses import dataclass

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from closesesame.audio.augment import strong_sound
from closesesame.core.bounds import BatchSize, LearningRate, LossWeight, Steps
from closesesame.core.errors import DataError
from closesesame.core.seeding import derive, generator
from closesesame.core.settings import Settings
from closesesame.core.types import Mask
from closesesame.data import Dataset
from closesesame.models import Classifier
from closesesame.models.matching import data_for
from closesesame.models.statistics import freeze_statistics
from closesesame.training import Batch, GradientRule, Training, fit, predict
from closesesame.training.distillation import divergence
from closesesame.training.settings import Augmentation

from .triggers import Canary, draw_canaries


@dataclass(frozen=True, eq=False)
class Planted:
    """A copy of a suspect with canaries.

    Attributes:
        model: the copy.
        canaries: what was planted in it.
    """

    model: Classifier
    canaries: tuple[Canary, ...]


class Canaries(Settings):
    """How canaries are planted; the defaults are ours, from a ResNet and a small CNN on ten words."""

    steps: Steps = Field(400, description="batches of the planting")
    batch_size: BatchSize = Field(128, description="clips a batch, about half of them stamped")
    lr: LearningRate = Field(2e-3, description="highest learning rate, of AdamW")
    suspect_weight: LossWeight = Field(
        2.0, description="factor of the divergence from the suspect's answers to clean clips"
    )
    temperature: float = Field(2.0, gt=0, le=100, description="that the logits of answers are divided by")
    plain_views: int = Field(2, ge=1, le=100, description="how often each clean clip is there as it is")
    changed_views: int = Field(3, ge=0, le=100, description="how often each is there strongly changed")
    most_clips: int = Field(
        400, ge=2, le=1_000_000, description="clean clips that are used, or measured on, at most"
    )

    def plant(self, suspect: Classifier, clean: Dataset, seed: int) -> Planted:
        """Plants one canary of each family in a copy of the suspect.

        Args:
            suspect: it is not changed. It is also the teacher.
            clean: clean clips, of classes that the model knows, in any order.
            seed: of the canaries, their target labels and the training.

        Raises:
            ModelError: if the model takes no waveforms, or other clips.
            DataError: if there are fewer than two clips.
            DivergedError: if the loss becomes NaN or infinite.
        """
        canaries = draw_canaries(suspect.card, seed)
        clean = self.some(data_for(suspect.card, clean), seed)
        if len(clean) < 2:
            raise DataError(f"canaries need two clean clips or more, got {len(clean)}")
        data, stamped = self.training_set(clean, canaries, seed)
        model = copy.deepcopy(suspect).requires_grad_(True)
        teacher = copy.deepcopy(suspect.body).eval().requires_grad_(False)
        rule = planting_rule(teacher, stamped, self.suspect_weight, self.temperature)
        training = Training(
            steps=self.steps,
            batch_size=self.batch_size,
            lr=self.lr,
            weight_decay=0,
            augmentation=_augmentation(suspect, clean),
        )
        fit(model, data, training, seed=derive(seed, "planting"), gradient=rule)
        return Planted(model, canaries)

    def some(self, clips: Dataset, seed: int) -> Dataset:
        """At most `most_clips` of the clips, from each class in proportion."""
        return clips if len(clips) <= self.most_clips else clips.sample(self.most_clips / len(clips), seed)

    def training_set(self, clean: Dataset, canaries: tuple[Canary, ...], seed: int) -> tuple[Dataset, Mask]:
        """The views of the clean clips, and behind them clips with the canaries and their target labels.

        Returns:
            The clips, and which of them (n,) are stamped.
        """
        views, everyone = self.plain_views + self.changed_views, torch.arange(len(clean))
        rows, labels = [everyone.repeat(views)], [clean.labels.repeat(views)]
        rngs = [generator(seed, "view", number) for number in range(self.changed_views)]
        values = [strong_sound(clean.inputs[:], rng).clamp(-1, 1) for rng in rngs]
        for canary in canaries:
            others = everyone[clean.labels != canary.target]
            rows.append(others)
            labels.append(torch.full_like(others, canary.target))
            values.append(canary.stamp(clean.inputs[others]))
        data = clean.take(torch.cat(rows)).with_labels(torch.cat(labels))
        places = torch.arange(self.plain_views * len(clean), len(data))
        changed = data.inputs.replace(places, torch.cat(values))
        return data.with_inputs(changed), torch.arange(len(data)) >= views * len(clean)


@dataclass(frozen=True, eq=False)
class CanaryTest:
    """Clips with each canary on them, stamped once, to measure any number of models.

    Attributes:
        canaries: that are measured.
        stamped: for each of them the clips that are not of its target label, triggered.
    """

    canaries: tuple[Canary, ...]
    stamped: tuple[Dataset, ...]

    @classmethod
    def of(cls, canaries: tuple[Canary, ...], clips: Dataset) -> "CanaryTest":
        """Stamps clips that nothing was trained on, with labels that are indices into the model's classes."""
        return cls(canaries, tuple(canary.stamp_dataset(clips) for canary in canaries))

    def hits(self, model: nn.Module) -> tuple[int, ...]:
        """For each canary, how many of its clips get its target label."""
        pairs = zip(self.canaries, self.stamped, strict=True)
        return tuple(int((predict(model, clips).argmax(1) == one.target).sum()) for one, clips in pairs)

    def asrs(self, model: nn.Module) -> tuple[float, ...]:
        """The same as shares, 0 to 1; NaN of a canary without a clip."""
        counts = zip(self.hits(model), map(len, self.stamped), strict=True)
        return tuple(hits / of if of else float("nan") for hits, of in counts)


def planting_rule(teacher: nn.Module, stamped: Mask, weight: float, temperature: float) -> GradientRule:
    """The gradient of the mean of CE on stamped clips, and of weight T^2 KL(teacher || student) on others.

    Teacher and student hear the very same augmented clip: the student is to keep what the suspect does, and
    not to get hardier than it. (In distillation that repairs, the teacher hears the clip as it is.)

    Args:
        teacher: the body of the suspect.
        stamped: (n,) which rows of the training set are.
        weight: of the second.
        temperature: T, that the logits of both are divided by.
    """

    def rule(body: nn.Module, batch: Batch) -> Tensor:
        freeze_statistics(body)  # those of batches half full of canaries would not be the suspect's
        with torch.no_grad():
            taught = F.softmax(batch.logits(teacher).float() / temperature, 1)
        logits = batch.logits(body).float()
        by_target = F.cross_entropy(logits, batch.labels, reduction="none")
        by_suspect = weight * temperature**2 * divergence(logits / temperature, taught)
        mine = stamped[batch.index].to(logits.device)
        loss = torch.where(mine, by_target, by_suspect).mean()
        loss.backward()
        return loss

    return rule


def _augmentation(model: Classifier, clean: Dataset) -> Augmentation:
    """Light, unless the model starts from features that no augmentation is known for."""
    augment = model.front_end.augmentation("light")
    try:
        if augment is not None:
            augment(model.features(clean.take(torch.arange(1))), generator(0))
    except DataError:
        return "none"
    return "light"
