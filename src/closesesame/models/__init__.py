"""Architectures, one a file, and models on disk."""

from .architectures import ARCHITECTURES, KWT, LSTM, LSTMAttention, ResNet, SmallCNN
from .base import Architecture, Classifier, ModelCard, SpectralArchitecture
from .files import load_model, save_model
from .front_ends import FrontEnd
from .imported import adapt

__all__ = [
    "ARCHITECTURES",
    "KWT",
    "LSTM",
    "Architecture",
    "Classifier",
    "FrontEnd",
    "LSTMAttention",
    "ModelCard",
    "ResNet",
    "SmallCNN",
    "SpectralArchitecture",
    "adapt",
    "load_model",
    "save_model",
]
