"""The spectral gate: each step by hand, and what it takes out and leaves."""

import math
from typing import Any

import pytest
import torch

from closesesame.audio.effects import tone
from closesesame.core.errors import ModelError
from closesesame.purification import NoiseGate
from closesesame.purification.noise_gate import (
    in_db,
    over_noise,
    quiet_frames,
    smoothed,
    triangle,
)

from .examples import RATE, card, level_db, purifier, rms_db, word

PAUSE, SPEECH = slice(800, 5600), slice(7000, 10_600)
"""Before the word, and within it."""


def hiss(level: float = 0.01) -> torch.Tensor:
    return level * torch.randn(1, RATE, generator=torch.Generator().manual_seed(0))


def test_levels_by_hand() -> None:
    magnitude = torch.tensor([[[1.0, 0.1, 1e-9], [0.5, 0.5, 10.0]]])
    half = 20 * math.log10(0.5)
    wanted = [[0, -20, -40], [half, half, 20]]
    assert in_db(magnitude)[0].tolist() == [pytest.approx(row, abs=1e-4) for row in wanted]


def test_the_quietest_frames_by_hand() -> None:
    # Energies 4, 1, 9, 0 and 16: silence does not count; a quarter of the others is one frame, 0.4 are two.
    magnitude = torch.tensor([[[2.0, 0.6, 0, 0, 4], [0, 0.8, 3, 0, 0]]])
    assert quiet_frames(magnitude, 0.25).tolist() == [[[0, 1, 0, 0, 0]]]
    assert quiet_frames(magnitude, 0.4).tolist() == [[[1, 1, 0, 0, 0]]]
    assert quiet_frames(magnitude, 0.5).tolist() == [[[1, 1, 0, 0, 0]]]
    assert quiet_frames(magnitude, 1.0).tolist() == [[[1, 1, 1, 0, 1]]]
    # Energies 2.88 and 4, though the sums of the magnitudes are 2.4 and 2.
    assert quiet_frames(torch.tensor([[[1.2, 2.0], [1.2, 0]]]), 0.0).tolist() == [[[1, 0]]]
    assert quiet_frames(torch.zeros(1, 2, 5), 0.5).tolist() == [[[0, 0, 0, 0, 0]]]


def test_mean_and_deviation_by_hand() -> None:
    level = torch.tensor([[[1.0, 3, 100], [4, 4, 100]]])
    mean, deviation = over_noise(level, torch.tensor([[[1.0, 1, 0]]]))
    assert (mean.flatten().tolist(), deviation.flatten().tolist()) == ([2, 4], [1, 0])


def test_triangles_and_smoothing_by_hand() -> None:
    assert triangle(4).tolist() == [0, 0.25, 0.5, 0.25, 0]
    assert triangle(5).tolist() == pytest.approx([0.5 / 6.5, 1.5 / 6.5, 2.5 / 6.5, 1.5 / 6.5, 0.5 / 6.5])
    assert triangle(0).tolist() == triangle(2).tolist() == [0, 1, 0]
    gates = torch.zeros(1, 3, 4)
    gates[0, 0, 1] = 1
    # Over bins 1/2, at the end of the map 2/3 of what is there, and 1/4; over frames the same.
    over_bins, over_frames = triangle(4), triangle(0)
    assert smoothed(gates, over_bins, over_frames)[0, :, 1].tolist() == pytest.approx([2 / 3, 0.25, 0])
    assert smoothed(gates, over_bins, over_frames)[0, 0].tolist() == pytest.approx([0, 2 / 3, 0, 0])
    assert smoothed(gates, over_frames, over_bins)[0, 0].tolist() == pytest.approx([1 / 3, 0.5, 0.25, 0])
    assert torch.allclose(smoothed(torch.ones(2, 3, 4), over_bins, over_bins), torch.ones(2, 3, 4))


def test_the_triangles_are_those_of_the_authors_at_16_khz() -> None:
    network: Any = purifier(NoiseGate()).network
    # 500 Hz are 32 bins of 1024 samples, 0.1 s are 6.25 frames 256 samples apart.
    assert network.fft == 1024
    assert torch.equal(network.over_bins, triangle(32))
    assert torch.equal(network.over_frames, triangle(6.25))
    other: Any = purifier(NoiseGate(window_s=0.032, smooth_hz=250, smooth_s=0.05)).network
    assert other.fft == 512
    assert torch.equal(other.over_bins, triangle(8))
    assert torch.equal(other.over_frames, triangle(6.25))


def test_it_takes_out_what_is_steady_and_leaves_a_tone_within_speech() -> None:
    voice = sum(word(hertz=120 * number) / number for number in range(1, 20))
    assert isinstance(voice, torch.Tensor)
    for trigger in (hiss(0.003), 0.01 * tone(5000, RATE, RATE)[None]):
        heard = voice + trigger
        cleaned = purifier(NoiseGate())(heard)
        assert rms_db(cleaned[0, PAUSE]) < rms_db(heard[0, PAUSE]) - 20
        assert level_db(cleaned[0, SPEECH], 1200) == pytest.approx(level_db(voice[0, SPEECH], 1200), abs=4)
    assert level_db(cleaned[0, SPEECH], 5000) < level_db(heard[0, SPEECH], 5000) - 20


def test_a_clip_filled_up_with_silence_has_noise_all_the_same() -> None:
    heard = word() + hiss()
    heard[0, :2400], heard[0, 13_000:] = 0, 0
    cleaned = purifier(NoiseGate())(heard)
    inside = slice(3500, 5600)
    assert rms_db(cleaned[0, inside]) < rms_db(heard[0, inside]) - 15
    assert float(purifier(NoiseGate())(torch.zeros(1, RATE)).abs().max()) == 0


def test_each_setting_counts() -> None:
    heard = word() + hiss()
    inside = (0, PAUSE)
    assert torch.allclose(purifier(NoiseGate(reduction=0))(heard), heard, atol=1e-5)
    half = purifier(NoiseGate(reduction=0.5, deviations=100))(hiss())  # every gate is shut, and half is left
    assert torch.allclose(half, hiss() / 2, atol=1e-5)
    kept = [rms_db(purifier(NoiseGate(deviations=d))(heard)[inside]) for d in (0.0, 1.5, 3.0)]
    assert kept[0] > kept[1] + 5 > kept[2] + 5
    long = word(begin=0.2, end=0.9) + hiss()
    few, whole = (purifier(NoiseGate(quietest=share))(long) for share in (0.1, 1.0))
    assert level_db(few[0, SPEECH], 400) > level_db(whole[0, SPEECH], 400) + 20


def test_pictures_are_refused() -> None:
    with pytest.raises(ModelError, match="noise_gate takes waveforms with a sample rate, got inputs"):
        NoiseGate().fit(None, 0, card=card(None, (3, 8, 8)))
