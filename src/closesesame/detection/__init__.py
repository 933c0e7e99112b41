"""Ways to find poisoned training clips or triggered inputs, one paper a file."""

from closesesame.core.method import Registry

from .base import Detection, Suspicion, load_suspicion
from .spectral_signatures import SpectralSignatures
from .training_loss import TrainingLoss

DETECTIONS: Registry[Detection] = Registry(
    "detection",
    Detection,  # type: ignore[type-abstract]
    SpectralSignatures,
    TrainingLoss,
)

__all__ = ["DETECTIONS", "Detection", "SpectralSignatures", "Suspicion", "TrainingLoss", "load_suspicion"]
