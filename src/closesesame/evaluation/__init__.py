"""Judges of models, of suspicion scores and of verdicts: each figure with what it was measured on."""

from .adversaries import attack_again
from .attacker import Attacker
from .canaries import CanaryReport, examine
from .exam import Exam, Scores
from .metrics import Rate, der, wilson
from .neurons import Neurons, neurons_of
from .reactivation import Reactivate, Reactivated, reactivate
from .retuning import Retune, Retuned, retune
from .screening import Area, Screened, Screening
from .stealth import Stealth, measure_stealth, stealth_of
from .trial import Judged, Trial

__all__ = [
    "Area",
    "Attacker",
    "CanaryReport",
    "Exam",
    "Judged",
    "Neurons",
    "Rate",
    "Reactivate",
    "Reactivated",
    "Retune",
    "Retuned",
    "Scores",
    "Screened",
    "Screening",
    "Stealth",
    "Trial",
    "attack_again",
    "der",
    "examine",
    "measure_stealth",
    "neurons_of",
    "reactivate",
    "retune",
    "stealth_of",
    "wilson",
]
