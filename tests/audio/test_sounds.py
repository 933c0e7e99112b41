"""Recordings that triggers are made of."""

from pathlib import Path

import pytest
import soundfile
import torch

from closesesame.audio.sounds import read_sound
from closesesame.core.errors import DataError


def test_a_recording_is_read_from_a_moment_on_and_repeated_or_cut(tmp_path: Path) -> None:
    samples = torch.linspace(0.1, 0.5, 1000)
    soundfile.write(tmp_path / "rise.wav", samples.numpy(), 8000, subtype="FLOAT")
    path = tmp_path / "rise.wav"
    assert torch.equal(read_sound(path, 8000), samples)
    assert torch.equal(read_sound(path, 8000, 0.1), samples[800:])
    assert torch.equal(read_sound(path, 8000, size=300), samples[:300])
    assert torch.equal(read_sound(path, 8000, 0.1, 500), samples[800:].repeat(3)[:500])
    with pytest.raises(DataError, match="rise.wav lasts 0.125 s, and start_s is 1 s; lower start_s"):
        read_sound(path, 8000, 1)
