"""Training: the settings, the one loop, gradient rules, and what a model answers."""

from .loop import AfterEpoch, Batch, GradientRule, History, backpropagate, fit, train, untrained
from .predicting import accuracy, choose_precision, judge, on_features, predict
from .settings import Training

__all__ = [
    "AfterEpoch",
    "Batch",
    "GradientRule",
    "History",
    "Training",
    "accuracy",
    "backpropagate",
    "choose_precision",
    "fit",
    "judge",
    "on_features",
    "predict",
    "train",
    "untrained",
]
