"""What only the judge of a detection holds: which examples are poisoned. It is never handed to a method."""

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float64
from torch import Tensor

from closesesame.core.errors import DataError, listed
from closesesame.core.types import Mask
from closesesame.detection import Suspicion

from .measures import AUROC, FPR_AT_OWN, TPR_AT_1, TPR_AT_5, TPR_AT_10, TPR_AT_OWN
from .metrics import Z_95, Rate


@dataclass(frozen=True)
class Area:
    """Area under the ROC curve: the chance that a poisoned example scores above a clean one.

    Attributes:
        value: between 0 and 1; a tie counts one half.
        poisoned: how many examples.
        clean: how many examples.
    """

    value: float
    poisoned: int
    clean: int

    @property
    def interval(self) -> tuple[float, float]:
        """The 95 % interval of Newcombe, Statistics in Medicine 25, 2006: Wilson's idea for an area.

        It holds the areas that lie within 1.96 standard deviations of what was seen, where the deviation is
        that of Hanley and McNeil, Radiology 143, 1982, at each area itself. So it is not empty at 0 and 1.
        """
        return self._end(0.0), self._end(1.0)

    def _end(self, outermost: float) -> float:
        """By halving: outside the interval the distance in deviations is above 1.96."""
        inside, outside = self.value, outermost
        for _ in range(60):
            middle = (inside + outside) / 2
            far = abs(self.value - middle) > Z_95 * self._deviation(middle)
            inside, outside = (inside, middle) if far else (middle, outside)
        return inside

    def _deviation(self, area: float) -> float:
        above = (self.poisoned - 1) * (area / (2 - area) - area**2)
        below = (self.clean - 1) * (2 * area**2 / (1 + area) - area**2)
        return math.sqrt(max(0.0, area * (1 - area) + above + below) / (self.poisoned * self.clean))


@dataclass(frozen=True)
class Screened:
    """The figures of one detection; None where it has no example or no threshold that it needs.

    Attributes:
        auroc: area under the ROC curve.
        tpr_at_1: poisoned examples found where at most 1 % of the clean ones are flagged.
        tpr_at_5: the same at 5 %.
        tpr_at_10: the same at 10 %.
        tpr_at_own: poisoned examples above the threshold of the method; None if it names none.
        fpr_at_own: clean examples above it.
    """

    auroc: Area | None
    tpr_at_1: Rate | None
    tpr_at_5: Rate | None
    tpr_at_10: Rate | None
    tpr_at_own: Rate | None
    fpr_at_own: Rate | None

    def as_json(self) -> dict[str, Any]:
        """Each measure by its key, with its examples and interval; None for what was not measured."""
        area: dict[str, Any] | None = None
        if self.auroc is not None:
            area = {
                "value": self.auroc.value,
                "poisoned": self.auroc.poisoned,
                "clean": self.auroc.clean,
                "interval": self.auroc.interval,
            }
        rates = {
            TPR_AT_1.key: self.tpr_at_1,
            TPR_AT_5.key: self.tpr_at_5,
            TPR_AT_10.key: self.tpr_at_10,
            TPR_AT_OWN.key: self.tpr_at_own,
            FPR_AT_OWN.key: self.fpr_at_own,
        }
        return {AUROC.key: area} | {
            key: None if rate is None else rate.as_json() for key, rate in rates.items()
        }


class Screening:
    """Which examples are poisoned, to score any number of detections."""

    def __init__(self, poisoned: Mapping[str, bool]) -> None:
        """Takes the truth.

        Args:
            poisoned: by id, whether an example is poisoned; cover clips are not.
        """
        self.poisoned = dict(poisoned)

    def score(self, suspicion: Suspicion) -> Screened:
        """Measures one detection.

        A rate of true positives is that of the lowest threshold at which no more than the given share of the
        clean examples is flagged: above it, not at it, so ties with it are not flagged.

        Raises:
            DataError: if the scores are not of these examples, one each.
        """
        self._refuse_others(suspicion.ids)
        mask = suspicion.scores.new_tensor([self.poisoned[name] for name in suspicion.ids]).bool()
        poisoned, clean = suspicion.scores[mask], suspicion.scores[~mask]
        both = len(poisoned) > 0 and len(clean) > 0
        at_1, at_5, at_10 = (found_at(poisoned, clean, percent) if both else None for percent in (1, 5, 10))
        return Screened(
            auroc=area(poisoned, clean) if both else None,
            tpr_at_1=at_1,
            tpr_at_5=at_5,
            tpr_at_10=at_10,
            tpr_at_own=flagged_in(mask, suspicion),
            fpr_at_own=flagged_in(~mask, suspicion),
        )

    def _refuse_others(self, ids: tuple[str, ...]) -> None:
        twice = [name for name, count in Counter(ids).items() if count > 1]
        if twice:
            raise DataError(
                f"{len(twice)} examples have several scores ({listed(twice)}); ids tell them apart"
            )
        unknown, lacking = sorted(set(ids) - set(self.poisoned)), sorted(set(self.poisoned) - set(ids))
        for names, what in ((unknown, "are scored and not known"), (lacking, "have no score")):
            if names:
                raise DataError(
                    f"{len(names)} examples {what} ({listed(names)}); the scores are of another set"
                )


def area(poisoned: Float64[Tensor, " p"], clean: Float64[Tensor, " c"]) -> Area:
    """By ranks, so a million examples are no matter: each poisoned score beats the clean ones below it."""
    ordered = clean.sort().values
    below = torch.searchsorted(ordered, poisoned)
    not_above = torch.searchsorted(ordered, poisoned, right=True)
    wins = int((below + not_above).sum())
    return Area(wins / (2 * len(poisoned) * len(clean)), len(poisoned), len(clean))


def found_at(poisoned: Float64[Tensor, " p"], clean: Float64[Tensor, " c"], percent: int) -> Rate:
    """Poisoned examples above the threshold that at most so many percent of the clean ones exceed."""
    allowed = len(clean) * percent // 100
    threshold = clean.sort(descending=True).values[allowed]
    return Rate(int((poisoned > threshold).sum()), len(poisoned))


def flagged_in(group: Mask, suspicion: Suspicion) -> Rate | None:
    """Examples of a group (n,) that the method flags; None without a threshold or without examples."""
    if suspicion.flagged is None or not group.any():
        return None
    return Rate(int((suspicion.flagged & group).sum()), int(group.sum()))
