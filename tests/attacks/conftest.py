"""What tests of attacks share."""

import copy
from pathlib import Path

import numpy as np
import pytest
import soundfile

from closesesame.attacks.common.surrogate import SurrogateAttack
from closesesame.models import Classifier


@pytest.fixture
def known(monkeypatch: pytest.MonkeyPatch, clean_model: Classifier) -> Classifier:
    """Gives every attack the clean model of the tests as its surrogate."""
    frozen = copy.deepcopy(clean_model).requires_grad_(requires_grad=False)
    monkeypatch.setattr(SurrogateAttack, "train_surrogate", lambda *_: frozen)
    return frozen


@pytest.fixture
def two_tones(tmp_path: Path) -> str:
    """A recording at 8 kHz: half a second of 440 Hz, then half a second of 880 Hz."""
    time = np.arange(4000) / 8000
    wave = np.concatenate([np.sin(2 * np.pi * hz * time) for hz in (440, 880)])
    soundfile.write(tmp_path / "two.wav", 0.5 * wave, 8000)
    return str(tmp_path / "two.wav")
