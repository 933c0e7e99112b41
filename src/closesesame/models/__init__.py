"""Architectures, one a file, and models on disk."""

from .architectures import ARCHITECTURES, KWT, LSTM, LSTMAttention, ResNet, SmallCNN
from .base import Architecture, Classifier, ModelCard, SpectralArchitecture
from .black_boxes import BlackBox, adapt_file
from .checkpoints import Checkpoint, fit_weights, read_checkpoint, weights_like
from .files import load_model, save_model
from .front_ends import FrontEnd
from .imported import adapt

__all__ = [
    "ARCHITECTURES",
    "KWT",
    "LSTM",
    "Architecture",
    "BlackBox",
    "Checkpoint",
    "Classifier",
    "FrontEnd",
    "LSTMAttention",
    "ModelCard",
    "ResNet",
    "SmallCNN",
    "SpectralArchitecture",
    "adapt",
    "adapt_file",
    "fit_weights",
    "load_model",
    "read_checkpoint",
    "save_model",
    "weights_like",
]
