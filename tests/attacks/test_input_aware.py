"""Input-aware: gains, density and crossed triggers."""

import math

import pytest
import torch

from closesesame.attacks import InputAware
from closesesame.data import Splits
from closesesame.models import Classifier
from tests.attacks.generators import generator_of
from tests.attacks.stamping import speech
from tests.conftest import RATE


def test_input_aware_gains_by_hand() -> None:
    attack = InputAware(gain_db=6, channels=2)
    state = {
        "first": torch.zeros(2, 1, 3, 3),
        "second": torch.zeros(2, 2, 3, 3),
        "last": torch.zeros(2, 2, 3, 3),
        "offset": torch.tensor([0.5, 3.0]),
    }
    clips = 0.1 * torch.randn(2, 4001, generator=torch.Generator().manual_seed(0))
    # Where all scores are alike the mask stands at 1 / 2, and every bin has the same gain.
    stamped = attack.apply(clips, state, speech(RATE))
    assert torch.allclose(stamped, clips * 10 ** (3 * math.tanh(0.5) / 20), atol=1e-5)
    back = attack.apply(clips, state | {"offset": torch.zeros(2)}, speech(RATE))
    assert torch.allclose(back, clips, atol=1e-5)


@pytest.mark.parametrize("density", [0.05, 0.3])
def test_input_aware_changes_its_share_of_bins(density: float, tones: Splits, known: Classifier) -> None:
    attack = InputAware(steps=0, density=density)
    state = attack.prepare(tones.train, 0)
    seen = torch.randn(3, 129, 40, generator=torch.Generator().manual_seed(0))
    gains = attack._gains(seen, {**state, "offset": torch.tensor([100.0, 0.0])})  # the pattern is full on
    assert float((gains > 6).float().mean()) == pytest.approx(density, abs=0.01)
    assert gains.max() <= 12


def test_input_aware_covers_carry_the_trigger_of_another_clip(tones: Splits, known: Classifier) -> None:
    attack = InputAware(steps=10, batch_size=16, channels=4, rate=0.1, cover_ratio=0.5)
    poisoned = attack.poison(tones.train, 0)
    assert int(poisoned.cover_mask.sum()) == 16
    assert torch.equal(poisoned.dataset.labels[poisoned.cover_mask], tones.train.labels[poisoned.cover_mask])
    trigger, mine, others = poisoned.trigger, tones.train.inputs[:8], tones.train.inputs[9:17]
    rng = torch.Generator()
    crossed = attack.cover_clips(mine, others, trigger.state, speech(RATE), rng)
    own = attack.cover_clips(mine, mine, trigger.state, speech(RATE), rng)
    assert torch.allclose(own, trigger.stamp(mine), atol=1e-6)
    assert (crossed - trigger.stamp(mine)).abs().amax(1).min() > 1e-3


def test_input_aware_trains_on_crossed_triggers_and_for_other_gains(
    tones: Splits, monkeypatch: pytest.MonkeyPatch
) -> None:
    attack = InputAware(channels=4, diversity_weight=3)
    make, state = generator_of(attack, tones.train, monkeypatch)
    clips, rng = tones.train.inputs[:6], torch.Generator()
    kept, attacked, extra = make(clips, rng)
    assert len(kept) == 2
    assert torch.equal(kept[0], clips)
    assert torch.allclose(attacked, attack.apply(clips, state, speech(RATE)), atol=1e-6)
    crossed = attack.cover_clips(clips, clips.roll(1, 0), state, speech(RATE), rng)
    assert torch.allclose(kept[1], crossed, atol=1e-6)
    assert (kept[1] - attacked).abs().amax(1).min() > 1e-4
    light = InputAware(channels=4, diversity_weight=1)
    assert float(extra) == pytest.approx(
        3 * float(generator_of(light, tones.train, monkeypatch)[0](clips, rng)[2])
    )
    louder = InputAware(channels=4, diversity_weight=3, gain_db=60)
    # Gains that differ more, and clips that differ as before, cost less.
    assert float(generator_of(louder, tones.train, monkeypatch)[0](clips, rng)[2]) < 0.5 * float(extra)
    alike = make(clips[:1].repeat(6, 1), rng)[2]
    assert float(alike) == pytest.approx(0, abs=1e-6)
    weights = [generator_of(attack, tones.train, monkeypatch, seed)[1]["last"] for seed in (0, 0, 1)]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])
