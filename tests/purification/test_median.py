"""The median filter, by hand and by what it takes out."""

import pytest
import torch

from closesesame.audio.effects import tone
from closesesame.core.errors import ModelError, SettingError
from closesesame.purification import Median
from closesesame.purification.common.waveforms import median

from .examples import RATE, card, purifier


def test_three_and_five_taps_by_hand() -> None:
    wav = torch.tensor([[3.0, 1, 4, 1, 5, 9, 2], [0, 0, 8, 0, 0, 0, 6]])
    assert median(wav, 3).tolist() == [[3, 3, 1, 4, 5, 5, 2], [0, 0, 0, 0, 0, 0, 6]]
    assert median(wav, 5).tolist() == [[3, 3, 3, 4, 4, 2, 2], [0, 0, 0, 0, 0, 0, 6]]


def test_it_takes_out_clicks_shorter_than_half_its_window_and_leaves_a_tone() -> None:
    speech = 0.3 * tone(200, RATE, RATE)[None]
    clicks = speech.clone()
    clicks[0, 1000::1000], clicks[0, 1001::1000] = 0.9, -0.9
    single = speech.clone()
    single[0, 1000::1000] = 0.9
    for method, heard in ((Median(), single), (Median(taps=5), clicks), (Median(taps=5), speech)):
        assert (purifier(method)(heard) - speech).abs().max() < 0.04
    wide = speech.clone()
    for offset in range(3):
        wide[0, 1000 + offset :: 1000] = 0.9
    assert (purifier(Median(taps=5))(wide) - speech).abs().max() > 0.5
    assert (purifier(Median(taps=7))(wide) - speech).abs().max() < 0.08


def test_a_window_has_a_middle_and_lies_over_time() -> None:
    with pytest.raises(SettingError, match="taps must be odd, got 4"):
        Median(taps=4)
    with pytest.raises(ModelError, match="median takes waveforms with a sample rate, got inputs"):
        Median().fit(None, 0, card=card(None, (3, 8, 8)))
