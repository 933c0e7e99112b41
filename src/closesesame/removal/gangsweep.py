"""GangSweep: learn a generator of masks for each class, find the one that is a backdoor, and unlearn it.

Zhu, Ning, Wang, Xin, Wu, "GangSweep: Sweep out Neural Backdoors by GAN", ACM MM 2020. For each class t a
generator G learns against the frozen classifier f, on clean x of other classes, with
max(max_{k != t} f_k(x + G(x)) - f_t(x + G(x)), -kappa) + lambda max(0, |G(x)| - c). The masks of a backdoor
are persistent: with M the mean mask and v = phi(x + M) - phi(x) the shift of the features phi, the distance
d = mean |v| is large and the variance s = mean |v - mean v|^2 is small. What was found is unlearned: the
model is fine-tuned while a share of each batch carries M, with the true labels.

Ours differs: only the abstract is public, and no code is, so all of the above but the idea is ours. G is a
small residual network; |G(x)| is an RMS in deviations of the features, so that one c fits all front ends; phi
is what enters the last linear layer, or the logits of a model without one. Large is the rule of Neural
Cleanse, S&P 2019: d is more than 2 normalised median absolute deviations above the median of the classes; of
two classes none can be. Small is s / d^2 below its median. Of several such classes the one with the greatest
d is unlearned, as Neural Cleanse does it: a fifth of each batch, 1,000 steps. If there is none, the model
stays as it is. Generators learn for 400 steps: 20 epochs of 2,500 examples.

On small ResNets that tell four tones apart, with 150 steps a generator, it found the target of two of three
BadNets, a wrong class in the third, and a class in the clean model: the median deviation of few classes is an
unsure scale.
"""

import copy
from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from pydantic import Field
from torch import Generator, Tensor, nn

from closesesame.core.bounds import LearningRate, LossWeight, Steps
from closesesame.core.errors import DataError
from closesesame.core.progress import Track
from closesesame.core.seeding import generator, isolated
from closesesame.core.settings import default
from closesesame.core.types import Logits, PerUnit
from closesesame.data import Dataset
from closesesame.models import Classifier
from closesesame.models.hooks import inputs_of, outputs_of
from closesesame.training import Batch, GradientRule, backpropagate, fit
from closesesame.training.distillation import last_layer

from .base import FineTuning
from .common.residual import Residual

TINY = 1e-12
"""In place of a distance or a deviation of zero."""


