"""BTI-DBF: what it does to a model whose backdoor is known."""

import copy
import itertools
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from closesesame.core.seeding import isolated
from closesesame.data import Splits
from closesesame.models import ARCHITECTURES, Classifier
from closesesame.models.maps import Maps
from closesesame.removal import bti_dbf
from closesesame.removal.bti_dbf import BTIDBF, decouple, gaining, inversion_loss, shift
from closesesame.testing.examples import OwnNetwork
from tests.removal.planted import (
    TRIGGERED,
    Planted,
    clips,
    descended,
    entering,
    planted,
    rates,
    repaired,
)

PLAIN = {"optimizer": "sgd", "momentum": 0.0, "batch_size": 40}
SHORT = {"mask_steps": 60, "mask_lr": 0.1, "generator_steps": 60, "generator_lr": 0.01, "pretraining": 0.2}


class Stamp(nn.Module):
    """Instead of a generator: one that adds a set amount to the bands of the trigger."""

    amount = 2.0

    def __init__(self, *_: object) -> None:
        super().__init__()
        self.unused = nn.Parameter(torch.zeros(1))

    def forward(self, maps: Tensor) -> Tensor:
        across = torch.zeros_like(maps)
        across[:, TRIGGERED] = self.amount
        return maps + across + 0 * self.unused


@pytest.fixture
def stamp(monkeypatch: pytest.MonkeyPatch) -> type[Stamp]:
    """The generator of all repairs is a stamp."""
    monkeypatch.setattr(bti_dbf, "Residual", Stamp)
    return Stamp


def test_its_length_is_that_of_the_code_on_2500_examples() -> None:
    method = BTIDBF()
    assert (method.rounds, method.steps, method.generator_steps, method.mask_steps) == (5, 5 * 600, 600, 400)
    assert round(method.pretraining * method.generator_steps) == 1000
    assert (method.batch_size, method.lr, method.share) == (128, 1e-4, 0.1)


@pytest.mark.parametrize("architecture", [*ARCHITECTURES, "own"])
def test_its_maps_are_what_a_network_pools_and_all_that_its_logits_depend_on(
    architecture: str, tones: Splits
) -> None:
    data = tones.train.take(torch.arange(8))
    body: nn.Module
    shape: tuple[int, ...]
    if architecture == "own":
        body, features, shape = OwnNetwork().eval(), data.inputs[:], (12, 247)
    else:
        extra = {"depth": 2} if architecture == "kwt" else {}
        model = ARCHITECTURES.make(architecture, extra).build(
            data.classes, data.input_shape, data.sample_rate, seed=0
        )
        body, features = model.body.eval(), model.front_end(data.inputs[:])
        sizes = {"resnet": (128, 3, 4), "small_cnn": (32, 12, 4), "lstm": (51, 64), "kwt": (52, 64)}
        shape = sizes.get(architecture, (51, 128))
    maps = Maps(body, features)
    assert tuple(maps.used.shape) == shape
    # One state of a recurrent network and one token of a transformer are all that is looked at.
    assert maps.count == (64 if architecture in {"lstm", "kwt"} else maps.used.numel())
    logits = body(features)
    with maps.masked(body, torch.ones(maps.count)):
        assert torch.allclose(body(features), logits, atol=1e-6)
    with maps.masked(body, torch.zeros(maps.count)):
        blind = body(features)
    assert torch.allclose(blind, blind[:1].expand_as(blind), atol=1e-6)
    assert not torch.allclose(logits, logits[:1].expand_as(logits), atol=1e-6)
    # What is done to the inputs before the network runs does not count, nor in which mode it is.
    other = body.register_forward_pre_hook(lambda _, inputs: (2 * inputs[0].flip(1).flip(1) - inputs[0],))
    with maps.of(body) as units, maps.of(body.train()) as again:
        body(features)
    other.remove()
    assert units[0].shape == again[0].shape == (8, maps.count)


