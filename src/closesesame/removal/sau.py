"""SAU: unlearn the adversarial examples that the model shares with its backdoored self.

Wei, Zhang, Zha, Wu, "Shared Adversarial Unlearning: Backdoor Mitigation by Unlearning Shared Adversarial
Examples", NeurIPS 2023, arXiv:2307.10562. What fools the suspect and the repaired model alike looks most like
the trigger. Within |delta| <= bound each clean example is moved to maximise
beta1 (CE(f(x'), y) + CE(f0(x'), y)) / 2 - beta2 JS(f(x'), f0(x')), the first for what is not fooled yet, the
second for what is not fooled into the same class; then the model f learns CE(f(x), y) plus
-log(1 - p(f(x'), f0's class of x')) where the suspect f0 is fooled. Defaults as in the authors' code.

Ours differs: bound and step, 0.2 for pictures in 0..1, are 0.2 deviations of the features (0.8, which is what
0.2 is to a picture, cost held-out accuracy); the suspect's prediction of x stands for its label; 100 batches,
not 100 epochs of a larger set.
"""

import copy
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from closesesame.data import Dataset
from closesesame.models import Classifier
from closesesame.training import Loss, fit

from .base import FineTuning
from .minimax import noted


class SAU(FineTuning):
    """Fine-tune with a loss against what the suspect makes of shared adversarial examples."""

    name: ClassVar[str] = "sau"
    cite: ClassVar[str] = "arXiv:2307.10562"
    cost: ClassVar[str] = "about the training of the model"

    bound: float = Field(0.2, gt=0, description="L-infinity bound of a perturbation, in deviations")
    step: float = Field(0.2, gt=0, description="of the perturbation, by sign, in deviations")
    ascent_steps: int = Field(5, ge=0, description="steps of the perturbation")
    beta1: float = Field(0.01, ge=0, description="weight of being fooled")
    beta2: float = Field(1.0, ge=0, description="weight of being fooled alike")
    shared: float = Field(1.0, ge=0, description="weight of unlearning the shared examples")
    optimizer: Literal["adamw", "sgd"] = Field("adamw", description="without weight decay AdamW is Adam")
    lr: float = Field(1e-4, gt=0, description="highest learning rate")
    steps: int | None = Field(100, ge=0, description="batches in all, instead of `epochs`")
    batch_size: int = Field(32, ge=2, description="examples a batch; at most the whole set")
    weight_decay: float = Field(0, ge=0, description="L2")
    augmentation: Literal["none", "light", "strong"] = Field("none", description="of the features")

    def repair(self, model: Classifier, tune: Dataset, held_out: Dataset, seed: int) -> dict[str, Any]:
        """One run, nothing to choose."""
        del held_out
        suspect = copy.deepcopy(model.body).eval().requires_grad_(False)
        fooled: list[float] = []

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
            fooled.append(float(hit.float().mean()))
            value = value + self.shared * unshare(body(moved), other, hit)
            value.backward()  # type: ignore[no-untyped-call]
            return value.detach()

        training = self.training(precision="fp32")
        fit(model, tune, training, seed=seed, gradient=rule)
        return {"fooled": round(sum(fooled) / max(1, len(fooled)), 3)}

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
