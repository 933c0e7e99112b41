"""Honest figures: ACC, ASR, RA and its ceiling, DER, each with what it was measured on."""

from .exam import Exam, Scores
from .metrics import Rate, der, wilson

__all__ = ["Exam", "Rate", "Scores", "der", "wilson"]
