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

The published p-value is too small: the largest margin is left out of the fit, and the fit of a few classes is
taken for the truth. Where all margins come from one gamma distribution, it raises an alarm at 0.05 in 25 % of
models of 10 classes, 50 % of those of 4, 12 % of those of 35. The setting `calibrated` compares with
simulated models instead: there 5 % raise an alarm, at any number of classes. Neither knows that a class may
be easier to win by itself than the others are.
"""

import math
from collections.abc import Callable
from typing import Any, ClassVar

import torch
from jaxtyping import Float, Float64
from pydantic import Field
from torch import Tensor

from closesesame.core import machine
from closesesame.core.bounds import LearningRate, Steps
from closesesame.core.progress import Track
from closesesame.core.seeding import generator, isolated
from closesesame.data import Dataset
from closesesame.models import Classifier
from closesesame.training import choose_precision
from closesesame.training.predicting import autocast

from .base import Inspection, Verdict

NOISE_CLIPS = 8
"""Of full scale, to find the largest feature."""
DRAWS = 9_999
"""Simulated models without a backdoor."""
FEWEST = 4
"""Classes that win: the largest margin, and three to fit two parameters to."""
ALIKE = 1e-6
"""Spread of margins, as log of their mean minus mean of their logs, under which they count as equal."""


class MaxMargin(Inspection):
    """Compare the largest margin that each class can win by, over all possible features."""

    name: ClassVar[str] = "max_margin"
    cite: ClassVar[str] = "arXiv:2205.06900"
    data_free: ClassVar[bool] = True
    needs_gradients: ClassVar[bool] = True
    quick: ClassVar[dict[str, Any]] = {"starts": 4, "steps": 20}
    least_classes: ClassVar[int] = FEWEST

    starts: int = Field(30, ge=1, le=10_000, description="random points to climb from, for each class")
    steps: Steps = Field(300, description="of each ascent, at most")
    lr: LearningRate = Field(0.01, description="step length; the features lie between 0 and 1")
    momentum: float = Field(0.2, ge=0, lt=1, description="of the ascent")
    tolerance: float = Field(
        1e-5, ge=0, le=1, description="relative change of the summed margins at which an ascent ends early"
    )
    level: float = Field(0.05, gt=0, lt=1, description="p-value under which an alarm is raised")
    calibrated: bool = Field(
        False,
        description="whether the p-value is the share of simulated models without a backdoor whose published "
        "p-value is as small, instead of the published one",
    )

    def judge(self, model: Classifier, clean: Dataset, seed: int) -> Verdict:
        """One ascent a class, all starts at once."""
        del clean
        low, high = _range(model, seed)
        shape = _features(model, torch.zeros(1, *model.card.input_shape)).shape[1:]
        precision = choose_precision("auto", model)
        machine.note(precision)

        def answer(points: Tensor) -> Tensor:
            with autocast(points.device, precision):
                logits: Tensor = model.body(low + (high - low) * points)
            return logits.float()

        start = torch.rand(self.starts, *shape, generator=generator(seed, "starts"))
        classes = model.card.classes
        largest = [
            float(self._climb(answer, start.to(model.device), label).max())
            for label in Track(range(len(classes)), "maximising margins", len(classes))
        ]
        p = p_value(torch.tensor(largest, dtype=torch.float64), draws=DRAWS * self.calibrated, seed=seed)
        alarm = p < self.level
        return Verdict(
            backdoored=alarm,
            target=classes[largest.index(max(largest))] if alarm else None,
            statistics=dict(zip(classes, largest, strict=True)),
            compared="p-value of the largest of the maximum margins, under a gamma fitted to the others",
            threshold=self.level,
            p_value=p,
        )

    def _climb(self, answer: Callable[[Tensor], Tensor], start: Tensor, label: int) -> Tensor:
        """Margins (starts,) of one class at the end of the ascent from points between 0 and 1."""
        points, speed, before = start.clone(), torch.zeros_like(start), math.inf
        for _ in range(self.steps):
            points.requires_grad_(True)
            total = margins(answer(points), label).sum()
            (slope,) = torch.autograd.grad(total, points)
            reached = float(total.detach())
            if abs(reached - before) < self.tolerance * abs(before):
                break
            before = reached
            speed = self.momentum * speed + slope
            points = (points.detach() + self.lr * speed).clamp(0, 1)
        with torch.no_grad():
            return margins(answer(points), label)


def margins(logits: Float[Tensor, "batch classes"], label: int) -> Float[Tensor, " batch"]:
    """The logit of a class minus the largest of the others."""
    others = torch.cat([logits[:, :label], logits[:, label + 1 :]], dim=1)
    return logits[:, label] - others.amax(1)


def p_value(largest: Float64[Tensor, " classes"], *, draws: int = 0, seed: int = 0) -> float:
    """Chance that the largest of so many draws from the null distribution is as large as the one here.

    A class that never wins has no positive margin and says nothing; where fewer than four win there is no
    null distribution and no evidence.

    Args:
        largest: the maximum margin of each class.
        draws: sets of margins without a backdoor to compare with; 0 takes the fitted gamma for the truth.
        seed: of the draws.
    """
    won = largest[largest > 0]
    if len(won) < FEWEST:
        return 1.0
    fitted = float(_of_largest(won[None]))
    if not draws:
        return fitted
    shape, scale = fit_gamma(won[None])
    with isolated(seed, "null"):
        null = torch.distributions.Gamma(shape[0], 1 / scale[0]).sample((draws, len(won)))
    return float(1 + (_of_largest(null) <= fitted).sum()) / (1 + draws)


def _of_largest(margins: Float64[Tensor, "n classes"]) -> Float64[Tensor, " n"]:
    """1 - F(largest)^K, with F the gamma distribution fitted to all but the largest."""
    ordered = margins.sort(1).values
    shape, scale = fit_gamma(ordered[:, :-1])
    above = torch.special.gammaincc(shape, ordered[:, -1] / scale)
    return -torch.expm1(margins.shape[1] * torch.log1p(-above))


def fit_gamma(values: Float64[Tensor, "n k"]) -> tuple[Float64[Tensor, " n"], Float64[Tensor, " n"]]:
    """Shape and scale of the gamma of highest likelihood, for each row: log(shape) - digamma(shape) = s."""
    mean = values.mean(1)
    s = (mean.log() - values.log().mean(1)).clamp(min=ALIKE)
    shape = (3 - s + ((s - 3) ** 2 + 24 * s).sqrt()) / (12 * s)
    for _ in range(5):  # Newton, from an approximation that is off by 1.5 % at most
        slope = 1 / shape - torch.polygamma(1, shape)
        shape = shape - (shape.log() - torch.digamma(shape) - s) / slope
    return shape, mean / shape


@torch.no_grad()
def _features(model: Classifier, inputs: Tensor) -> Tensor:
    features: Tensor = model.front_end(inputs.to(model.device))
    return features


def _range(model: Classifier, seed: int) -> tuple[float, float]:
    """The smallest and the largest feature of silence and of noise at full scale."""
    noise = 2 * torch.rand(NOISE_CLIPS, *model.card.input_shape, generator=generator(seed, "noise")) - 1
    both = _features(model, torch.cat([torch.zeros_like(noise[:1]), noise]))
    return float(both.min()), float(both.max())
