"""Quantisation, by hand and by what it takes out."""

import pytest
import torch

from closesesame.audio.effects import tone
from closesesame.core.errors import ModelError
from closesesame.purification import Requantize
from closesesame.purification.requantize import rounded

from .examples import RATE, card, level_db, purifier, word


def test_three_bits_by_hand() -> None:
    # Three levels on each side of silence: steps of 0.2 for a peak of 0.6, of 0.1 for one of 0.3.
    wav = torch.tensor([[0.6, 0.29, 0.31, -0.45, 0.09], [0.3, -0.04, 0.06, -0.3, 0.26], [0, 0, 0, 0, 0]])
    wanted = [[0.6, 0.2, 0.4, -0.4, 0], [0.3, 0, 0.1, -0.3, 0.3], [0, 0, 0, 0, 0]]
    assert torch.allclose(rounded(wav, 3), torch.tensor(wanted), atol=1e-6)
    assert sorted(set(rounded(torch.linspace(-1, 1, 1001)[None], 2)[0].tolist())) == [-1, 0, 1]


def test_it_takes_out_what_is_quieter_than_half_a_step_and_leaves_a_tone_within_speech() -> None:
    speech = word()
    pause = slice(0, RATE // 4)
    for bits, gone in ((6, True), (8, False)):  # half a step is 36 or 48 dB below the peak
        quiet = 0.3 * 10 ** (-42 / 20) * tone(1000, RATE, RATE)
        cleaned = purifier(Requantize(bits=bits))(speech + quiet)[0]
        assert (level_db(cleaned[pause], 1000) < -100) == gone
        assert level_db(cleaned, 400) == pytest.approx(level_db(speech[0], 400), abs=0.3)


def test_the_rounding_has_the_slope_of_the_identity() -> None:
    wav = word().requires_grad_(True)
    weights = torch.randn(wav.shape, generator=torch.Generator().manual_seed(0))
    (slope,) = torch.autograd.grad((rounded(wav, 4) * weights).sum(), wav)
    assert torch.equal(slope, weights)


def test_pictures_are_refused() -> None:
    with pytest.raises(ModelError, match="requantize takes waveforms with a sample rate, got inputs"):
        Requantize().fit(None, 0, card=card(None, (3, 8, 8)))
