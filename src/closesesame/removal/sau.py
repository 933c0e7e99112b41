"""SAU: unlearn the adversarial examples that the model shares with its backdoored self.

Wei, Zhang, Zha, Wu, "Shared Adversarial Unlearning: Backdoor Mitigation by Unlearning Shared Adversarial
Examples", NeurIPS 2023, arXiv:2307.10562. What fools the suspect and the repaired model alike looks most
like the trigger. Within |delta| <= bound each clean example x of class y is moved to x', which maximises
beta1 (CE(f(x'), y) + CE(f0(x'), y)) / 2 - beta2 JS(f(x'), f0(x')): a cross-entropy counts while its model
gives x' the class it gives x, the divergence unless both give x' one and the same other class. Then f
learns CE(f(x), y), plus -log(1 - p(f(x'), f0's class of x')) where the suspect f0 gives x' a class that is
neither y nor what it gives x. Defaults as in the authors' code, which is part of BackdoorBench: Adam with a
constant learning rate (its schedule is made and never stepped), statistics of the batch norms kept, no
augmentation, 100 epochs of 2,500 examples in batches of 256: 1,000 steps.

Ours differs: bound and step, 0.2 for pictures in 0..1, are 0.8 deviations of the features, which is what
0.2 is to a picture; both forms of the last logarithm, which the code averages against rounding, are one.
"""

import copy
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from closesesame.core.bounds import LearningRate, LossWeight, WeightDecay
from closesesame.core.types import Labels, Logits, Mask, PerUnit
from closesesame.data import Dataset
from closesesame.models import Classifier
from closesesame.optimisation.adversary import sign_step
from closesesame.training import Batch, fit
from closesesame.training.losses import loss_against

from .base import FineTuning

LEAST = 0.1
"""Share of examples that must fool the suspect, so that there is something to unlearn."""


class SAU(FineTuning):
    """Fine-tune with a loss against what the suspect makes of shared adversarial examples."""

    name: ClassVar[str] = "sau"
    cite: ClassVar[str] = "arXiv:2307.10562"
    fp32_only: ClassVar[bool] = True
    cost: ClassVar[str] = "tens of times the training of the model"

    bound: float = Field(0.8, gt=0, le=1000, description="L-infinity bound of a perturbation, in deviations")
    step: float = Field(0.8, gt=0, le=1000, description="of the perturbation, by sign, in deviations")
    ascent_steps: int = Field(5, ge=0, le=1000, description="steps of the perturbation")
    beta1: LossWeight = Field(0.01, description="weight of being fooled")
    beta2: LossWeight = Field(1.0, description="weight of being fooled alike")
    shared: LossWeight = Field(1.0, description="weight of unlearning the shared examples")
    optimizer: Literal["adamw", "sgd"] = Field("adamw", description="without weight decay AdamW is Adam")
    lr: LearningRate = Field(1e-4, description="highest learning rate")
    weight_decay: WeightDecay = Field(0, description="L2")
    schedule: Literal["one_cycle", "cosine", "constant"] = Field(
        "constant", description="of the learning rate"
    )
    augmentation: Literal["none", "light", "strong"] = Field("none", description="of the features")

    def repair(self, model: Classifier, tune: Dataset, held_out: Dataset, seed: int) -> dict[str, Any]:
        """One run, nothing to choose.

        It says which share of the examples fooled the suspect in the first and in the last tenth of the run,
        and which fooled the model alike in the first: what was there to unlearn, and what was left.
        """
        del held_out
        suspect = copy.deepcopy(model.body).eval().requires_grad_(False)
        fooled: list[float] = []
        shared: list[float] = []

        def rule(body: nn.Module, batch: Batch) -> Tensor:
            body.eval()
            loss = batch.loss(body)
            with torch.no_grad():
                before = suspect(batch.features).argmax(1)
            perturbed = batch.features + self._perturbation(body, suspect, batch, before)
            with torch.no_grad():
                after = suspect(perturbed).argmax(1)
            hit = (after != batch.labels) & (after != before)
            logits = body(perturbed)
            fooled.append(float(hit.float().mean()))
            shared.append(float((hit & (logits.argmax(1) == after)).float().mean()))
            loss = loss + self.shared * unshare(logits, after, hit)
            loss.backward()
            return loss.detach()

        training = self.training(precision="fp32")
        fit(model, tune, training, seed=seed, gradient=rule)
        tenth = max(1, len(fooled) // 10)
        chosen: dict[str, Any] = {
            "fooled_first": _mean(fooled[:tenth]),
            "fooled_last": _mean(fooled[-tenth:]),
            "shared_first": _mean(shared[:tenth]),
        }
        if chosen["fooled_first"] < LEAST:
            chosen["unlearning"] = "idle: the suspect is hardly ever fooled within this bound"
        return chosen

    def _perturbation(
        self, body: nn.Module, suspect: nn.Module, batch: Batch, suspect_before: Labels
    ) -> Tensor:
        features = batch.features
        unit = float(features.std())
        delta = torch.full_like(features, self.bound * unit)
        with torch.no_grad():
            before = body(features).argmax(1)
        for _ in range(self.ascent_steps):
            delta.requires_grad_()
            model_logits, suspect_logits = body(features + delta), suspect(features + delta)
            risk = shared_risk(
                model_logits, suspect_logits, before, suspect_before, batch.labels, self.beta1, self.beta2
            )
            delta = sign_step(risk, delta, self.step * unit).clamp(-self.bound * unit, self.bound * unit)
        return delta


def shared_risk(
    model_logits: Logits,
    suspect_logits: Logits,
    model_before: Labels,
    suspect_before: Labels,
    labels: Labels,
    beta1: float,
    beta2: float,
) -> Tensor:
    """What a perturbation maximises, from the logits of the model and of the suspect under it.

    Args:
        model_logits: of the model.
        suspect_logits: of the suspect.
        model_before: the model's class without the perturbation; another class means that it is fooled.
        suspect_before: the suspect's class without it.
        labels: the true classes.
        beta1: weight of the cross-entropies of those who are not fooled.
        beta2: weight of the divergence where both are not fooled into the same class.
    """
    model_class, suspect_class = model_logits.argmax(1), suspect_logits.argmax(1)
    model_fooled, suspect_fooled = model_class != model_before, suspect_class != suspect_before
    shared = model_fooled & suspect_fooled & (model_class == suspect_class)
    risk = F.cross_entropy(model_logits, labels, reduction="none") * ~model_fooled
    risk = risk + F.cross_entropy(suspect_logits, labels, reduction="none") * ~suspect_fooled
    apart = divergence(model_logits, suspect_logits) * ~shared
    return (beta1 * risk / 2 - beta2 * apart).sum() / len(labels)


def divergence(one: Logits, other: Logits) -> PerUnit:
    """Jensen-Shannon divergence of two predictions of each example, in nats."""
    p, q = F.softmax(one, 1).clamp(min=1e-8), F.softmax(other, 1).clamp(min=1e-8)
    middle = ((p + q) / 2).log()
    return (p * (p.log() - middle) + q * (q.log() - middle)).sum(1) / 2


def unshare(logits: Logits, classes: Labels, hit: Mask) -> Tensor:
    """-log(1 - p) of the suspect's class, over the batch, where the suspect is fooled."""
    return (loss_against(logits, classes, margin=1e-6, least=0.001) * hit).sum() / len(logits)


def _mean(values: list[float]) -> float:
    return round(sum(values) / max(1, len(values)), 3)
