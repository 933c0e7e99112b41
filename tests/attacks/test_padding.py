"""PaddingBack: samples by hand."""

import pytest
import torch

from closesesame.attacks import Padding
from closesesame.data import Splits
from closesesame.models import Classifier
from tests.attacks.planting import assert_plants
from tests.attacks.stamping import speech


@pytest.mark.parametrize(
    ("mode", "position", "wanted"),
    [
        ("wrap", "end", [1, 2, 3, 4, 5, 6, 1, 2]),
        ("wrap", "start", [5, 6, 1, 2, 3, 4, 5, 6]),
        ("reflect", "end", [1, 2, 3, 4, 5, 6, 6, 5]),
        ("reflect", "start", [2, 1, 1, 2, 3, 4, 5, 6]),
        ("zero", "end", [1, 2, 3, 4, 5, 6, 0, 0]),
        ("zero", "start", [0, 0, 1, 2, 3, 4, 5, 6]),
    ],
)
def test_padding_by_hand(mode: str, position: str, wanted: list[int]) -> None:
    attack = Padding.parse({"mode": mode, "position": position, "duration_s": 0.2})
    clip = torch.arange(1.0, 9.0)[None] / 10
    assert torch.equal(attack.apply(clip, {}, speech(10)), torch.tensor([wanted]) / 10)


def test_padding_plants_a_backdoor(tones: Splits, clean_model: Classifier) -> None:
    assert_plants(Padding(mode="zero", position="end", rate=0.15, target="low"), tones, clean_model)
