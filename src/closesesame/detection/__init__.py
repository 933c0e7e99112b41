"""Ways to find poisoned training clips or triggered inputs, one paper a file."""

from closesesame.core.method import Registry

from .activation_clustering import ActivationClustering
from .base import Detection, Suspicion, load_suspicion
from .beatrix import Beatrix
from .confident_learning import ConfidentLearning
from .entropy import Entropy
from .flare import Flare
from .ibd_psc import IbdPsc
from .spectral_signatures import SpectralSignatures
from .strip import Strip
from .training_loss import TrainingLoss

DETECTIONS: Registry[Detection] = Registry(
    "detection",
    Detection,  # type: ignore[type-abstract]
    ActivationClustering,
    Beatrix,
    ConfidentLearning,
    Entropy,
    Flare,
    IbdPsc,
    SpectralSignatures,
    Strip,
    TrainingLoss,
)

__all__ = [
    "DETECTIONS",
    "ActivationClustering",
    "Beatrix",
    "ConfidentLearning",
    "Detection",
    "Entropy",
    "Flare",
    "IbdPsc",
    "SpectralSignatures",
    "Strip",
    "Suspicion",
    "TrainingLoss",
    "load_suspicion",
]
