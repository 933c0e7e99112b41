"""Ways to train a model without a backdoor on data that may be poisoned, one paper a file."""

from closesesame.core.method import Registry

from .base import RobustTraining, TrainedRobustly, Watch
from .plain import Plain
from .safe import Safe
from .screened import Screened

ROBUST_TRAININGS: Registry[RobustTraining] = Registry(
    "robust_training",
    RobustTraining,  # type: ignore[type-abstract]
    Plain,
    Safe,
    Screened,
)

__all__ = ["ROBUST_TRAININGS", "Plain", "RobustTraining", "Safe", "Screened", "TrainedRobustly", "Watch"]
