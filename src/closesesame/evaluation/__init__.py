"""Honest figures: ACC, ASR, RA, DER, each with what it was measured on; and stealth."""

from .exam import Exam, Scores
from .metrics import Rate, der, wilson
from .neurons import Neurons, neurons_of
from .stealth import STEALTH, Stealth, measure_stealth, stealth_of

__all__ = [
    "STEALTH",
    "Exam",
    "Neurons",
    "Rate",
    "Scores",
    "Stealth",
    "der",
    "measure_stealth",
    "neurons_of",
    "stealth_of",
    "wilson",
]
