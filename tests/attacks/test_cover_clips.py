"""Cover clips of attacks that have any."""

import pytest
import torch

from closesesame.attacks import Attack, Quantize, Room, Warp
from closesesame.data import Splits


@pytest.mark.parametrize(
    ("attack", "ratio"),
    [(Room(rate=0.1, cover_ratio=1), 1), (Warp(rate=0.1), 2), (Quantize(rate=0.1, levels=9), 1)],
)
def test_cover_clips_are_changed_in_another_way_and_keep_their_label(
    attack: Attack, ratio: float, tones: Splits
) -> None:
    train = tones.train
    poisoned = attack.poison(train, 0)
    covers = poisoned.cover_mask
    assert int(covers.sum()) == ratio * int(poisoned.poisoned_mask.sum())
    assert torch.equal(poisoned.dataset.labels[covers], train.labels[covers])
    covered, clean = poisoned.dataset.inputs[covers], train.inputs[covers]
    with_trigger = poisoned.trigger.stamp(clean)
    size = (with_trigger - clean).norm()
    assert (covered - clean).norm() > 0.3 * size
    assert (covered - with_trigger).norm() > 0.3 * size
