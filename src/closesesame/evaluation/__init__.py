"""Judges of models, of suspicion scores and of verdicts: each figure with what it was measured on."""

from .canaries import CanaryReport, examine
from .exam import Exam, Scores
from .metrics import Rate, der, wilson
from .neurons import Neurons, neurons_of
from .screening import Area, Screened, Screening
from .stealth import Stealth, measure_stealth, stealth_of
from .trial import Judged, Trial

__all__ = [
    "Area",
    "CanaryReport",
    "Exam",
    "Judged",
    "Neurons",
    "Rate",
    "Scores",
    "Screened",
    "Screening",
    "Stealth",
    "Trial",
    "der",
    "examine",
    "measure_stealth",
    "neurons_of",
    "stealth_of",
    "wilson",
]
