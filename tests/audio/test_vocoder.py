"""The phase vocoder."""

import torch

from closesesame.audio import vocoder
from tests.sounds import RATE, noise


def test_a_spectrum_read_where_it_is_comes_back() -> None:
    wav = noise()
    spectrum = vocoder.analyse(wav, 512)
    frames = torch.arange(spectrum.shape[-1], dtype=torch.float64)[None]
    again = vocoder.synthesise(vocoder.read_at(spectrum, frames), 512, RATE)
    assert torch.allclose(again, wav, atol=1e-3)


def test_phases_fit_better_after_each_round() -> None:
    magnitude = vocoder.analyse(noise(1, 4000), 512).abs()
    phase = 6 * torch.rand(magnitude.shape, generator=torch.Generator().manual_seed(0))
    missed = []
    for rounds in (0, 1, 10):
        found = vocoder.analyse(vocoder.fitting(magnitude, phase, 512, 4000, rounds), 512).abs()
        missed.append(float((found - magnitude).norm() / magnitude.norm()))
    assert missed[1] < 0.9 * missed[0]
    assert missed[2] < 0.7 * missed[1]
