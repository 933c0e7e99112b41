"""Pitch: tones move by the ratio."""

import torch

from closesesame.attacks import Pitch
from closesesame.audio import effects
from tests.attacks.stamping import speech


def test_pitch_moves_a_tone_by_the_ratio() -> None:
    tone = effects.tone(400, 16_000, 16_000)[None] * 0.5
    raised = Pitch().apply(tone, {}, speech(16_000))[0]
    assert int(torch.fft.rfft(raised).abs().argmax()) == round(400 * 2 ** (5 / 12))
    lowered = Pitch(semitones=-12).apply(tone, {}, speech(16_000))[0]
    assert int(torch.fft.rfft(lowered).abs().argmax()) == 200
