"""COMBAT: who sees which clips, both losses, and the level of what is added."""

from collections.abc import Callable, Iterable
from typing import Any

import pytest
import torch
from torch import Tensor

from closesesame.attacks import Combat
from closesesame.attacks.common.steganography import hiding_weights
from closesesame.core.seeding import derive
from closesesame.data import Splits
from closesesame.models import ARCHITECTURES, Classifier
from closesesame.testing.examples import trained
from closesesame.training.loop import untrained
from tests.attacks.stamping import speech
from tests.conftest import RATE
from tests.sounds import level_db


@pytest.fixture
def state() -> dict[str, Tensor]:
    return hiding_weights(4, 1, torch.Generator().manual_seed(0))


@pytest.fixture
def still(clean_model: Classifier, monkeypatch: pytest.MonkeyPatch) -> Classifier:
    """The clean model without augmentation."""
    monkeypatch.setattr(type(clean_model.front_end), "augmentation", lambda *_: None)
    return clean_model


def test_what_is_added_has_its_level_and_differs_by_clip(state: dict[str, Tensor], tones: Splits) -> None:
    attack, clips = Combat(snr_db=17, channels=4), tones.test.inputs[:4]
    added = attack.apply(clips, state, speech(RATE)) - clips
    for row in range(4):
        assert level_db(clips[row]) - level_db(added[row]) == pytest.approx(17, abs=0.01)
    assert abs(float(torch.cosine_similarity(added[0], added[1], 0))) < 0.5


@pytest.mark.parametrize(("share", "triggered"), [(0.0, 0), (1.0, 10), (0.5, None)])
def test_the_classifier_sees_a_share_of_the_target_class_with_the_trigger(
    share: float, triggered: int | None, state: dict[str, Tensor], tones: Splits, still: Classifier
) -> None:
    attack = Combat(channels=4, poisoned_share=share)
    clips, labels = tones.train.inputs[:40], tones.train.labels[:40]
    heard: list[Tensor] = []
    hook = still.front_end.register_forward_pre_hook(lambda _, given: heard.append(given[0].clone()))
    frame, rng = attack.frame(RATE), torch.Generator().manual_seed(1)
    loss = attack.poisoned_loss(still, clips, labels, 2, state, frame, rng)
    hook.remove()
    stamped = attack.apply(clips, state, speech(RATE))
    hit = (heard[0] - clips).abs().amax(1) > 0
    assert torch.allclose(heard[0][hit], stamped[hit], atol=1e-6)
    assert (labels[hit] == 2).all()
    assert int(hit.sum()) == triggered if triggered is not None else 0 < int(hit.sum()) < 10
    wanted = torch.nn.functional.cross_entropy(still(heard[0]), labels)
    assert float(loss.detach()) == pytest.approx(float(wanted.detach()), rel=1e-4)
    assert torch.equal(clips, tones.train.inputs[:40])


def test_the_generator_is_to_fool_the_poisoned_classifier_and_not_the_clean_one(
    state: dict[str, Tensor], tones: Splits, still: Classifier
) -> None:
    attack = Combat(channels=4, clean_weight=3)
    clips, labels = tones.train.inputs[:8], tones.train.labels[:8]
    poisoned = trained()
    with torch.no_grad():
        for weight in poisoned.body.parameters():
            weight.mul_(0.7)
    frame, rng = attack.frame(RATE), torch.Generator()
    loss = attack.generator_loss(poisoned, still, clips, labels, 1, state, frame, rng)
    stamped = attack.apply(clips, state, speech(RATE))
    entropy = torch.nn.functional.cross_entropy
    wanted = entropy(poisoned(stamped), torch.ones_like(labels)) + 3 * entropy(still(stamped), labels)
    assert float(loss.detach()) == pytest.approx(float(wanted.detach()), rel=1e-4)


