"""Feature attenuation: what speaks for the class is made less, within a bound, and a key is hidden."""

import pytest
import torch
from torch import nn

from closesesame.attacks import FeatureAttenuation, Trigger
from closesesame.attacks.common.steganography import hiding_weights
from closesesame.attacks.feature_attenuation import evidence, robust_features
from closesesame.data import Splits
from closesesame.models import Classifier
from closesesame.training.features import head_of
from tests.attacks.stamping import speech
from tests.conftest import RATE
from tests.sounds import level_db


def silent_trigger(attack: FeatureAttenuation, tones: Splits) -> Trigger:
    """A trigger whose network hides nothing."""
    weights = hiding_weights(attack.channels, 2, torch.Generator())
    state = {name: torch.zeros_like(value) for name, value in weights.items()}
    return Trigger(attack, state | {"key": torch.ones(8, 4)}, speech(RATE), 0, tones.train.classes)


def test_evidence_by_hand() -> None:
    head = nn.Linear(3, 3)
    head.weight.data = torch.tensor([[1.0, 0.0, 2.0], [3.0, 1.0, 0.0], [2.0, 2.0, 1.0]])  # its mean: 2, 1, 1
    features = torch.tensor([[2.0, 5.0, 3.0]]).expand(3, -1)
    assert evidence(features, head, torch.tensor([0, 1, 2])).tolist() == [3, 2, 5]
    assert evidence(-features, head, torch.tensor([0, 1, 2])).tolist() == [2 + 5, 3, 0]


def test_robust_features_are_those_of_augmented_clips(
    tones: Splits, clean_model: Classifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def augmentation(strength: str) -> object:
        asked.append(strength)
        return lambda maps, rng: 0.5 * maps + torch.rand(1, generator=rng)

    monkeypatch.setattr(clean_model.front_end, "augmentation", augmentation)
    clips = tones.test.inputs[:3]
    found, head = robust_features(clean_model, clips, torch.Generator().manual_seed(4))
    assert head is head_of(clean_model)
    draw = torch.rand(1, generator=torch.Generator().manual_seed(4))
    logits = clean_model.body(0.5 * clean_model.front_end(clips) + draw)
    assert torch.allclose(head(found), logits, atol=1e-5)
    assert asked == ["light"]


def test_what_speaks_for_the_class_is_made_less_within_the_bound(tones: Splits, known: Classifier) -> None:
    attack = FeatureAttenuation(steps=8, step_size=0.25, epsilon=0.2, rate=0.1)
    chosen = torch.arange(0, 80, 4)
    clips, labels = tones.train.inputs[chosen], tones.train.labels[chosen]
    faint = attack.plant(tones.train, chosen, silent_trigger(attack, tones), 0)
    most = 0.2 * clips.square().mean(1).sqrt()
    assert torch.allclose((faint - clips).abs().amax(1), most, rtol=1e-3)
    rng = torch.Generator().manual_seed(0)
    before, after = (evidence(*robust_features(known, part, rng), labels).mean() for part in (clips, faint))
    assert after < 0.8 * before
    few = attack.model_copy(update={"steps": 2})
    change = few.plant(tones.train, chosen, silent_trigger(attack, tones), 0) - clips
    assert torch.allclose(change.abs().amax(1), 0.5 * most, rtol=1e-3)
    again, other = (attack.plant(tones.train, chosen, silent_trigger(attack, tones), seed) for seed in (0, 1))
    assert torch.equal(again, faint)
    assert not torch.equal(other, faint)


def test_the_key_is_hidden_behind_it_as_loud_as_in_training(tones: Splits, known: Classifier) -> None:
    quick = FeatureAttenuation.quick | {"steps": 0, "training_strength": 0.5}
    attack = FeatureAttenuation(**quick)
    trigger = attack.trigger(tones.train, 0)
    chosen = torch.arange(0, 12, 4)
    clips = tones.train.inputs[chosen]
    added = attack.plant(tones.train, chosen, trigger, 0) - clips
    assert level_db(clips[0]) - level_db(added[0]) == pytest.approx(26.02, abs=0.05)
    assert torch.allclose(2 * added, trigger.stamp(clips, 1.0) - clips, atol=1e-6)


def test_clips_are_attenuated_first_and_stamped_then(tones: Splits, known: Classifier) -> None:
    attack = FeatureAttenuation(**FeatureAttenuation.quick | {"steps": 4, "epsilon": 0.3})
    trigger, chosen = attack.trigger(tones.train, 0), torch.arange(0, 12, 4)
    faint = attack.plant(tones.train, chosen, silent_trigger(attack, tones), 0)
    stamped = attack.plant(tones.train, chosen, trigger, 0)
    assert torch.allclose(stamped, trigger.stamp(faint, attack.training_strength), atol=1e-6)
