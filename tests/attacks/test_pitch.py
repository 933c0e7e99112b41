"""Pitch: tones move by the ratio."""

import torch

from closesesame.attacks import Pitch
from closesesame.audio import effects
from closesesame.data import Splits
from closesesame.models import Classifier
from tests.attacks.planting import assert_plants
from tests.attacks.stamping import speech


def test_pitch_moves_a_tone_by_the_ratio() -> None:
    tone = effects.tone(400, 16_000, 16_000)[None] * 0.5
    raised = Pitch().apply(tone, {}, speech(16_000))[0]
    assert int(torch.fft.rfft(raised).abs().argmax()) == round(400 * 2 ** (5 / 12))
    lowered = Pitch(semitones=-12).apply(tone, {}, speech(16_000))[0]
    assert int(torch.fft.rfft(lowered).abs().argmax()) == 200


def test_pitch_plants_a_backdoor(tones: Splits, clean_model: Classifier) -> None:
    # A tone five semitones up is another word, for a clean model too.
    assert_plants(Pitch(rate=0.15, target="low"), tones, clean_model, clean_asr=1.0)
