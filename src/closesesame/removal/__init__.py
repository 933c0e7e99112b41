"""Ways to take a backdoor out of a trained model, one paper a file."""

from closesesame.core.method import Registry

from .anp import ANP
from .asa import ASA
from .asap import ASAP
from .base import Removal, Repair
from .bnp import BNP
from .bti_dbf import BTIDBF
from .choice import Choice, choose_removal
from .clp import CLP
from .dbrpu import DBRPU
from .deepsweep_ft import DeepSweepFT
from .ep import EP
from .fine_pruning import FinePruning
from .fip import FIP
from .fst import FST, FETuning, FTInit, LinearProbe
from .ft import FT
from .ft_augmented import FTAugmented
from .ft_sam import FTSAM
from .gangsweep import GangSweep
from .gnft import GNFT
from .ibau import IBAU
from .mcr import MCR
from .nad import NAD
from .ngf import NGF
from .npd import NPD
from .refine import Refine
from .restore import Restore
from .rnp import RNP
from .sau import SAU
from .scratch import Scratch
from .tsbd import TSBD

REMOVALS: Registry[Removal] = Registry(
    "removal",
    Removal,  # type: ignore[type-abstract]
    FTAugmented,
    Scratch,
    FT,
    LinearProbe,
    FETuning,
    FTInit,
    FST,
    FTSAM,
    GNFT,
    NAD,
    MCR,
    NGF,
    FIP,
    TSBD,
    FinePruning,
    CLP,
    BNP,
    EP,
    ANP,
    Restore,
    RNP,
    IBAU,
    NPD,
    SAU,
    BTIDBF,
    GangSweep,
    DBRPU,
    DeepSweepFT,
    ASA,
    ASAP,
    Refine,
)

__all__ = [
    "ANP",
    "ASA",
    "ASAP",
    "BNP",
    "BTIDBF",
    "CLP",
    "DBRPU",
    "EP",
    "FIP",
    "FST",
    "FT",
    "FTSAM",
    "GNFT",
    "IBAU",
    "MCR",
    "NAD",
    "NGF",
    "NPD",
    "REMOVALS",
    "RNP",
    "SAU",
    "TSBD",
    "Choice",
    "DeepSweepFT",
    "FETuning",
    "FTAugmented",
    "FTInit",
    "FinePruning",
    "GangSweep",
    "LinearProbe",
    "Refine",
    "Removal",
    "Repair",
    "Restore",
    "Scratch",
    "choose_removal",
]
