"""Honest figures: ACC, ASR, RA and its ceiling, DER, each with what it was measured on; and stealth."""

from .exam import Exam, Scores
from .metrics import Rate, der, wilson
from .stealth import Stealth, measure_stealth, stealth_of

__all__ = ["Exam", "Rate", "Scores", "Stealth", "der", "measure_stealth", "stealth_of", "wilson"]
