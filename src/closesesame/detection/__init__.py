"""Ways to find poisoned training clips or triggered inputs, one paper a file."""

from closesesame.core.method import Registry

from .base import Detection, Suspicion, load_suspicion
from .confusion_training import ConfusionTraining
from .dynamics import Dynamics
from .fct import FCT
from .spectral_signatures import SpectralSignatures
from .step import STEP
from .training_loss import TrainingLoss

DETECTIONS: Registry[Detection] = Registry(
    "detection",
    Detection,  # type: ignore[type-abstract]
    ConfusionTraining,
    Dynamics,
    FCT,
    SpectralSignatures,
    STEP,
    TrainingLoss,
)

__all__ = [
    "DETECTIONS",
    "FCT",
    "STEP",
    "ConfusionTraining",
    "Detection",
    "Dynamics",
    "SpectralSignatures",
    "Suspicion",
    "TrainingLoss",
    "load_suspicion",
]
