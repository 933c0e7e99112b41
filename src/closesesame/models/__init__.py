"""Architectures, one a file, and models on disk."""

from .architectures import ARCHITECTURES, KWT, LSTM, LSTMAttention, ResNet, SmallCNN
from .base import Architecture, Card, Classifier, adapt
from .files import load_model, save_model

__all__ = [
    "ARCHITECTURES",
    "KWT",
    "LSTM",
    "Architecture",
    "Card",
    "Classifier",
    "LSTMAttention",
    "ResNet",
    "SmallCNN",
    "adapt",
    "load_model",
    "save_model",
]
