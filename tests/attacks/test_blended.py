"""Blended: the mean of clip and pattern, by hand."""

import pytest
import torch

from closesesame.attacks import Blended
from closesesame.data import Splits
from closesesame.models import Classifier
from tests.attacks.planting import assert_plants
from tests.attacks.stamping import speech, speech_like
from tests.sounds import level_db, loudest_hz


def test_blended_by_hand(tones: Splits) -> None:
    attack = Blended(alpha=0.25, level_dbfs=-20)
    state = attack.trigger(tones.train, 0).state
    assert level_db(state["pattern"]) == pytest.approx(-20, abs=1e-3)
    clips = tones.test.inputs[:2]
    assert torch.allclose(attack.apply(clips, state, speech(8000)), 0.75 * clips + 0.25 * state["pattern"])
    longer = attack.apply(torch.zeros(1, 6000), state, speech(8000))[0]
    assert torch.allclose(longer[4000:], 0.25 * state["pattern"][:2000])


def test_a_pattern_is_the_recording_or_noise_of_the_seed(two_tones: str) -> None:
    data = speech_like()
    pattern = Blended(pattern=two_tones, level_dbfs=-30).trigger(data, 0).state["pattern"]
    assert level_db(pattern) == pytest.approx(-30, abs=1e-3)
    assert (loudest_hz(pattern[2000:6000]), loudest_hz(pattern[10_000:14_000])) == (440, 880)
    first, again, other = (Blended().trigger(data, seed).state["pattern"] for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert float(torch.nn.functional.cosine_similarity(first, other, 0).abs()) < 0.05


def test_blended_plants_a_backdoor(tones: Splits, clean_model: Classifier) -> None:
    assert_plants(Blended(level_dbfs=-10, rate=0.15, target="low"), tones, clean_model)
