"""MM-BD: a backdoor lets one class win by a far larger margin than the others can.

Wang, Xiang, Miller, Kesidis, "MM-BD: Post-Training Detection of Backdoor Attacks with Arbitrary Backdoor
Pattern Types Using a Maximum Margin Statistic", IEEE S&P 2024, arXiv:2205.06900. Ours differs: the paper
climbs over pictures, whose pixels lie between 0 and 1. We climb over what the front end makes (log-mel
features), because the loudness of a waveform hardly moves them and the gradient there is lost in the
logarithm; the range from silence to full-scale noise is scaled to 0 to 1, so that step lengths mean the same.
Every class starts from the same points, and points are put back into their range after each step, where the
public code lets them leave it and clips what the model sees. That code makes its optimizer anew for each
step, so its momentum never acts; here it does. The gamma distribution starts at 0 (two parameters by
maximum likelihood); the public code fits where it starts too, which nine classes cannot tell.
"""

import math
from typing import Any, ClassVar

import torch
from jaxtyping import Float, Float64
from pydantic import Field
from torch import Tensor, nn

from closesesame.core.bounds import LearningRate, Steps
from closesesame.core.progress import Track
from closesesame.core.seeding import generator
from closesesame.data import Dataset
from closesesame.models import Classifier

from .base import Inspection, Verdict

NOISE_CLIPS = 8
"""Of full scale, to find the largest feature."""
SAME = 1e-9
"""Margins that differ less in their logarithms are called equal."""


class MaxMargin(Inspection):
    """Compare the largest margin that each class can win by, over all possible features."""

    name: ClassVar[str] = "max_margin"
    cite: ClassVar[str] = "arXiv:2205.06900"
    data_free: ClassVar[bool] = True
    least_classes: ClassVar[int] = 4
    quick: ClassVar[dict[str, Any]] = {"starts": 2, "steps": 3}

    starts: int = Field(30, ge=1, le=10_000, description="random points to climb from, for each class")
    steps: Steps = Field(300, description="of each ascent, at most")
    lr: LearningRate = Field(0.01, description="step length; the features lie between 0 and 1")
    momentum: float = Field(0.2, ge=0, lt=1, description="of the ascent")
    tolerance: float = Field(
        1e-5, ge=0, le=1, description="relative change of the summed margins at which an ascent ends early"
    )
    level: float = Field(0.05, gt=0, lt=1, description="p-value under which an alarm is raised")

    def judge(self, model: Classifier, clean: Dataset, seed: int) -> Verdict:
        """One ascent a class, all starts at once."""
        del clean
        low, high = _range(model, seed)
        shape = _features(model, torch.zeros(1, *model.card.input_shape)).shape[1:]
        start = torch.rand(self.starts, *shape, generator=generator(seed, "starts"))
        classes = model.card.classes
        largest = [
            float(self._climb(model.body, start.to(_device(model)), label, low, high).max())
            for label in Track(range(len(classes)), "climbing margins", len(classes))
        ]
        p = p_value(torch.tensor(largest, dtype=torch.float64))
        alarm = p < self.level
        return Verdict(
            backdoored=alarm,
            target=classes[largest.index(max(largest))] if alarm else None,
            statistics=dict(zip(classes, largest, strict=True)),
            compared="p-value of the largest of the maximum margins, under a gamma fitted to the others",
            threshold=self.level,
            p_value=p,
        )

    def _climb(self, body: nn.Module, start: Tensor, label: int, low: float, high: float) -> Tensor:
        """Margins (starts,) of one class at the end of the ascent."""
        points, speed, before = start.clone(), torch.zeros_like(start), math.inf
        for _ in range(self.steps):
            points.requires_grad_(True)
            total = margins(body(low + (high - low) * points), label).sum()
            (slope,) = torch.autograd.grad(total, points)
            reached = float(total.detach())
            if abs(reached - before) < self.tolerance * abs(before):
                break
            before = reached
            speed = self.momentum * speed + slope
            points = (points.detach() + self.lr * speed).clamp(0, 1)
        with torch.no_grad():
            return margins(body(low + (high - low) * points), label)


def margins(logits: Float[Tensor, "batch classes"], label: int) -> Float[Tensor, " batch"]:
    """The logit of a class minus the largest of the others."""
    others = torch.cat([logits[:, :label], logits[:, label + 1 :]], dim=1)
    return logits[:, label] - others.amax(1)


def p_value(largest: Float64[Tensor, " classes"]) -> float:
    """Chance that the largest of so many draws from the null distribution is as large as the one here.

    The null distribution is a gamma fitted to all but the largest. A class that never wins has no positive
    margin and says nothing of it; without three that do there is no null, and no evidence.
    """
    ordered = largest[largest > 0].sort().values
    if len(ordered) < 4:
        return 1.0
    shape, scale = fit_gamma(ordered[:-1])
    below = float(torch.special.gammainc(torch.tensor(shape).double(), ordered[-1] / scale))
    return 1 - below ** len(ordered)


def fit_gamma(values: Float64[Tensor, " n"]) -> tuple[float, float]:
    """Shape and scale of the gamma distribution of highest likelihood: log k - digamma(k) = s."""
    s = max(SAME, float(values.mean().log() - values.log().mean()))
    k = torch.tensor((3 - s + math.sqrt((s - 3) ** 2 + 24 * s)) / (12 * s), dtype=torch.float64)
    for _ in range(20):  # Newton, from an approximation that is off by 1.5 % at most
        error = k.log() - torch.digamma(k) - s
        k = k - error / (1 / k - torch.polygamma(1, k))
    return float(k), float(values.mean() / k)


def _device(model: nn.Module) -> torch.device:
    return next((tensor.device for tensor in model.state_dict().values()), torch.device("cpu"))


@torch.no_grad()
def _features(model: Classifier, inputs: Tensor) -> Tensor:
    features: Tensor = model.front_end(inputs.to(_device(model)))
    return features


def _range(model: Classifier, seed: int) -> tuple[float, float]:
    """The smallest and the largest feature of silence and of noise at full scale."""
    noise = 2 * torch.rand(NOISE_CLIPS, *model.card.input_shape, generator=generator(seed, "noise")) - 1
    both = _features(model, torch.cat([torch.zeros_like(noise[:1]), noise]))
    return float(both.min()), float(both.max())
