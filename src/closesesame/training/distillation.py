"""Gated distillation: a network learns from a teacher, but only of examples that the teacher gets right.

Soft labels: Hinton, Vinyals, Dean, "Distilling the Knowledge in a Neural Network", 2015, arXiv:1503.02531.
Features: Romero et al., "FitNets", ICLR 2015, arXiv:1412.6550; here those before the last layer are compared,
by their angle. The gate and the views are ours: the teacher sees each example in a few lightly augmented
views, and what it says of them is averaged once, before the training; the student sees it strongly augmented.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float32
from torch import Tensor, nn
from torch.nn import functional as F

from closesesame.core.errors import ModelError
from closesesame.core.progress import Track
from closesesame.core.seeding import generator
from closesesame.core.types import Labels
from closesesame.data import Dataset
from closesesame.models import Classifier
from closesesame.models.channels import head_in
from closesesame.models.hooks import inputs_of

from .loop import Batch, GradientRule
from .predicting import autocast, choose_precision
from .settings import Augmentation

VIEWS_AT_ONCE = 256


@dataclass(frozen=True)
class Lessons:
    """What a teacher says of each example of a data set.

    Attributes:
        soft: (n, classes) probabilities at a temperature, the mean over the views.
        features: (n, units) what enters the last layer, the mean over the views; None if the network does not
            end in a linear layer.
        agreement: (n,) share of the views whose most likely class is that of the mean.
        temperature: of the probabilities.
    """

    soft: Float32[Tensor, "n class"]
    features: Float32[Tensor, "n unit"] | None
    agreement: Float32[Tensor, " n"]
    temperature: float

    @property
    def answers(self) -> Labels:
        """The most likely class of each example (n,)."""
        return self.soft.argmax(1)

    def take(self, index: Tensor) -> "Lessons":
        """Those of the examples at `index`, in its order."""
        features = None if self.features is None else self.features[index]
        return Lessons(self.soft[index], features, self.agreement[index], self.temperature)


@torch.no_grad()
def lessons_of(
    teacher: Classifier,
    data: Dataset,
    *,
    views: int,
    augmentation: Augmentation,
    temperature: float,
    seed: int,
) -> Lessons:
    """Asks a teacher, in evaluation mode, about several augmented views of each example.

    Args:
        teacher: the model that is asked; it is not changed.
        data: the examples; their labels are not looked at.
        views: of each example.
        augmentation: of the views.
        temperature: that divides the logits before the softmax.
        seed: of the augmentation.
    """
    head, rng = last_layer(teacher), generator(seed, "views of the teacher")
    augment = teacher.front_end.augmentation(augmentation)
    precision = choose_precision("auto", teacher)
    soft, features, agreement = [], [], []
    size = max(1, VIEWS_AT_ONCE // views)
    for inputs, _ in Track(data.batches(size), "asking the teacher", -(-len(data) // size)):
        maps = teacher.front_end(inputs.to(teacher.device)).repeat_interleave(views, 0)
        with autocast(maps.device, precision), _seen(head) as seen:
            logits = teacher.body(augment(maps, rng) if augment else maps).float()
        by_view = F.softmax(logits / temperature, 1).unflatten(0, (len(inputs), views))
        mean = by_view.mean(1)
        soft.append(mean)
        agreement.append((by_view.argmax(2) == mean.argmax(1)[:, None]).float().mean(1))
        features += [one.flatten(1).float().unflatten(0, (len(inputs), views)).mean(1) for one in seen]
    return Lessons(
        torch.cat(soft), torch.cat(features) if features else None, torch.cat(agreement), temperature
    )


@dataclass(frozen=True)
class LossWeights:
    """Factors of the three terms of the loss.

    Attributes:
        label: of the cross-entropy with the given label.
        soft: of the divergence from the teacher's soft labels.
        feature: of one minus the cosine between the student's and the teacher's features.
    """

    label: float
    soft: float
    feature: float


def distillation_rule(
    student: Classifier,
    lessons: Lessons,
    weights: LossWeights,
    *,
    labelled: Bool[Tensor, " n"],
    trusted: Bool[Tensor, " n"],
) -> GradientRule:
    """The gradient of label CE + trusted (soft T^2 KL(teacher || student) + feature (1 - cosine)), the mean.

    Args:
        student: the model that is trained.
        lessons: of the data that it is trained on.
        weights: of the terms.
        labelled: (n,) which examples have a label that is known.
        trusted: (n,) of which examples the teacher is believed.
    """
    head, t = last_layer(student), lessons.temperature

    def rule(body: nn.Module, batch: Batch) -> Tensor:
        at = batch.index.to(lessons.soft.device)
        with _seen(head) as seen:
            logits = batch.logits(body).float()
        by_label = F.cross_entropy(logits, batch.labels, reduction="none")
        by_teacher = weights.soft * t**2 * divergence(logits / t, lessons.soft[at])
        if lessons.features is not None and seen:
            own = seen[-1].flatten(1).float()
            by_teacher = by_teacher + weights.feature * (1 - F.cosine_similarity(own, lessons.features[at]))
        loss = (weights.label * labelled[at] * by_label + trusted[at] * by_teacher).mean()
        loss.backward()
        return loss

    return rule


def divergence(
    logits: Float32[Tensor, "batch class"], soft: Float32[Tensor, "batch class"]
) -> Float32[Tensor, " batch"]:
    """KL(soft || softmax(logits)) of each example, in nats."""
    return F.kl_div(F.log_softmax(logits, 1), soft, reduction="none").sum(1)


def last_layer(model: Classifier) -> nn.Linear | None:
    """The linear layer that makes the logits; None if there is none, or more than one."""
    try:
        return head_in(model)
    except ModelError:
        return None


@contextmanager
def without_dropout(body: nn.Module) -> Iterator[None]:
    """Nothing is dropped inside, in training mode too: features with gaps are never those of the teacher."""
    kinds = (nn.modules.dropout._DropoutNd, nn.RNNBase, nn.MultiheadAttention)  # noqa: SLF001
    rates = [
        (module, "p" if isinstance(module, kinds[0]) else "dropout")
        for module in body.modules()
        if isinstance(module, kinds)
    ]
    before = [getattr(module, name) for module, name in rates]
    for module, name in rates:
        setattr(module, name, 0.0)
    try:
        yield
    finally:
        for (module, name), rate in zip(rates, before, strict=True):
            setattr(module, name, rate)


@contextmanager
def _seen(head: nn.Linear | None) -> Iterator[list[Tensor]]:
    if head is None:
        yield []
        return
    with inputs_of(head) as seen:
        yield seen
