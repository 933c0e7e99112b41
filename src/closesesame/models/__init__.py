"""Architectures, one a file, and models on disk."""

from .base import Architecture, Card, Classifier, adapt
from .files import load_model, save_model
from .kwt import KWT
from .lstm import LSTM
from .lstm_attention import LSTMAttention
from .registry import ARCHITECTURES
from .resnet import ResNet
from .small_cnn import SmallCNN

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
