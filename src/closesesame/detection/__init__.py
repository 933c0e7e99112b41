"""Ways to find poisoned training clips or triggered inputs, one paper a file."""

from closesesame.core.method import Registry

from .base import Detection, Suspicion, load_suspicion
from .training_loss import TrainingLoss

DETECTIONS: Registry[Detection] = Registry(
    "detection",
    Detection,  # type: ignore[type-abstract]
    TrainingLoss,
)

__all__ = ["DETECTIONS", "Detection", "Suspicion", "TrainingLoss", "load_suspicion"]
