"""BTI-DBF (U): find what the benign features leave over, invert a trigger from it, and unlearn that.

Xu, Huang, Li, Qin, Ren, "Towards Reliable and Efficient Backdoor Trigger Inversion via Decoupling Benign
Features", ICLR 2024. With h the feature maps in front of the last pooling and s what follows: (1) a mask m
with min CE(s(m h(x)), y) - CE(s((1 - m) h(x)), y); (2) a generator G, trained to be the identity before the
first round, that changes (1 - m) h most and m h least, while x stays near; (3) fine-tuning on batches with
a tenth of G(x), CE + MSE(h(x), h(mixed)); five rounds. From the second round on G also aims at the class
that was found. Defaults are those of the authors' code: in batches of 128 of 2,500 examples, 50 epochs of
pre-training are 1,000 steps, 30 epochs a round 600 for G and 600 for the model, 20 epochs of the mask 400.

Ours differs: G is a small residual network, not a U-Net; bounds of a change of x are in variances of the
features; pre-training takes the softmax of the predictions once, the code twice; mask and G see the model
as it predicts, without batch statistics (the model is fine-tuned with them, as in the code) and the mask
all examples at once; examples are not shifted or mirrored. The model's own classes of x are taken from
those of G(x) before a class is named, and a class that gains too few, or no more than another, is not; the
code names the most frequent class of G(x), even if G changes nothing. A mask that calls nearly all features
benign, or nearly none, leaves G nothing to do: it is found anew from another start, with a weight on its
mean. Features that the logits do not depend on, such as the states of a recurrent network but the last, are
left out.

On one ResNet of the development bench (keywords10 words, badnets-airplane, seed 0) the mask no longer
saturates, but after 300 of its 600 steps the generator moved most clips to a class that is not the target.
"""

import copy
from collections.abc import Callable
from typing import Any, ClassVar

import torch
from pydantic import Field
from torch import Generator, Tensor, nn
from torch.nn import functional as F

from closesesame.core.bounds import LearningRate, Steps
from closesesame.core.progress import Track
from closesesame.core.seeding import derive, generator, isolated
from closesesame.core.settings import default
from closesesame.core.types import Labels, Logits, PerUnit
from closesesame.data import Dataset
from closesesame.models import Classifier
from closesesame.models.maps import Maps
from closesesame.training import Batch, GradientRule, fit
from closesesame.training.settings import Augmentation, Optimizer, Schedule

from .base import FineTuning
from .common.residual import Residual

Units = Tensor
EXAMPLES = 64
"""Examples by which the feature maps are found."""
MOST_RESTARTS = 4
"""Times that the mask is optimised again; the weight of its mean grows tenfold each time."""
SATURATED = 0.05, 0.95
"""Means between which a mask separates features."""