class GangSweep(FineTuning):
    """Learn masks that turn clips to each class, and unlearn the mask that is an outlier."""

    name: ClassVar[str] = "gangsweep"
    cite: ClassVar[str] = "ACM MM 2020"
    fp32_only: ClassVar[bool] = True
    cost: ClassVar[str] = "tens of times the training of the model"
    quick: ClassVar[dict[str, Any]] = {"steps": 2, "generator_steps": 2, "min_anomaly": 0.0}

    generator_steps: Steps = Field(400, description="of Adam on the generator of each class")
    generator_lr: LearningRate = Field(1e-3, description="of the generators")
    margin: float = Field(
        20.0, ge=0, le=1000, description="logits by which a mask's class may lead before it is enough, kappa"
    )
    max_change: float = Field(
        0.2, ge=0, le=1000, description="RMS of a mask that costs nothing, in deviations of the features, c"
    )
    change_weight: LossWeight = Field(10.0, description="weight of a mask's RMS beyond that, lambda")
    min_anomaly: float = Field(
        2.0,
        ge=0,
        le=1000,
        description="normalised median absolute deviations by which a backdoor's distance exceeds the median",
    )
    share: float = Field(0.2, gt=0, le=1, description="of a batch that carries the mask that was found")
    batch_size: int = default(FineTuning, "batch_size", 128)

    def repair(self, model: Classifier, tune: Dataset, held_out: Dataset, seed: int) -> dict[str, Any]:
        """The masks are learned and compared on the clean examples that the model then learns from."""
        del held_out
        if sum(count > 0 for count in tune.counts()) < 2:
            raise DataError("gangsweep needs clean examples of two classes, to turn one into the other")
        frozen = copy.deepcopy(model).eval().requires_grad_(False)
        features, labels = model.features(tune), tune.labels.to(model.device)
        unit, masks, shifts = max(float(features.std()), TINY), [], []
        classes = model.card.classes
        for target in Track(range(len(classes)), "classes", len(classes)):
            others = features[labels != target]
            masks.append(self._mask(frozen.body, others, target, unit, seed))
            batches = others.split(self.batch_size)
            before, after = embeddings(frozen, batches), embeddings(frozen, [x + masks[-1] for x in batches])
            shifts.append(shift_of(before, after))
        distance, variance = torch.tensor(shifts).T
        anomaly, found = persistent(distance, variance, self.min_anomaly)
        if found is not None:
            rule = self._unlearning(masks[found], generator(seed, "rows with the mask"))
            fit(model, tune, self.training(precision="fp32"), seed=seed, gradient=rule)
        return {
            "class_found": "none" if found is None else classes[found],
            "anomalies": [round(value, 2) for value in anomaly.tolist()],
            "shift_distances": [round(value, 3) for value in distance.tolist()],
            "shift_variances": [round(value, 3) for value in variance.tolist()],
            "mask_sizes": [round(float(rms(mask)) / unit, 3) for mask in masks],
        }

    def remarks(self, chosen: dict[str, Any]) -> list[str]:
        """Whether a class was found."""
        if chosen["class_found"] != "none":
            return []
        most = max(chosen["anomalies"])
        said = (
            "no class looks like the target of a backdoor, so nothing was unlearned: the greatest anomaly is"
        )
        return [f"{said} {most:g}, and above {self.min_anomaly:g} is suspicious if the shift varies little"]

    def _mask(self, body: nn.Module, features: Tensor, target: int, unit: float, seed: int) -> Tensor:
        """The mean mask (1, ...) of a generator that learns to turn these features to a class."""
        with isolated(seed, "trigger generator", target):
            trigger = Residual(features).to(features.device)
        rng = generator(seed, "order for a generator", target)
        optimizer = torch.optim.Adam(trigger.parameters(), self.generator_lr)
        for _ in range(self.generator_steps):
            x = features[torch.randperm(len(features), generator=rng)[: self.batch_size]]
            changed = trigger(x)
            optimizer.zero_grad()
            mask_loss(body(changed), rms(changed - x) / unit, target, self).backward()
            optimizer.step()
        with torch.no_grad():
            return torch.cat([trigger(x) - x for x in features.split(self.batch_size)]).mean(0, keepdim=True)

    def _unlearning(self, mask: Tensor, rng: Generator) -> GradientRule:
        def rule(body: nn.Module, batch: Batch) -> Tensor:
            count = max(1, round(self.share * len(batch.labels)))
            mixed = batch.features.clone()
            mixed[torch.randperm(len(mixed), generator=rng)[:count]] += mask
            return backpropagate(body, batch.with_features(mixed)).detach()

        return rule


def rms(changes: Tensor) -> PerUnit:
    """Root mean square of each example (batch, ...)."""
    flat = changes.flatten(1)
    size: PerUnit = flat.norm(dim=1) / flat.shape[1] ** 0.5  # without a slope of NaN at zero
    return size


def mask_loss(logits: Logits, size: PerUnit, target: int, method: GangSweep) -> Tensor:
    """What a generator minimises: how far the class is from a lead of `margin`, and what is too large.

    Args:
        logits: of the masked examples.
        size: of the masks, in deviations of the features.
        target: the class they should be turned to.
        method: the margin, the size that costs nothing, and the weight of more.
    """
    best = torch.cat([logits[:, :target], logits[:, target + 1 :]], 1).amax(1)
    behind = (best - logits[:, target]).clamp(min=-method.margin)
    return (behind + method.change_weight * (size - method.max_change).clamp(min=0)).mean()


@torch.no_grad()
def embeddings(model: Classifier, batches: Sequence[Tensor]) -> Tensor:
    """What enters the last linear layer (n, units), or the logits of a model without one."""
    head = last_layer(model)
    with outputs_of(model.body) if head is None else inputs_of(head) as seen:
        for features in batches:
            model.body(features)
    return torch.cat([values.flatten(1).float() for values in seen])


def shift_of(before: Tensor, after: Tensor) -> tuple[float, float]:
    """Mean length of the shifts (n, units), and their mean squared distance to their mean."""
    shifts = after - before
    variance = (shifts - shifts.mean(0)).square().sum(1).mean()
    return float(shifts.norm(dim=1).mean()), float(variance)


def persistent(distance: PerUnit, variance: PerUnit, least: float) -> tuple[PerUnit, int | None]:
    """How far the distance of each class is above the median, and the class of a backdoor, if there is one.

    Args:
        distance: of the shift of each class.
        variance: of that shift.
        least: normalised median absolute deviations above the median that are suspicious.
    """
    above = distance - distance.quantile(0.5)
    anomaly = above / (1.4826 * above.abs().quantile(0.5)).clamp(min=TINY)
    relative = variance / distance.square().clamp(min=TINY)
    suspicious = (anomaly > least) & (relative < relative.quantile(0.5))
    if not suspicious.any():
        return anomaly, None
    return anomaly, int(anomaly.masked_fill(~suspicious, -torch.inf).argmax())
