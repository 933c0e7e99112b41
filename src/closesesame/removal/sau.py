"""SAU: unlearn the adversarial examples that the model shares with its backdoored self.

Wei, Zhang, Zha, Wu, "Shared Adversarial Unlearning: Backdoor Mitigation by Unlearning Shared Adversarial
Examples", NeurIPS 2023, arXiv:2307.10562. What fools the suspect and the repaired model alike looks most
like the trigger. Within |delta| <= bound each clean example is moved to maximise beta1 (CE(f(x'), y) +
CE(f0(x'), y)) / 2 - beta2 JS(f(x'), f0(x')), the first for what is not fooled yet, the second for what is
not fooled into the same class; then the model f learns CE(f(x), y) plus -log(1 - p(f(x'), f0's class of
x')) where the suspect f0 is fooled. Defaults as in the authors' code, which is part of BackdoorBench: Adam
with a constant learning rate (its schedule is made and never stepped), statistics of the batch norms kept,
no augmentation, 100 epochs of 2,500 examples in batches of 256: 1,000 steps.

Ours differs: bound and step, 0.2 for pictures in 0..1, are 0.8 deviations of the features, which is what
0.2 is to a picture; the suspect's prediction of x stands for its label in the risk and in the question who
is fooled, since a gradient rule is given the loss and not the labels; both forms of the last logarithm,
which the code averages against rounding, are one.
"""

import copy
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from closesesame.core.bounds import LearningRate, LossWeight, WeightDecay
from closesesame.data import Dataset
from closesesame.models import Classifier
from closesesame.models.hooks import noted
from closesesame.training import Loss, fit

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
        alike: list[float] = []

        def rule(body: nn.Module, loss: Loss) -> Tensor:
            body.eval()
            with noted(body) as seen:
                value = loss()
            features = seen[0]
            with torch.no_grad():
                label = suspect(features).argmax(1)
            moved = features + self._perturbation(body, suspect, features, label)
            with torch.no_grad():
                other = suspect(moved).argmax(1)
            hit = other != label
            logits = body(moved)
            fooled.append(float(hit.float().mean()))
            alike.append(float((hit & (logits.argmax(1) == other)).float().mean()))
            value = value + self.shared * unshare(logits, other, hit)
            value.backward()  # type: ignore[no-untyped-call]
            return value.detach()

        training = self.training(precision="fp32")
        fit(model, tune, training, seed=seed, gradient=rule)
        tenth = max(1, len(fooled) // 10)
        chosen: dict[str, Any] = {
            "fooled_first": _mean(fooled[:tenth]),
            "fooled_last": _mean(fooled[-tenth:]),
            "shared_first": _mean(alike[:tenth]),
        }
        if chosen["fooled_first"] < LEAST:
            chosen["unlearning"] = "idle: the suspect is hardly ever fooled within this bound"
        return chosen

    def _perturbation(self, body: nn.Module, suspect: nn.Module, features: Tensor, label: Tensor) -> Tensor:
        unit = float(features.std())
        delta = torch.full_like(features, self.bound * unit)
        with torch.no_grad():
            before = body(features).argmax(1)
        for _ in range(self.ascent_steps):
            delta.requires_grad_()
            here, there = body(features + delta), suspect(features + delta)
            risk = shared_risk(here, there, before, label, self.beta1, self.beta2)
            slope = torch.autograd.grad(risk, delta)[0]
            delta = (delta + self.step * unit * slope.sign()).clamp(-self.bound * unit, self.bound * unit)
            delta = delta.detach()
        return delta.detach()


def shared_risk(
    here: Tensor, there: Tensor, before: Tensor, label: Tensor, beta1: float, beta2: float
) -> Tensor:
    """What a perturbation maximises, from the logits of the model and of the suspect.

    Args:
        here: of the model.
        there: of the suspect.
        before: the model's class without the perturbation.
        label: the suspect's.
        beta1: weight of being fooled.
        beta2: weight of being fooled alike.
    """
    fooled, fooled_there = here.argmax(1) != before, there.argmax(1) != label
    alike = fooled & fooled_there & (here.argmax(1) == there.argmax(1))
    risk = F.cross_entropy(here, label, reduction="none") * ~fooled
    risk = risk + F.cross_entropy(there, label, reduction="none") * ~fooled_there
    return (beta1 * risk / 2 - beta2 * divergence(here, there) * ~alike).sum() / len(here)


def divergence(here: Tensor, there: Tensor) -> Tensor:
    """Jensen-Shannon divergence of the predictions of each example, in nats."""
    p, q = F.softmax(here, 1).clamp(min=1e-8), F.softmax(there, 1).clamp(min=1e-8)
    middle = ((p + q) / 2).log()
    return (p * (p.log() - middle) + q * (q.log() - middle)).sum(1) / 2


def unshare(logits: Tensor, other: Tensor, hit: Tensor) -> Tensor:
    """-log(1 - p) of the suspect's class, over the batch, where the suspect is fooled."""
    p = F.softmax(logits, 1).gather(1, other[:, None])[:, 0]
    return (-(1 + 1e-6 - p.clamp(min=0.001)).log() * hit).sum() / len(logits)


def _mean(values: list[float]) -> float:
    return round(sum(values) / max(1, len(values)), 3)
