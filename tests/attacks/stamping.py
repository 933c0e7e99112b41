"""Data sets of given clips, and clips stamped by an attack."""

import torch
from torch import Tensor

from closesesame.attacks import Attack, Signal
from closesesame.core.domain import SPEECH
from closesesame.data import Dataset
from tests.sounds import RATE


def speech(hz: int) -> Signal:
    """What an attack is told of clips at this sample rate."""
    return Signal(SPEECH, hz)


def dataset(clips: Tensor) -> Dataset:
    return Dataset.of(clips, torch.arange(len(clips)) % 2, sample_rate=RATE)


def stamped(attack: Attack, clips: Tensor, seed: int = 0) -> Tensor:
    return attack.trigger(dataset(clips), seed).stamp(clips)


def speech_like(n: int = 3) -> Dataset:
    """Noise with a loud moment, 1 s at 16 kHz."""
    rng = torch.Generator().manual_seed(0)
    wav = 0.003 * torch.randn(n, 16_000, generator=rng)
    for row in range(n):
        wav[row, 4000 + 1000 * row : 6000 + 1000 * row] *= 30
    return Dataset.of(wav, torch.arange(n) % 2, sample_rate=16_000)
