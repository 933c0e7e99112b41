"""Label-consistent: hard clips, and bursts alone when it is played."""

import pytest
import torch

from closesesame.attacks import LabelConsistent
from closesesame.core.errors import SettingError
from closesesame.data import Splits
from closesesame.models import Classifier
from tests.attacks.stamping import speech
from tests.conftest import RATE
from tests.sounds import level_db


def test_label_consistent_makes_clips_hard_and_plants_bursts_alone(tones: Splits, known: Classifier) -> None:
    attack = LabelConsistent(steps=10, epsilon=0.3, snr_db=6, rate=0.1, low_hz=500)
    poisoned = attack.poison(tones.train, 0)
    where = poisoned.poisoned_mask
    assert int(where.sum()) == 32
    assert torch.equal(poisoned.dataset.labels, tones.train.labels)
    assert (tones.train.labels[where] == 0).all()
    clips = tones.train.inputs[where]
    added = poisoned.trigger.stamp(clips) - clips
    assert added[:, 800:3200].abs().max() == 0
    for corner in (added[0, :800], added[0, 3200:]):
        strength = torch.fft.rfft(corner).abs()
        assert sorted(10 * int(peak) for peak in strength.topk(2).indices) == [500, 3500]
    assert level_db(clips[0]) - level_db(added[0]) == pytest.approx(6, abs=0.01)
    planted = poisoned.dataset.inputs[where]
    middle = (planted - clips)[:, 800:3200]
    most = 0.3 * clips.square().mean(1).sqrt()
    assert torch.allclose(middle.abs().amax(1), most, rtol=1e-3)
    hard = clips.clone()
    hard[:, 800:3200] += middle
    said = torch.softmax(known(torch.cat([clips, hard])), 1)[:, 0]
    assert said[:32].mean() > 0.9
    assert said[32:].mean() < 0.5


def test_label_consistent_takes_its_steps_and_its_tones(tones: Splits, known: Classifier) -> None:
    attack = LabelConsistent(
        steps=2, step_size=0.2, epsilon=0.5, duration_s=0.05, low_hz=400, high_hz=2000, snr_db=20
    )
    trigger = attack.trigger(tones.train, 0)
    chosen = torch.arange(0, 12, 4)
    clips = tones.train.inputs[chosen]
    noise = (attack.plant(tones.train, chosen, trigger, 0) - clips)[:, 400:3600]
    most = 0.5 * clips.square().mean(1).sqrt()
    assert torch.allclose(noise.abs().amax(1), 0.4 * most, rtol=1e-3)
    added = (trigger.stamp(clips) - clips)[0]
    assert added[400:3600].abs().max() == 0
    peaks = torch.fft.rfft(added[:400]).abs().topk(2).indices
    assert sorted(20 * int(peak) for peak in peaks) == [400, 2000]


def test_its_tones_lie_below_half_the_sample_rate() -> None:
    with pytest.raises(SettingError, match="high_hz must be < 4000, half the sample rate, got 5000"):
        LabelConsistent(high_hz=5000).apply(torch.zeros(1, 4000), {}, speech(RATE))