class BTIDBF(FineTuning):
    """Decouple benign features, invert a trigger, unlearn it; round after round."""

    name: ClassVar[str] = "bti_dbf"
    cite: ClassVar[str] = "ICLR 2024"
    fp32_only: ClassVar[bool] = True
    cost: ClassVar[str] = "tens of times the training of the model"
    quick: ClassVar[dict[str, Any]] = {"steps": 2, "rounds": 2, "mask_steps": 2, "generator_steps": 2}

    rounds: int = Field(5, ge=1, le=1000, description="of all three steps")
    mask_steps: Steps = Field(400, description="of Adam on the mask, in each round")
    mask_lr: LearningRate = Field(0.01, description="of the mask")
    mask_weight: float = Field(
        0.1,
        gt=0,
        le=1_000_000,
        description="of the mean of a mask that is optimised again, if all or no features seemed benign",
    )
    pretraining: float = Field(
        5 / 3,
        ge=0,
        le=1000,
        description="length of the generator's training to be the identity, over `generator_steps`",
    )
    generator_steps: Steps = Field(600, description="of Adam on the generator, in each round")
    generator_lr: LearningRate = Field(1e-3, description="of the generator")
    max_input_change: float = Field(
        0.3, gt=0, le=1000, description="mean squared change of an input, in variances"
    )
    max_benign_change: float = Field(
        3.0, gt=0, le=1000, description="mean squared change of the benign features"
    )
    min_class_gain: float = Field(
        0.1, gt=0, le=1, description="share of the other classes that a class must gain by G to be named"
    )
    share: float = Field(0.1, gt=0, le=1, description="of a batch that carries the inverted trigger")
    optimizer: Optimizer = default(
        FineTuning, "optimizer", "adamw", description="without weight decay AdamW is Adam"
    )
    lr: float = default(FineTuning, "lr", 1e-4, description="highest learning rate of the model")
    steps: int = default(FineTuning, "steps", 3000, description="batches in all rounds")
    batch_size: int = default(FineTuning, "batch_size", 128)
    weight_decay: float = default(FineTuning, "weight_decay", 0)
    schedule: Schedule = default(FineTuning, "schedule", "constant")
    augmentation: Augmentation = default(FineTuning, "augmentation", "none")

    def repair(self, model: Classifier, tune: Dataset, held_out: Dataset, seed: int) -> dict[str, Any]:
        """The class is named after the first round, from what G changes the model's predictions to."""
        del held_out
        features, labels = model.features(tune), tune.labels.to(model.device)
        maps = Maps(model.body, features[:EXAMPLES])
        with isolated(seed, "trigger generator"):
            trigger = Residual(features).to(model.device)
        rng = generator(seed, "trigger generator")
        optimizer = torch.optim.Adam(trigger.parameters(), self.generator_lr)
        shifted: int | None = None
        benign, weights = [], []
        self._be_identity(_frozen(model.body), maps, trigger, features, rng)
        for number in Track(range(self.rounds), "rounds", self.rounds):
            body = _frozen(model.body)
            mask, weight = self._decouple(body, maps, features, labels, generator(seed, "mask", number))
            benign.append(round(float(mask.mean()), 3))
            weights.append(weight)
            for _ in Track(range(self.generator_steps), "trigger generator", self.generator_steps):
                batch = self._draw(features, rng)
                optimizer.zero_grad()
                self._invert(body, maps, trigger, batch, mask, shifted).backward()
                optimizer.step()
            if number == 0:
                with torch.no_grad():
                    before, after = _classes(body, features), _classes(body, trigger(features))
                counts = shift(before, after, len(model.card.classes))
                shifted = gaining(before, counts, self.min_class_gain)
            training = self.training(steps=-(-self.steps // self.rounds), precision="fp32")
            rule = self._unlearning(maps, trigger, rng)
            fit(model, tune, training, seed=derive(seed, number), gradient=rule)
        return {
            "class_found": "none" if shifted is None else model.card.classes[shifted],
            "classes_gained": counts.tolist(),
            "benign_share": benign,
            "mask_weights": weights,
        }

    def _draw(self, features: Tensor, rng: Generator) -> Tensor:
        return features[torch.randperm(len(features), generator=rng)[: self.batch_size]]

    def _be_identity(
        self, body: nn.Module, maps: Maps, trigger: nn.Module, features: Tensor, rng: Generator
    ) -> None:
        """Pre-training: G(x) is near x, and so are its features and its prediction."""
        optimizer = torch.optim.Adam(trigger.parameters(), self.generator_lr)
        steps = round(self.pretraining * self.generator_steps)
        for _ in Track(range(steps), "pre-training", steps):
            x = self._draw(features, rng)
            with torch.no_grad(), maps.of(body) as units:
                prediction = body(x).softmax(1)
            changed = trigger(x)
            with maps.of(body) as perturbed:
                logits = body(changed)
            far = F.mse_loss(changed, x) / x.var()
            weight = 100 if far > 0.1 else 0.01
            loss = F.cross_entropy(logits, prediction) + F.mse_loss(perturbed[0], units[0]) + weight * far
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

    def _decouple(
        self, body: nn.Module, maps: Maps, features: Tensor, labels: Labels, rng: Generator
    ) -> tuple[PerUnit, float]:
        """The mask, and the weight of its mean: 0 as published, unless all or nothing seems benign then."""

        def under(mask: PerUnit) -> Logits:
            with maps.masked(body, mask):
                logits: Logits = body(features)
            return logits

        weight = 0.0
        for restart in range(MOST_RESTARTS + 1):
            start = torch.randn(maps.count, generator=rng).to(features.device)
            mask = decouple(under, start, labels, self.mask_steps, self.mask_lr, weight)
            mean = float(mask.mean())
            if SATURATED[0] <= mean <= SATURATED[1] or restart == MOST_RESTARTS:
                break
            weight = self.mask_weight * 10**restart * (1 if mean > 0.5 else -1)
        return mask, weight

    def _invert(
        self,
        body: nn.Module,
        maps: Maps,
        trigger: nn.Module,
        x: Tensor,
        mask: PerUnit,
        target: int | None,
    ) -> Tensor:
        changed = trigger(x)
        with torch.no_grad(), maps.of(body) as units:
            body(x)
        with maps.of(body) as perturbed:
            logits = body(changed)
        loss = inversion_loss(units[0], perturbed[0], mask, F.mse_loss(changed, x) / x.var(), self)
        if target is None:
            return loss
        return loss + F.cross_entropy(logits, torch.full_like(logits[:, 0], target, dtype=torch.long))

    def _unlearning(self, maps: Maps, trigger: nn.Module, rng: Generator) -> GradientRule:
        def rule(body: nn.Module, batch: Batch) -> Tensor:
            rows = torch.randperm(len(batch.labels), generator=rng)
            rows = rows[: int(self.share * len(rows)) + 1]
            mixed = batch.features.clone()
            with torch.no_grad():
                mixed[rows] = trigger(batch.features[rows])
            with maps.of(body) as units:
                loss = batch.with_features(mixed).loss(body)
            with maps.of(body) as clean:
                batch.logits(body)
            loss = loss + F.mse_loss(clean[0], units[0])
            loss.backward()
            return loss.detach()

        return rule


def _frozen(body: nn.Module) -> nn.Module:
    """A copy that predicts and is not trained."""
    return copy.deepcopy(body).eval().requires_grad_(False)


def decouple(
    under: Callable[[PerUnit], Logits], start: PerUnit, labels: Labels, steps: int, lr: float, weight: float
) -> PerUnit:
    """The mask under which the units still say the class, and without which they do not.

    Args:
        under: the logits with the units multiplied by a mask.
        start: of the mask before it is squeezed into 0..1.
        labels: of the examples.
        steps: of Adam.
        lr: of Adam.
        weight: of the mean of the mask, beside the two cross-entropies.
    """
    raw = start.clone().requires_grad_()
    optimizer = torch.optim.Adam([raw], lr)
    for _ in range(steps):
        mask = raw.tanh() / 2 + 0.5
        loss = F.cross_entropy(under(mask), labels) - F.cross_entropy(under(1 - mask), labels)
        loss = loss + weight * mask.mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return (raw.tanh() / 2 + 0.5).detach()


def inversion_loss(units: Units, perturbed: Units, mask: PerUnit, changed: Tensor, method: BTIDBF) -> Tensor:
    """What the generator minimises: the change of the input while a bound is passed, and then the features'.

    Args:
        units: of clean examples.
        perturbed: of the generator's.
        mask: 1 for benign.
        changed: mean squared change of the inputs.
        method: the bounds.
    """
    benign, rest = (
        F.mse_loss(mask * perturbed, mask * units),
        F.mse_loss((1 - mask) * perturbed, (1 - mask) * units),
    )
    if changed > method.max_input_change or benign > method.max_benign_change:
        return changed
    return 0.01 * benign - rest


def shift(before: Tensor, after: Tensor, classes: int) -> Tensor:
    """How many more examples are of each class than before."""
    return torch.bincount(after, minlength=classes) - torch.bincount(before, minlength=classes)


def gaining(before: Tensor, counts: Tensor, least: float) -> int | None:
    """The class that gains most, if it gains more than any other and enough of the others' examples."""
    order = counts.argsort(descending=True)
    first, second = order[:2].tolist()
    others = int((before != first).sum())
    if counts[first] == counts[second] or counts[first] < max(1.0, least * others):
        return None
    return int(first)


@torch.no_grad()
def _classes(body: nn.Module, features: Tensor) -> Labels:
    classes: Labels = body(features).argmax(1)
    return classes
