"""Ways to take a backdoor out of a trained model, one paper a file."""

from .base import Removal, Repair
from .bnp import BNP
from .clp import CLP
from .ep import EP
from .fine_pruning import FinePruning
from .fst import FST, FETuning, FTInit, LinearProbe
from .ft import FT
from .ft_augmented import FTAugmented
from .ft_sam import FTSAM
from .gnft import GNFT
from .ibau import IBAU
from .nad import NAD
from .registry import REMOVALS
from .scratch import Scratch

__all__ = [
    "BNP",
    "CLP",
    "EP",
    "FST",
    "FT",
    "FTSAM",
    "GNFT",
    "IBAU",
    "NAD",
    "REMOVALS",
    "FETuning",
    "FTAugmented",
    "FTInit",
    "FinePruning",
    "LinearProbe",
    "Removal",
    "Repair",
    "Scratch",
]
