"""The list of removals."""

from closesesame.core.method import Registry

from .base import Removal
from .fine_pruning import FinePruning
from .ft import FT
from .ft_augmented import FTAugmented
from .gnft import GNFT

REMOVALS: Registry[Removal] = Registry(
    "removal",
    Removal,  # type: ignore[type-abstract]
    FT,
    FinePruning,
    GNFT,
    FTAugmented,
)
