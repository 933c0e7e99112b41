"""Rates with intervals, and the defence effectiveness rating."""

import math
from dataclasses import dataclass
from typing import Any

Z_95 = 1.959963984540054


@dataclass(frozen=True)
class Rate:
    """A share of clips, such as ACC or ASR."""

    hits: int
    of: int

    @property
    def value(self) -> float:
        """Between 0 and 1; NaN of no clips."""
        return self.hits / self.of if self.of else math.nan

    @property
    def interval(self) -> tuple[float, float]:
        """Wilson's 95 % interval (Journal of the American Statistical Association 22, 1927)."""
        return wilson(self.value, self.of)

    def as_json(self) -> dict[str, Any]:
        """The rate with what it was measured on."""
        return {"value": self.value, "hits": self.hits, "of": self.of, "interval": self.interval}

    def __str__(self) -> str:
        low, high = self.interval
        return f"{100 * self.value:.1f} % [{100 * low:.1f}, {100 * high:.1f}]"


def wilson(share: float, of: int) -> tuple[float, float]:
    """Wilson's 95 % interval of a share seen in `of` trials; everything is possible of none."""
    if not of:
        return 0.0, 1.0
    spread = Z_95**2 / of
    centre = (share + spread / 2) / (1 + spread)
    half = Z_95 * math.sqrt(share * (1 - share) / of + spread / (4 * of)) / (1 + spread)
    # The two ends are 0 and 1 exactly; what is computed misses them by a rounding.
    return 0.0 if share == 0 else centre - half, 1.0 if share == 1 else centre + half


def der(acc_before: float, asr_before: float, acc_after: float, asr_after: float) -> float:
    """Defence effectiveness rating of Zhu et al., ICCV 2023, arXiv:2304.11823: 0.5 if nothing changed.

    All rates in 0 to 1: (max(0, fall of ASR) - max(0, fall of ACC) + 1) / 2.
    """
    return (max(0.0, asr_before - asr_after) - max(0.0, acc_before - acc_after) + 1) / 2
