"""Purifiers that need no clean clips, and the clips that show what they take out and what they leave."""

import torch
from torch import Tensor

from closesesame.audio.effects import tone
from closesesame.models import ModelCard
from closesesame.purification import Purification, Purifier

RATE = 16_000


def card(sample_rate: int | None, shape: tuple[int, ...]) -> ModelCard:
    return ModelCard("resnet", {}, ("a", "b"), shape, sample_rate)


def purifier(method: Purification, seconds: float = 1.0, rate: int = RATE) -> Purifier:
    return method.fit(None, 0, card=card(rate, (round(seconds * rate),)))


def word(seconds: float = 1.0, begin: float = 0.4, end: float = 0.7, hertz: float = 400) -> Tensor:
    """A clip (1, time) with a tone of amplitude 0.3 in its middle: what stands for speech."""
    length = round(seconds * RATE)
    at = torch.arange(length) / RATE
    return (0.3 * tone(hertz, length, RATE) * ((at >= begin) & (at < end)))[None]


def level_db(wav: Tensor, hertz: float, rate: int = RATE) -> float:
    """The level of a tone in a clip (time,), in dB of full scale."""
    at = torch.arange(len(wav), dtype=torch.float64) / rate
    turns = torch.exp(-2j * torch.pi * hertz * at)
    amplitude = 2 * (wav.double() * turns).mean().abs()
    return float(20 * amplitude.clamp(min=1e-9).log10())


def rms_db(wav: Tensor) -> float:
    return float(10 * wav.double().square().mean().clamp(min=1e-18).log10())