def test_a_network_without_maps_is_masked_at_its_input() -> None:
    with isolated(0):
        body = nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 4))
    x = torch.randn(9, 6, generator=torch.Generator().manual_seed(0))
    maps = Maps(body, x)
    with maps.of(body) as units:
        body(x)
    assert torch.equal(units[0], x)
    with maps.masked(body, torch.zeros(6)):
        assert torch.equal(body(x), body(torch.zeros_like(x)))


def test_the_mask_keeps_the_unit_that_says_the_class_and_drops_the_one_that_denies_it() -> None:
    labels = torch.arange(64) % 2
    units = torch.stack([3.0 * labels, 1.0 * labels], 1)
    head = nn.Linear(2, 2)
    head.weight.data = torch.tensor([[-2.0, 1.0], [2.0, -1.0]])
    head.bias.data = torch.tensor([3.0, -3.0])

    def under(mask: Tensor) -> Tensor:
        logits: Tensor = head(mask * units)
        return logits

    start = torch.tensor([0.0, 0.5])
    assert decouple(under, start, labels, 300, 0.05, 0.0).tolist() == pytest.approx([1.0, 0.0], abs=0.02)
    assert decouple(under, start, labels, 0, 0.05, 0.0).tolist() == pytest.approx([0.5, 0.7311], abs=1e-4)
    heavy = [decouple(under, start, labels, 300, 0.05, weight) for weight in (100.0, -100.0)]
    assert [round(float(mask.mean()), 1) for mask in heavy] == [0.0, 1.0]


def test_the_mask_starts_at_random_by_the_seed() -> None:
    chosen = [_chosen(planted(), seed=seed, rounds=2, mask_steps=0, generator_steps=0) for seed in (0, 0, 1)]
    shares = [made["benign_share"] for made in chosen]
    assert shares[0] == shares[1] != shares[2]
    assert shares[0][0] != shares[0][1]  # each round has a start of its own
    assert all(0.3 < share < 0.7 for share in shares[0])


@pytest.mark.parametrize(("stuck", "weights"), [(0.99, [0.1, 0.1]), (0.01, [-0.1, -0.1]), (0.6, [0.0, 0.0])])
def test_a_saturated_mask_is_found_anew_with_a_weight(
    stuck: float, weights: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    starts = []

    def saturating(_: object, start: Tensor, *more: float) -> Tensor:
        starts.append(start)
        return torch.full_like(start, 0.5 if more[-1] else stuck)

    monkeypatch.setattr(bti_dbf, "decouple", saturating)
    chosen = _chosen(planted(), rounds=2, generator_steps=0)
    assert chosen["mask_weights"] == weights
    assert chosen["benign_share"] == ([0.6, 0.6] if stuck == 0.6 else [0.5, 0.5])
    assert all(not torch.equal(a, b) for a, b in itertools.pairwise(starts))


def test_the_generator_moves_what_is_not_benign_only_within_the_bounds() -> None:
    units, moved = torch.tensor([[1.0, 1.0]]), torch.tensor([[2.0, 4.0]])
    mask, near, far = torch.tensor([1.0, 0.0]), torch.tensor(0.2), torch.tensor(0.4)
    method = BTIDBF(max_input_change=0.3, max_benign_change=3.0)
    # Benign: (1, 0) squared, mean 0.5; the rest: (0, 3), mean 4.5.
    assert float(inversion_loss(units, moved, mask, near, method)) == pytest.approx(0.01 * 0.5 - 4.5)
    assert inversion_loss(units, moved, mask, far, method) is far
    tight = BTIDBF(max_input_change=0.3, max_benign_change=0.4)
    assert inversion_loss(units, moved, mask, near, tight) is near


class Bands(nn.Module):
    """Instead of a generator: one number for each band, which it adds."""

    start = 0.05

    def __init__(self, *_: object) -> None:
        super().__init__()
        self.added = nn.Parameter(torch.full((8, 1), self.start))
        made.append(self)

    def forward(self, maps: Tensor) -> Tensor:
        return maps + self.added

    @property
    def change(self) -> list[float]:
        """Of each band."""
        return self.added.detach().flatten().tolist()


made: list[Bands] = []


@pytest.mark.parametrize("benign", [slice(0, 4), slice(4, 8)])
def test_the_generator_changes_the_bands_that_the_mask_does_not_call_benign(
    benign: slice, monkeypatch: pytest.MonkeyPatch
) -> None:
    mask = torch.zeros(8, 6)
    mask[benign] = 1
    monkeypatch.setattr(bti_dbf, "decouple", lambda *_: mask.flatten())
    monkeypatch.setattr(bti_dbf, "Residual", Bands)
    for steps in (50, 0):
        _chosen(planted(), rounds=1, generator_steps=steps, generator_lr=0.02, pretraining=0.0)
    trained, untrained = made[-2:]
    rest = slice(4, 8) if benign == slice(0, 4) else slice(0, 4)
    assert min(abs(x) for x in trained.change[rest]) > 0.3
    assert max(abs(x) for x in trained.change[benign]) < 0.06
    assert untrained.change == pytest.approx([0.05] * 8)


def test_the_generator_learns_to_be_the_identity_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bti_dbf, "Residual", Bands)
    monkeypatch.setattr(Bands, "start", 0.8)
    x = clips().inputs[:]
    monkeypatch.setattr(BTIDBF, "_invert", lambda *args: args[3](x).sum() * 0)  # no other training
    for pretraining in (0.0, 1.0):
        _chosen(planted(), rounds=1, generator_steps=60, generator_lr=0.03, pretraining=pretraining)
    far, near = made[-2:]
    assert far.change == pytest.approx([0.8] * 8)
    assert max(abs(x) for x in near.change) < 0.2


