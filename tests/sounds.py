"""Sounds of known content, and what is measured on sounds."""

import math

import torch
from torch import Tensor

RATE = 16_000


def db(ratio: float | Tensor) -> float:
    return 20 * math.log10(float(ratio))


def rms(wav: Tensor) -> float:
    return float(wav.square().mean().sqrt())


def level_db(wav: torch.Tensor) -> float:
    return 20 * math.log10(float(wav.square().mean().sqrt()))


def sine(hz: float, seconds: float = 1.0) -> Tensor:
    return 0.1 * torch.sin(2 * math.pi * hz * torch.arange(round(seconds * RATE)) / RATE)


def noise(n: int = 2, length: int = RATE) -> Tensor:
    return 0.1 * torch.randn(n, length, generator=torch.Generator().manual_seed(0))


def spoken(pitch_hz: float, formant_hz: float) -> Tensor:
    """Harmonics under one resonance, 1 s."""
    harmonics = torch.arange(1, int(7000 / pitch_hz))[:, None]
    level = torch.exp(-(((harmonics * pitch_hz - formant_hz) / 400) ** 2)) + 0.01
    time = torch.arange(RATE) / RATE
    return 0.05 * (level * torch.cos(2 * math.pi * pitch_hz * harmonics * time + harmonics**2)).sum(0)


def peak_hz(wav: Tensor) -> float:
    window = torch.hann_window(len(wav))
    return float(torch.fft.rfft(wav * window, 1 << 17).abs().argmax()) * RATE / (1 << 17)


def centre_hz(wav: Tensor) -> float:
    power = torch.fft.rfft(wav).abs().square()
    return float((power * torch.arange(len(power))).sum() / power.sum())


def loudest_hz(wav: torch.Tensor) -> int:
    """Of a quarter of a second, in steps of 4 Hz."""
    return 4 * int(torch.fft.rfft(wav).abs().argmax())