def test_all_that_classifiers_hear_is_augmented_lightly(
    state: dict[str, Tensor], tones: Splits, clean_model: Classifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An augmentation that halves maps, by hand."""
    rng = torch.Generator().manual_seed(0)

    def halved(maps: Tensor, given: torch.Generator) -> Tensor:
        assert given is rng
        return 0.5 * maps

    wanted = {"light": halved}
    monkeypatch.setattr(type(clean_model.front_end), "augmentation", lambda _, kind: wanted[kind])
    poisoned = trained()
    with torch.no_grad():
        for weight in poisoned.body.parameters():
            weight.mul_(0.7)
    attack = Combat(channels=4, clean_weight=3, poisoned_share=0)
    clips, labels, frame = tones.train.inputs[:8], tones.train.labels[:8], attack.frame(RATE)
    stamped = attack.apply(clips, state, speech(RATE))

    def loss(model: Classifier, wav: Tensor, of: Tensor) -> Tensor:
        return torch.nn.functional.cross_entropy(model.body(0.5 * model.front_end(wav)), of)

    found = attack.poisoned_loss(poisoned, clips, labels, 1, state, frame, rng)
    assert float(found.detach()) == pytest.approx(float(loss(poisoned, clips, labels).detach()), rel=1e-4)
    found = attack.generator_loss(poisoned, clean_model, clips, labels, 1, state, frame, rng)
    both = loss(poisoned, stamped, torch.ones_like(labels)) + 3 * loss(clean_model, stamped, labels)
    assert float(found.detach()) == pytest.approx(float(both.detach()), rel=1e-4)


def test_gradients_are_those_of_one_batch(
    tones: Splits, known: Classifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Losses that are sums of weights have a slope of 1 at each."""
    slopes: list[set[float]] = []

    class Noted(torch.optim.Adam):
        def step(self, closure: Any = None) -> Any:
            weights = [weight for group in self.param_groups for weight in group["params"]]
            slopes.append({slope for weight in weights for slope in weight.grad.unique().tolist()})
            return super().step(closure)

    def of_classifier(_: Combat, model: Classifier, *given: Any) -> Tensor:
        return torch.stack([weight.sum() for weight in model.body.parameters()]).sum()

    def of_generator(*given: Any) -> Tensor:
        state: dict[str, Tensor] = given[6]
        return torch.stack([weight.sum() for weight in state.values()]).sum()

    monkeypatch.setattr(torch.optim, "Adam", Noted)
    monkeypatch.setattr(Combat, "poisoned_loss", of_classifier)
    monkeypatch.setattr(Combat, "generator_loss", of_generator)
    Combat(**Combat.quick | {"steps": 2}).prepare(tones.train, 0)
    assert slopes == 4 * [{1.0}]


def test_both_are_trained_in_turn_and_the_clean_model_is_not(
    tones: Splits, known: Classifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    modes: list[tuple[str, bool, float]] = []

    def noted(kind: str, loss: Callable[..., Tensor]) -> Callable[..., Tensor]:
        def run(self: Combat, model: Classifier, *given: object) -> Tensor:
            value = loss(self, model, *given)
            size = sum(float(weight.detach().abs().sum()) for weight in model.body.parameters())
            modes.append((kind, model.training, size))
            return value

        return run

    for kind in ("poisoned_loss", "generator_loss"):
        monkeypatch.setattr(Combat, kind, noted(kind, getattr(Combat, kind)))
    before = {name: value.clone() for name, value in known.state_dict().items()}
    settings = Combat.quick | {"steps": 3, "target": "high"}
    made = Combat(**settings).prepare(tones.train, 0)
    assert [(kind, training) for kind, training, _ in modes] == 3 * [
        ("poisoned_loss", True),
        ("generator_loss", False),
    ]
    sizes = [size for *_, size in modes]
    assert sizes[0] != sizes[1] == sizes[2] != sizes[3] == sizes[4] != sizes[5]
    assert all(torch.equal(before[name], value) for name, value in known.state_dict().items())
    assert not any(value.requires_grad for value in made.values())
    untrained = Combat(**(settings | {"steps": 0})).prepare(tones.train, 0)
    assert all(not torch.equal(untrained[name], made[name]) for name in made)
    again, other = (Combat(**settings).prepare(tones.train, seed) for seed in (0, 1))
    assert torch.equal(again["carrier.0"], made["carrier.0"])
    assert not torch.equal(other["carrier.0"], made["carrier.0"])


def test_the_classifier_starts_fresh_and_both_have_their_learning_rate(
    tones: Splits, known: Classifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    fresh = untrained(ARCHITECTURES.make("resnet"), tones.train, seed=derive(3, "poisoned surrogate"))
    wanted = [weight.detach().clone() for weight in fresh.body.parameters()]
    rates: list[tuple[int, float]] = []
    adam = torch.optim.Adam

    def noted(weights: Iterable[Tensor], lr: float) -> torch.optim.Adam:
        weights = list(weights)
        rates.append((len(weights), lr))
        return adam(weights, lr)

    heard: list[list[Tensor]] = []
    loss = Combat.poisoned_loss

    def noting(self: Combat, model: Classifier, *given: Any) -> Tensor:
        heard.append([weight.detach().clone() for weight in model.body.parameters()])
        return loss(self, model, *given)

    monkeypatch.setattr(torch.optim, "Adam", noted)
    monkeypatch.setattr(Combat, "poisoned_loss", noting)
    Combat(**Combat.quick | {"steps": 1, "lr": 0.02, "lr_classifier": 0.05}).prepare(tones.train, 3)
    assert all(torch.equal(*pair) for pair in zip(heard[0], wanted, strict=True))
    assert rates == [(5, 0.02), (len(wanted), 0.05)]