def test_a_class_is_named_by_what_the_generator_changes_and_never_by_a_tie() -> None:
    before = torch.tensor([0, 0, 0, 0, 1, 1, 2, 3])
    assert shift(before, torch.tensor([0, 0, 1, 1, 1, 1, 2, 1]), 4).tolist() == [-2, 3, 0, -1]
    assert gaining(before, torch.tensor([-2, 3, 0, -1]), 0.5) == 1  # 3 of 6 others
    assert gaining(before, torch.tensor([-2, 3, 0, -1]), 0.51) is None
    # Class 0 is the most frequent, but nothing has changed; or two classes gain as much.
    assert gaining(before, torch.tensor([0, 0, 0, 0]), 0.01) is None
    assert gaining(before, torch.tensor([2, 2, -2, -2]), 0.01) is None
    assert gaining(before, torch.tensor([1, -1, 2, -2]), 0.01) == 2


def test_a_generator_that_changes_nothing_names_no_class(stamp: type[Stamp]) -> None:
    stamp.amount = 0.0
    # All clips are of class 0: the most frequent class of G(x) is no evidence.
    data = clips().take(torch.arange(0, 40, 4))
    model = planted()
    chosen = BTIDBF(rounds=1, generator_steps=1, mask_steps=1, steps=0).repair(model, data, data, 0)
    stamp.amount = 2.0
    assert chosen["class_found"] == "none"
    assert chosen["classes_gained"] == [0, 0, 0, 0]


