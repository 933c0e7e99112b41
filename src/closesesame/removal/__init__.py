"""Ways to take a backdoor out of a trained model, one paper a file."""

from .base import Removal, Repair
from .fine_pruning import FinePruning
from .ft import FT
from .ft_augmented import FTAugmented
from .gnft import GNFT
from .registry import REMOVALS

__all__ = ["FT", "GNFT", "REMOVALS", "FTAugmented", "FinePruning", "Removal", "Repair"]
