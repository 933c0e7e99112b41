"""Networks that take noise out of speech, one paper a file, and their training."""

from .base import Enhancement, Enhancer, Mixture
from .complex_mtass import ComplexMTASS
from .dccrn import DCCRN
from .gtcrn import GTCRN
from .training import EnhancerHistory, EnhancerTraining, improvement_db, train_enhancer

__all__ = [
    "DCCRN",
    "GTCRN",
    "ComplexMTASS",
    "Enhancement",
    "Enhancer",
    "EnhancerHistory",
    "EnhancerTraining",
    "Mixture",
    "improvement_db",
    "train_enhancer",
]
