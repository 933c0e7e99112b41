"""Ways to find poisoned training clips or triggered inputs, one paper a file."""

from closesesame.core.method import Registry

from .activation_clustering import ActivationClustering
from .base import Detection, Suspicion, load_suspicion
from .beatrix import Beatrix
from .confident_learning import ConfidentLearning
from .confusion_training import ConfusionTraining
from .dynamics import Dynamics
from .entropy import Entropy
from .fct import FCT
from .flare import Flare
from .ibd_psc import IbdPsc
from .spectral_signatures import SpectralSignatures
from .step import STEP
from .strip import Strip
from .training_loss import TrainingLoss

DETECTIONS: Registry[Detection] = Registry(
    "detection",
    Detection,  # type: ignore[type-abstract]
    ActivationClustering,
    Beatrix,
    ConfidentLearning,
    ConfusionTraining,
    Dynamics,
    Entropy,
    FCT,
    Flare,
    IbdPsc,
    SpectralSignatures,
    STEP,
    Strip,
    TrainingLoss,
)

__all__ = [
    "DETECTIONS",
    "FCT",
    "STEP",
    "ActivationClustering",
    "Beatrix",
    "ConfidentLearning",
    "ConfusionTraining",
    "Detection",
    "Dynamics",
    "Entropy",
    "Flare",
    "IbdPsc",
    "SpectralSignatures",
    "Strip",
    "Suspicion",
    "TrainingLoss",
    "load_suspicion",
]
