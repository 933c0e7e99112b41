"""Ways to train a model without a backdoor on data that may be poisoned, one paper a file."""

from closesesame.core.method import Registry

from .abl import ABL
from .asd import ASD
from .base import RobustTraining, TrainedRobustly, Watch
from .dbd import DBD
from .dbr import DBR
from .dlp import DLP
from .dst import DST
from .pdb import PDB
from .plain import Plain
from .safe import Safe
from .screened import Screened
from .vibe import VIBE

ROBUST_TRAININGS: Registry[RobustTraining] = Registry(
    "robust_training",
    RobustTraining,  # type: ignore[type-abstract]
    Plain,
    Safe,
    Screened,
    DLP,
    ABL,
    VIBE,
    PDB,
    ASD,
    DBD,
    DBR,
    DST,
)

__all__ = [
    "ABL",
    "ASD",
    "DBD",
    "DBR",
    "DLP",
    "DST",
    "PDB",
    "ROBUST_TRAININGS",
    "VIBE",
    "Plain",
    "RobustTraining",
    "Safe",
    "Screened",
    "TrainedRobustly",
    "Watch",
]
