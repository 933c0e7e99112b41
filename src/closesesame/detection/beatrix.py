"""Beatrix: channels that act together on a triggered input do not act together on clean clips of its class.

Ma, Wang, Sun, Xue, Wen, Xiang, "The 'Beatrix' Resurrections: Robust Backdoor Detection via Gram Matrices",
NDSS 2023, arXiv:2209.11715. F is a map (channel, place) of a layer; the Gram matrix of order p is the p-th
root of F^p (F^p)^T, element by element, with its sign. Of clean clips of each class the median and the median
absolute deviation (MAD) of every element are taken. A score is by how much the elements of an input, of all
orders, lie outside of median +- 10 MAD, relative to that bound, on the average.

Ours differs: the layer is the last but one stage of the network, found by running it; in the authors'
ResNet-18 it is the third group. If the model answers fewer than five clean clips with a class, inputs of that
class are compared with the clean clips of all classes. The paper also tests each class as a whole, which no
score of a clip needs.
"""

from typing import ClassVar, Literal

import torch
from jaxtyping import Float64
from pydantic import Field
from torch import Tensor

from closesesame.core.errors import ModelError
from closesesame.data import Dataset
from closesesame.models import Classifier
from closesesame.models.hooks import ByChannel
from closesesame.models.stages import Stage, stages_of

from .base import Detection
from .common.activations import activations

FEWEST = 5
"""Clean clips of a class that give it bounds of its own."""
LEAST = 1e-6

Bounds = tuple[Float64[Tensor, " element"], Float64[Tensor, " element"]]


class Beatrix(Detection):
    """Score how far the Gram matrices of an input lie outside those of clean clips of its class."""

    name: ClassVar[str] = "beatrix"
    cite: ClassVar[str] = "arXiv:2209.11715"
    of: ClassVar[Literal["training clips", "inputs"]] = "inputs"
    needs_clean: ClassVar[bool] = True
    requires: ClassVar[str] = "maps of several places"

    orders: int = Field(8, ge=1, le=32, description="highest order of the Gram matrices")
    band: float = Field(10.0, ge=0, le=1000, description="MADs from the median that are no deviation")

    def suspicion(self, model: Classifier, examples: Dataset, clean: Dataset, seed: int) -> Tensor:
        """The class of a clip, clean ones too, is the one that the model answers."""
        del seed
        stage = [self.stage(model)]
        known = [(logits.argmax(1), maps) for logits, (maps,) in activations(model, stage, clean)]
        answers, maps = torch.cat([one for one, _ in known]), torch.cat([one for _, one in known])
        counts, of_all = answers.bincount(minlength=len(clean.classes)), self.bounds(maps)
        bounds = [
            self.bounds(maps[answers == n]) if count >= FEWEST else of_all for n, count in enumerate(counts)
        ]
        scores = []
        for logits, (found,) in activations(model, stage, examples):
            deviations = torch.zeros(len(found), dtype=torch.float64)
            for label in logits.argmax(1).unique().tolist():
                rows = logits.argmax(1) == label
                deviations[rows] = self.deviation(found[rows], bounds[label])
            scores.append(deviations)
        return torch.cat(scores)

    def bounds(self, clean: ByChannel) -> list[Bounds]:
        """Lowest and highest value of each element that is no deviation, for each order."""
        found = []
        for order in range(1, self.orders + 1):
            elements = gram(clean, order)
            median = elements.median(0).values
            width = self.band * (elements - median).abs().median(0).values
            found.append((median - width, median + width))
        return found

    def deviation(self, maps: ByChannel, bounds: list[Bounds]) -> Float64[Tensor, " batch"]:
        """By how much the elements of each example pass their bounds, relative to these; the mean."""
        total = torch.zeros(len(maps), dtype=torch.float64)
        for order, (low, high) in enumerate(bounds, 1):
            elements = gram(maps, order)
            below = (low - elements).relu() / low.abs().clamp(min=LEAST)
            above = (elements - high).relu() / high.abs().clamp(min=LEAST)
            total += (below + above).mean(1)
        return total / len(bounds)

    def stage(self, model: Classifier) -> Stage:
        """The layer whose maps are compared."""
        with torch.no_grad():
            example = model.front_end(torch.zeros(2, *model.card.input_shape, device=model.device))
        stages = stages_of(model.body, example)
        if not stages:
            raise ModelError("beatrix compares maps over time; this model has no maps of several places")
        return stages[-2:][0]


def gram(maps: ByChannel, order: int) -> Float64[Tensor, "batch element"]:
    """The upper triangle of the Gram matrix of that order: roots of the absolute values, with their signs."""
    powers = maps.pow(order)
    one, other = torch.triu_indices(maps.shape[1], maps.shape[1])
    elements = (powers @ powers.mT)[:, one, other]
    return elements.sign() * elements.abs().pow(1 / order)
