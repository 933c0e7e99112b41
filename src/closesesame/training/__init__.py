"""Training: the settings, the one loop, gradient rules, and what a model answers."""

from .loop import GradientRule, History, Loss, backpropagate, fit, train, train_with_history
from .predicting import accuracy, choose_precision, predict
from .settings import Training

__all__ = [
    "GradientRule",
    "History",
    "Loss",
    "Training",
    "accuracy",
    "backpropagate",
    "choose_precision",
    "fit",
    "predict",
    "train",
    "train_with_history",
]
