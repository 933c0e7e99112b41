"""Networks that take noise out of speech, one paper a file."""

from .base import Enhancement, Enhancer, Mixture
from .complex_mtass import ComplexMTASS
from .dccrn import DCCRN
from .gtcrn import GTCRN

__all__ = ["DCCRN", "GTCRN", "ComplexMTASS", "Enhancement", "Enhancer", "Mixture"]
