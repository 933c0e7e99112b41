"""The list of removals."""

from closesesame.core.method import Registry

from .base import Removal
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
from .scratch import Scratch

REMOVALS: Registry[Removal] = Registry(
    "removal",
    Removal,  # type: ignore[type-abstract]
    FT,
    FinePruning,
    GNFT,
    FTAugmented,
    IBAU,
    Scratch,
    FTSAM,
    CLP,
    BNP,
    EP,
    LinearProbe,
    FETuning,
    FTInit,
    FST,
    NAD,
)
