"""Which clips a suspicion score flags: those above a threshold, and what the threshold rests on.

With clean clips the threshold is that of a conformal test (Bates, Candes, Lei, Romano, Sesia, "Testing for
Outliers with Conformal p-values", Annals of Statistics 51, 2023, arXiv:2104.08279): a clip's p-value is
(1 + clean clips that score as high) / (1 + clean clips), and it is flagged if that is at most the wanted rate
of false positives. The rate holds on average over draws of the clean clips, whatever the scores are like, if
the clean clips and the clean ones among the screened clips are of the same kind and are scored in the same
way. So both are scored together here: a method that compares the clips of a class with each other, or trains
on them, then treats them alike.
"""

import math
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float64
from torch import Tensor

from closesesame.core.errors import DataError, counted
from closesesame.core.types import Mask
from closesesame.data import Dataset
from closesesame.models import Classifier

from .base import Detection, Suspicion

ROUNDING = 1e-9
"""That decimal rates times whole numbers may be off by."""

Scores = Float64[Tensor, " n"]


@dataclass(frozen=True, kw_only=True)
class Flagging:
    """The rule that flags clips.

    Attributes:
        threshold: clips with a higher score are flagged; None flags none.
        why: a sentence that says what is flagged and what that rests on.
    """

    threshold: float | None
    why: str

    def flagged(self, scores: Scores) -> Mask:
        """Which examples are flagged."""
        nothing = torch.zeros(len(scores), dtype=torch.bool)
        return nothing if self.threshold is None else scores > self.threshold


NOTHING = Flagging(
    threshold=None,
    why="nothing is flagged: the method names no threshold; name clean recordings (--clean) to measure one, "
    "or the share of clips to flag (--flag)",
)


def least_clean(rate: float) -> int:
    """How many clean clips a rate of false positives needs."""
    return math.ceil(1 / rate - 1 - ROUNDING)


def refuse_few(clean: int, rate: float) -> None:
    """Refuses, before any work, a rate that so few clean clips cannot show.

    Raises:
        DataError: if they are fewer than 1 / rate - 1.
    """
    if clean < least_clean(rate):
        raise DataError(
            f"a threshold that {100 * rate:g} % of clean clips exceed needs {least_clean(rate):,} of them or "
            f"more, and there are {clean:,}; name more with --clean, or allow more with --fpr"
        )


def by_clean(clean: Scores, rate: float) -> Flagging:
    """Flags clips whose conformal p-value is at most `rate`.

    Args:
        clean: the scores of clean clips, found together with those of the others.
        rate: of false positives, above 0 and below 1.

    Raises:
        DataError: if the clean clips are fewer than 1 / rate - 1.
    """
    refuse_few(len(clean), rate)
    allowed = math.floor(rate * (len(clean) + 1) + ROUNDING)
    threshold = float(clean.sort(descending=True).values[allowed - 1])
    above = int((clean > threshold).sum())
    return Flagging(
        threshold=threshold,
        why=f"flagged are clips with a score above {threshold:.4g}, which {above:,} of "
        f"{counted(len(clean), 'clean clip')} exceed: of clean clips of the same kind, {100 * rate:g} % or "
        "fewer are flagged on average",
    )


def by_share(scores: Scores, share: float) -> Flagging:
    """Flags the share of examples with the highest scores, fewer if scores are equal.

    Args:
        scores: of all examples.
        share: above 0 and below 1.
    """
    count = min(math.floor(share * len(scores) + ROUNDING), len(scores) - 1)
    threshold = float(scores.sort(descending=True).values[count])
    return Flagging(
        threshold=threshold,
        why=f"flagged are the {100 * share:g} % of clips with the highest scores, as --flag asks, whether "
        "they are poisoned or not",
    )


def by_method(threshold: float | None) -> Flagging:
    """Flags what the detection flags by itself, see `Detection.flags_above`."""
    if threshold is None:
        return NOTHING
    return Flagging(
        threshold=threshold,
        why=f"flagged are clips with a score above {threshold:.4g}, the method's own threshold, which was "
        "not measured on these data",
    )


def score_beside(
    detection: Detection,
    model: Classifier,
    examples: Dataset,
    clean: Dataset | None,
    beside: Dataset | None,
    seed: int,
) -> tuple[Suspicion, Scores]:
    """Scores examples, and clean ones beside them as if they were of the same set.

    Args:
        detection: the method.
        model: as `Detection.score` takes it.
        examples: what to screen.
        clean: clean examples for the method, if it needs some.
        beside: other clean examples, with the same classes, for a threshold.
        seed: of everything drawn.

    Returns:
        The suspicion of the examples, and the scores of those beside them.

    Raises:
        DataError: as `Detection.score` does, or if the two sets do not fit together.
        ModelError: as `Detection.score` does.
    """
    both = examples if beside is None else examples.followed_by(beside)
    found, count = detection.score(model, both, clean, seed), len(examples)
    return replace(found, ids=examples.ids, scores=found.scores[:count]), found.scores[count:]
