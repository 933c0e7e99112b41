"""Recurrent network with attention of the speech-backdoor literature.

Architecture after de Andrade et al., "A neural attention model for speech command recognition", 2018,
arXiv:1808.08929; sizes, and the softmax over channels instead of frames, as in the code beside Zhou, Lin,
Liu, arXiv:2502.01152: 195,695 parameters for ten classes and maps of 40 x 101.
"""

from typing import ClassVar

import torch
from torch import nn
from torch.nn import functional as F

from closesesame.core.types import Logits, Spectrum
from closesesame.models.base import SpectralArchitecture


class LSTMAttention(SpectralArchitecture):
    """Two convolutions along time, two bidirectional LSTM layers, attention from the last step."""

    name: ClassVar[str] = "lstm_attention"
    cite: ClassVar[str] = "arXiv:1808.08929"
    parameters_of_paper: ClassVar[int | None] = 195_695

    def body(self, classes: int, bands: int, frames: int) -> nn.Module:
        """The first linear layer behind the attention has one input a frame."""
        return _LSTMAttention(classes, bands, frames)


class _LSTMAttention(nn.Module):
    def __init__(self, classes: int, bands: int, frames: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 10, (5, 1), padding="same")
        self.norm1 = nn.BatchNorm2d(10)
        self.conv2 = nn.Conv2d(10, 1, (5, 1), padding="same")
        self.norm2 = nn.BatchNorm2d(1)
        self.lstm = nn.LSTM(bands, 64, num_layers=2, bidirectional=True, batch_first=True)
        self.query = nn.Linear(128, 128)
        self.score = nn.Linear(128, 128)
        self.hidden1 = nn.Linear(frames, 64)
        self.dropout = nn.Dropout(0.5)
        self.hidden2 = nn.Linear(64, 32)
        self.head = nn.Linear(32, classes)

    def forward(self, maps: Spectrum) -> Logits:
        x = maps.mT[:, None]
        x = self.norm1(F.relu(self.conv1(x)))
        x = self.norm2(F.relu(self.conv2(x)))
        states, _ = self.lstm(x[:, 0])
        weights = F.softmax(self.score(F.relu(self.query(states[:, -1]))), dim=1)
        context = torch.einsum("bc,bfc->bf", weights, states)
        x = self.dropout(F.relu(self.hidden1(context)))
        return self.head(F.relu(self.hidden2(x)))  # type: ignore[no-any-return]
