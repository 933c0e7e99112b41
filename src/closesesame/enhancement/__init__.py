"""Networks that take noise out of speech, one paper a file, and their training."""

from closesesame.core.method import Registry

from .base import Enhancement, Enhancer, Mixture
from .complex_mtass import ComplexMTASS
from .dccrn import DCCRN
from .gtcrn import GTCRN
from .mask_gru import MaskGRU
from .training import EnhancerHistory, EnhancerTraining, improvement_db, train_enhancer

ENHANCEMENTS: Registry[Enhancement] = Registry(
    "enhancement",
    Enhancement,  # type: ignore[type-abstract]
    ComplexMTASS,
    DCCRN,
    GTCRN,
    MaskGRU,
)

__all__ = [
    "DCCRN",
    "ENHANCEMENTS",
    "GTCRN",
    "ComplexMTASS",
    "Enhancement",
    "Enhancer",
    "EnhancerHistory",
    "EnhancerTraining",
    "MaskGRU",
    "Mixture",
    "improvement_db",
    "train_enhancer",
]
