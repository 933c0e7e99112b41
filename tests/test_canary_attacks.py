"""Canary triggers as attacks: each stamps what its family of canaries does."""

import pytest
import torch

from benchmarks.measure.canary_attacks import Chopped, Filter, Glide, Noise, OfCanary, OtherVoice
from closesesame.attacks.base import Signal
from closesesame.canaries import draw_canaries
from closesesame.core.domain import SPEECH
from closesesame.models import SmallCNN
from closesesame.testing import check_attack

ALL = [Noise, Glide, Filter, OtherVoice, Chopped]


@pytest.mark.parametrize("attack", ALL)
def test_contract(attack: type[OfCanary]) -> None:
    check_attack(attack())


@pytest.mark.parametrize("attack", ALL)
def test_a_canary_of_the_same_draw_changes_clips_alike(attack: type[OfCanary]) -> None:
    card = SmallCNN().build(("a", "b"), (8_000,), 8_000, seed=0).card
    [canary] = [one for one in draw_canaries(card, 5) if one.family == attack.family]
    clips = torch.randn(2, 8_000, generator=torch.Generator().manual_seed(0)) / 10
    made = attack(drawn=5).apply(clips, {}, Signal(SPEECH, 8_000))
    assert torch.allclose(made.clamp(-1, 1), canary.stamp(clips))
    assert not torch.allclose(made, attack(drawn=6).apply(clips, {}, Signal(SPEECH, 8_000)))