@pytest.mark.parametrize("target", [1, 2, 3])
def test_from_the_second_round_on_the_generator_aims_at_the_class_that_was_found(
    target: int, stamp: type[Stamp], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert stamp.amount == 2.0
    aims: list[int | None] = []
    invert = BTIDBF._invert

    def spy(*args: object) -> Tensor:
        aims.append(args[-1])  # type: ignore[arg-type]
        return invert(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(BTIDBF, "_invert", spy)
    chosen = _chosen(planted(target), rounds=3, generator_steps=2, mask_steps=1)
    assert aims == [None, None, target, target, target, target]
    assert chosen["class_found"] == "abcd"[target]
    assert chosen["classes_gained"][target] == 30
    assert len(chosen["benign_share"]) == len(chosen["mask_weights"]) == 3
    # Aimed, its loss has the cross-entropy to that class on top.
    x, body = clips().inputs[:], planted(target).body
    maps, generator, mask = Maps(body, x), Stamp(), torch.ones(48)
    plain, aimed = (invert(BTIDBF(), body, maps, generator, x, mask, aim) for aim in (None, 0))
    wanted = F.cross_entropy(body(generator(x)), torch.zeros(40, dtype=torch.long))
    assert float((aimed - plain).detach()) == pytest.approx(float(wanted.detach()), rel=1e-4)


def test_the_model_learns_the_classes_of_what_the_generator_makes_and_its_maps_of_the_clean(
    stamp: type[Stamp],
) -> None:
    model, data = planted(), clips()
    x, y = data.inputs[:], data.labels

    def loss(body: nn.Module) -> Tensor:
        assert isinstance(body, Planted)
        mixed = stamp()(x)
        units, moved = body.units(x), body.units(mixed)
        return F.cross_entropy(body(mixed), y) + F.mse_loss(units, moved)

    method = BTIDBF(rounds=1, steps=1, share=1.0, lr=0.1, generator_steps=0, mask_steps=0, **PLAIN)
    wanted, found = descended(model, loss, 0.1), repaired(method, model, data)
    for name, weight in found.body.named_parameters():
        assert torch.allclose(weight, wanted[name], atol=1e-6)


@pytest.mark.parametrize(("share", "rows"), [(0.1, 5), (0.5, 21)])
def test_a_share_of_each_batch_carries_the_trigger(share: float, rows: int, stamp: type[Stamp]) -> None:
    assert stamp.amount == 2.0
    model = planted()
    seen = entering(model)
    BTIDBF(rounds=1, steps=1, share=share, generator_steps=0, mask_steps=0, batch_size=40).repair(
        model, clips(), clips(8, 5), 0
    )
    mixed, clean = seen[-2:]
    assert int(((mixed - clean)[:, TRIGGERED].mean((1, 2)) > 1.9).sum()) == rows


def test_all_rounds_train_the_model(monkeypatch: pytest.MonkeyPatch) -> None:
    steps = []
    monkeypatch.setattr(bti_dbf, "fit", lambda *args, **_: steps.append(args[2].steps))
    _chosen(planted(), rounds=3, steps=7, generator_steps=0, mask_steps=0)
    assert steps == [3, 3, 3]


@pytest.mark.parametrize("target", [2, 3])
def test_it_removes_a_planted_backdoor_and_names_its_class(target: int) -> None:
    model = planted(target, strength=6.0)
    method = BTIDBF(rounds=2, steps=40, lr=0.3, share=0.3, **SHORT, **PLAIN)
    chosen = method.repair(model, clips(), clips(8, 5), 0)
    accuracy, asr = rates(model, target)
    assert chosen["class_found"] == "abcd"[target]
    assert all(0.05 < share < 0.95 for share in chosen["benign_share"])
    assert accuracy == 1
    assert asr < 0.1


def test_a_clean_model_has_no_class_to_be_named() -> None:
    chosen = _chosen(planted(strength=0.0), **{"rounds": 1, **SHORT})  # type: ignore[arg-type]
    assert chosen["class_found"] == "none"


def _chosen(model: Classifier, seed: int = 0, **settings: object) -> dict[str, Any]:
    method = BTIDBF(**{"steps": 0, "mask_steps": 1, "batch_size": 40, **settings})
    return method.repair(copy.deepcopy(model), clips(), clips(8, 5), seed)


def test_it_does_not_mind_in_which_mode_the_suspect_comes(clean_model: Classifier, tones: Splits) -> None:
    clean = tones.train.sample(0.1, 0)
    method = BTIDBF(rounds=1, mask_steps=2, generator_steps=2, steps=1)
    fixed: list[dict[str, Tensor]] = []
    for training in (False, True):
        model: Callable[..., Classifier] = copy.deepcopy(clean_model).train
        fixed.append(method.remove(model(training), clean, 0).model.state_dict())
    assert all(torch.equal(value, fixed[1][name]) for name, value in fixed[0].items())
