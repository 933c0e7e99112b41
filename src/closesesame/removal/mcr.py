"""MCR: a curve of low loss from the suspect to a fine-tuned copy; a model in its middle is kept.

Zhao, Chen, Das, Ramamurthy, Lin, "Bridging Mode Connectivity in Loss Landscapes and Adversarial Robustness",
ICLR 2020, arXiv:2005.00060: quadratic Bezier curve with both ends fixed, learning rate 0.01, weight decay
1e-4, eleven points looked at; 100 epochs of 2,500 examples in batches of 128, which are 20 an epoch: 2,000
steps for the copy, and 2,000 for the bend.

Ours differs: the paper reads off at which point the backdoor is weakest, which a defender cannot see. Here
the point nearest to the middle is taken at which held-out accuracy is within the tolerance of the suspect's;
of two as near, the one with the lower held-out loss. The learning rate falls along a cosine.
"""

import copy
from typing import Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn

from closesesame.core.bounds import BatchSize, Steps, WeightDecay
from closesesame.core.progress import Track
from closesesame.core.seeding import derive, generator
from closesesame.data import Dataset
from closesesame.models import Classifier
from closesesame.models.statistics import renew_statistics
from closesesame.training import Batch, GradientRule, accuracy, fit, judge

from .base import FineTuning

State = dict[str, Tensor]


class MCR(FineTuning):
    """Train the bend of a curve from the suspect to a fine-tuned copy, and keep a point of the curve."""

    name: ClassVar[str] = "mcr"
    cite: ClassVar[str] = "arXiv:2005.00060"
    cost: ClassVar[str] = "about four times plain fine-tuning"

    steps: Steps = Field(2000, description="batches of each of the two runs")
    batch_size: BatchSize = Field(128, description="examples a batch; at most the whole set")
    weight_decay: WeightDecay = Field(1e-4, description="L2")
    t: float | None = Field(
        None, ge=0, le=1, description="point of the curve: 0 is the suspect, 1 the copy; None chooses"
    )
    points: int = Field(
        11, ge=3, le=1001, description="points of the curve that are looked at, evenly spread"
    )
    tolerance: float = Field(
        0.05, ge=0, lt=1, description="drop of held-out accuracy that is allowed, a share"
    )

    def repair(self, model: Classifier, tune: Dataset, held_out: Dataset, seed: int) -> dict[str, Any]:
        """Two runs, one for the copy and one for the bend; chooses the point on `held_out`."""
        other = copy.deepcopy(model)
        fit(other, tune, self.training(), seed=derive(seed, "copy"))
        allowed = accuracy(model, held_out) - self.tolerance
        start, end = copy.deepcopy(model.body.state_dict()), other.body.state_dict()
        bend = copy.deepcopy(model)
        with torch.no_grad():
            for weight, far in zip(bend.body.parameters(), other.body.parameters(), strict=True):
                weight.copy_((weight + far) / 2)
        rule = curve_rule(model.body, other.body, generator(seed, "place"))
        fit(bend, tune, self.training(), seed=derive(seed, "bend"), gradient=rule)
        middle = bend.body.state_dict()
        t = (
            self.t
            if self.t is not None
            else self._choose(model, (start, middle, end), tune, held_out, allowed)
        )
        place(model, (start, middle, end), t, tune)
        return {"t": t}

    def _choose(
        self,
        model: Classifier,
        curve: tuple[State, State, State],
        tune: Dataset,
        held_out: Dataset,
        allowed: float,
    ) -> float:
        tried = []
        for step in Track(range(self.points), "looking along the curve", self.points):
            t = step / (self.points - 1)
            place(model, curve, t, tune)
            right, loss = judge(model, held_out)
            from_middle = abs(2 * step - (self.points - 1))
            tried.append((max(0.0, allowed - right), from_middle, loss, t))
        return min(tried)[-1]


def curve_rule(start: nn.Module, end: nn.Module, rng: torch.Generator) -> GradientRule:
    """The gradient for the bend at a random t: 2 t (1 - t) times the one for phi(t)."""
    ends = list(zip(start.parameters(), end.parameters(), strict=True))

    def rule(body: nn.Module, batch: Batch) -> Tensor:
        t = float(torch.rand(1, generator=rng))
        weights = list(body.parameters())
        bend = [weight.detach().clone() for weight in weights]
        with torch.no_grad():
            for weight, (first, last) in zip(weights, ends, strict=True):
                weight.copy_(bezier(first, weight, last, t))
        loss = batch.loss(body)
        loss.backward()
        with torch.no_grad():
            for weight, kept in zip(weights, bend, strict=True):
                weight.copy_(kept)
                if weight.grad is not None:
                    weight.grad.mul_(2 * t * (1 - t))
        return loss

    return rule


def bezier(first: Tensor, bend: Tensor, last: Tensor, t: float) -> Tensor:
    """The point phi(t) = (1 - t)^2 first + 2 t (1 - t) bend + t^2 last."""
    return (1 - t) ** 2 * first + 2 * t * (1 - t) * bend + t**2 * last


def place(model: Classifier, curve: tuple[State, State, State], t: float, tune: Dataset) -> None:
    """Gives the model the weights at t; what is between the ends gets batch-norm statistics of its own."""
    start, bend, end = curve
    if t in {0, 1}:
        model.body.load_state_dict(end if t else start)
        return
    with torch.no_grad():
        for name, weight in model.body.named_parameters():
            weight.copy_(bezier(start[name], bend[name], end[name], t))
    renew_statistics(model, tune)
