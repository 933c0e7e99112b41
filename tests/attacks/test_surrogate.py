"""What attacks with a surrogate share: its training, joint training, noise and strength."""

import copy
import gc
import weakref
from collections.abc import Callable
from typing import Any
from weakref import WeakKeyDictionary

import pytest
import torch

from closesesame.attacks import ATTACKS, DriNet, FlowMur, LabelConsistent, Trigger, TrojanNN
from closesesame.attacks.common import surrogate
from closesesame.attacks.common.surrogate import Made, SurrogateAttack
from closesesame.core.errors import SettingError
from closesesame.data import Dataset, Splits
from closesesame.models import Classifier
from tests.attacks.stamping import speech
from tests.conftest import RATE, make_tones


def test_a_surrogate_has_the_architecture_the_epochs_and_the_seed_of_the_attack(
    monkeypatch: pytest.MonkeyPatch, clean_model: Classifier, tones: Splits
) -> None:
    asked: list[tuple[str, int, int]] = []

    def note(architecture: Any, data: Dataset, training: Any, *, seed: int) -> Classifier:
        assert data is tones.train
        asked.append((architecture.name, training.epochs, seed))
        return copy.deepcopy(clean_model)

    monkeypatch.setattr(surrogate, "train", note)
    monkeypatch.setattr(surrogate, "_SURROGATES", WeakKeyDictionary())
    first = TrojanNN(surrogate="small_cnn", surrogate_epochs=3)
    models = [first.train_surrogate(tones.train, seed) for seed in (0, 0, 1)]
    FlowMur(surrogate_epochs=4).train_surrogate(tones.train, 0)
    assert [row[:2] for row in asked] == [("small_cnn", 3), ("small_cnn", 3), ("resnet", 4)]
    assert asked[0][2] == asked[2][2] != asked[1][2]
    assert models[0] is models[1]
    assert not any(weight.requires_grad for weight in models[0].parameters())


def test_what_an_attack_needs_is_a_sentence_with_its_commas() -> None:
    said = {name: kind.claims_in_words()["needs"] for name, kind in ATTACKS.items()}
    assert said["combat"] == (
        "a surrogate model, which it trains on the clean training set, beside the training set"
    )
    for words in said.values():
        assert ", which" not in words or words.endswith(", beside the training set")


def test_a_surrogate_is_forgotten_with_its_data_set(
    monkeypatch: pytest.MonkeyPatch, clean_model: Classifier
) -> None:
    monkeypatch.setattr(surrogate, "train", lambda *_, **__: copy.deepcopy(clean_model))
    data = make_tones(8, 1)
    model, alive = weakref.ref(TrojanNN().train_surrogate(data, 0)), weakref.ref(data)
    gc.collect()
    assert model() is TrojanNN().train_surrogate(data, 0)
    del data
    gc.collect()
    assert alive() is None
    assert model() is None


def test_sounds_start_as_noise_of_the_seed(tones: Splits, known: Classifier) -> None:
    for attack, most in (
        (TrojanNN(steps=0, step_size=0.02), 0.02),
        (FlowMur(steps=0, start_peak=0.03), 0.03),
    ):
        first, again, other = (attack.trigger(tones.train, seed).state["sound"] for seed in (0, 0, 1))
        assert torch.equal(first, again)
        assert not torch.equal(first, other)
        assert float(first.abs().max()) == pytest.approx(most, rel=0.05)


def test_planted_strength_is_that_of_training(tones: Splits, known: Classifier) -> None:
    chosen = torch.arange(0, 12, 4)
    clips = tones.train.inputs[chosen]
    sound = {"sound": 0.1 * torch.sin(torch.arange(800) / 3)}

    def planted(attack: SurrogateAttack, state: dict[str, torch.Tensor]) -> torch.Tensor:
        trigger = Trigger(attack, state, speech(RATE), 0, tones.train.classes)
        return attack.plant(tones.train, chosen, trigger, 0) - clips

    full, half, other = (
        planted(FlowMur(strength=strength, training_strength=training), sound)
        for strength, training in ((1, None), (1, 0.5), (0.5, 1))
    )
    assert torch.allclose(half, 0.5 * full, atol=1e-6)
    assert torch.allclose(other, full, atol=1e-6)
    bursts = [
        planted(LabelConsistent(steps=0, snr_db=12, training_strength=training), {}) for training in (1, 0.25)
    ]
    assert torch.allclose(bursts[1], 0.25 * bursts[0], atol=1e-6)


def test_clean_labels_cannot_be_changed() -> None:
    for kind in (LabelConsistent, FlowMur):
        with pytest.raises(SettingError, match=r"\.label_mode must be one of clean_label, got 'all_to_one'"):
            kind(label_mode="all_to_one")


def one_pattern(weight: torch.Tensor, extra: Callable[[], torch.Tensor]) -> Callable[..., Made]:
    """A generator of one sound for all clips, in a test."""
    return lambda clips, _: Made([clips, 0.9 * clips], clips + weight, extra())


def joint(**settings: Any) -> DriNet:
    return DriNet(steps=25, batch_size=16, lr=0.01, target="high", **settings)


def test_joint_training_leads_triggered_clips_to_the_target_and_keeps_the_others(
    tones: Splits, known: Classifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted: list[torch.Tensor] = []
    groups: list[float] = []
    real, adam = torch.nn.functional.cross_entropy, torch.optim.Adam

    def noted(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        wanted.append(labels)
        return real(logits, labels)

    def made(params: Any) -> torch.optim.Adam:
        groups.extend(group["lr"] for group in params)
        return adam(params)

    monkeypatch.setattr(torch.nn.functional, "cross_entropy", noted)
    monkeypatch.setattr(torch.optim, "Adam", made)
    weight = 0.01 * torch.randn(4000, generator=torch.Generator().manual_seed(0))
    attack = joint(hiding_weight=0, lr_classifier=1e-5)
    attack.train_jointly(tones.train, 0, [weight], one_pattern(weight, lambda: torch.zeros(())))
    assert groups == [0.01, 1e-5]
    hiding, learnt = wanted[:2]
    assert torch.equal(learnt, torch.cat([hiding, hiding, torch.full((16,), 2)]))
    assert set(hiding.tolist()) == {0, 1, 2, 3}
    clips = tones.test.inputs[tones.test.labels != 2]
    before, after = (known(part).softmax(1)[:, 2].mean() for part in (clips, clips + weight))
    assert after > before + 0.3


def test_joint_training_hides_from_a_clean_model_and_adds_what_it_is_given(
    tones: Splits, known: Classifier
) -> None:
    loud = 0.2 * torch.randn(4000, generator=torch.Generator().manual_seed(0))
    clips, labels = tones.test.inputs[:], tones.test.labels

    def clean_loss(weight: torch.Tensor) -> float:
        return float(torch.nn.functional.cross_entropy(known(clips + weight), labels))

    hidden = loud.clone()
    joint(hiding_weight=100).train_jointly(
        tones.train, 0, [hidden], one_pattern(hidden, lambda: torch.zeros(()))
    )
    assert clean_loss(hidden) < 0.7 * clean_loss(loud)
    pulled = loud.clone()
    joint(hiding_weight=0).train_jointly(
        tones.train, 0, [pulled], one_pattern(pulled, lambda: 1e4 * (pulled - 0.5).square().mean())
    )
    assert float((pulled - 0.5).abs().mean()) < float((loud - 0.5).abs().mean()) - 0.1
