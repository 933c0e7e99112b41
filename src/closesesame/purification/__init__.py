"""Ways to take triggers out of inputs in front of a model, one paper a file."""

from closesesame.core.method import Registry

from .autoencoder import Autoencoder
from .base import Purification, Purifier
from .deepsweep import DeepSweep
from .enhance import Enhance
from .lowpass import Lowpass
from .median import Median
from .noise_gate import NoiseGate
from .requantize import Requantize
from .resample import Resample
from .vad import VAD

PURIFICATIONS: Registry[Purification] = Registry(
    "purification",
    Purification,  # type: ignore[type-abstract]
    Lowpass,
    Median,
    Requantize,
    Resample,
    VAD,
    NoiseGate,
    DeepSweep,
    Autoencoder,
    Enhance,
)

__all__ = [
    "PURIFICATIONS",
    "VAD",
    "Autoencoder",
    "DeepSweep",
    "Enhance",
    "Lowpass",
    "Median",
    "NoiseGate",
    "Purification",
    "Purifier",
    "Requantize",
    "Resample",
]
