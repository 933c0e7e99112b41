"""GangSweep: its loss and its rule by hand, and what it does to a model whose backdoor is known."""

import copy
import itertools
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from closesesame.core.errors import DataError
from closesesame.core.seeding import isolated
from closesesame.data import Dataset
from closesesame.models import Classifier, adapt
from closesesame.removal import gangsweep
from closesesame.removal.gangsweep import GangSweep, embeddings, mask_loss, persistent, rms, shift_of
from closesesame.testing.examples import OwnConvolutions
from tests.removal.planted import CLASSES, Planted, clips, descended, entering, planted, rates, repaired
from tests.removal.tiny import moved, state, tiny, vectors

PLAIN = {"momentum": 0.0, "weight_decay": 0.0, "schedule": "constant", "augmentation": "none"}
SHORT = {
    "generator_steps": 200,
    "generator_lr": 6e-3,
    "max_change": 0.4,
    "margin": 20.0,
    "change_weight": 10.0,
}


class Bands(nn.Module):
    """Instead of a generator: one number for each band, which it adds; bands 4 to 7 change more at first."""

    def __init__(self, *_: object) -> None:
        super().__init__()
        self.added = nn.Parameter(torch.tensor([0.1, 0.2, 0.3, 0.4, 1.0, 1.5, 2.0, 2.5])[:, None])

    def forward(self, maps: Tensor) -> Tensor:
        return maps + self.added


class Louder(nn.Module):
    """Instead of a generator: one that adds half of what is there."""

    def __init__(self, *_: object) -> None:
        super().__init__()
        self.unused = nn.Parameter(torch.zeros(1))

    def forward(self, maps: Tensor) -> Tensor:
        return 1.5 * maps + 0 * self.unused


@pytest.fixture
def bands(monkeypatch: pytest.MonkeyPatch) -> Tensor:
    """The mask of every generator that does not learn; the class to be unlearned is 2."""
    monkeypatch.setattr(gangsweep, "Residual", Bands)
    monkeypatch.setattr(gangsweep, "persistent", lambda distance, *_: (distance, 2))
    return Bands().added.detach().expand(8, 6)


def mislabelled() -> Dataset:
    """The clips, every eighth of them with a wrong label."""
    data = clips()
    return data.with_labels(torch.where(torch.arange(40) % 8 == 0, 3, data.labels))


def _chosen(
    model: Classifier, seed: int = 0, data: Dataset | None = None, **settings: object
) -> dict[str, Any]:
    method = GangSweep(**{"steps": 0, "generator_steps": 0, "batch_size": 40, **settings})
    return method.repair(copy.deepcopy(model), clips() if data is None else data, clips(8, 5), seed)


# The loss and the rule


def test_its_lengths_are_20_epochs_of_2500_examples_and_neural_cleanse() -> None:
    method = GangSweep()
    assert method.generator_steps * method.batch_size == pytest.approx(20 * 2500, rel=0.05)
    assert (method.steps, method.lr, method.share, method.min_anomaly) == (1000, 0.01, 0.2, 2.0)


def test_the_loss_is_the_lead_of_other_classes_and_what_is_too_large() -> None:
    logits = torch.tensor([[3.0, 1.0, 0.0], [0.0, 4.0, 1.0], [1.0, 2.0, -9.0]])
    sizes = torch.tensor([0.8, 0.2, 0.5])
    # Behind by 2, by 1 - 4 but no less than -2, and by 1 - 2; the first is too large by 0.3.
    method = GangSweep(margin=2, max_change=0.5, change_weight=10)
    assert float(mask_loss(logits, sizes, 1, method)) == pytest.approx((2 - 2 - 1 + 3) / 3)
    # Towards the last class: 3 - 0, 4 - 1, 2 + 9.
    assert float(mask_loss(logits, sizes, 2, method)) == pytest.approx((3 + 3 + 11 + 3) / 3)
    assert float(mask_loss(logits, sizes, 0, method)) == pytest.approx((-2 + 4 + 1 + 3) / 3)


def test_the_size_of_a_mask_is_an_rms_and_has_a_slope_at_zero() -> None:
    changes = torch.tensor([[[3.0, 4.0], [0.0, 0.0]], [[0.0, 0.0], [0.0, 0.0]]], requires_grad=True)
    sizes = rms(changes)
    assert sizes.tolist() == [2.5, 0.0]
    assert torch.autograd.grad(sizes.sum(), changes)[0].isfinite().all()


def test_distance_and_variance_are_of_the_shift_of_each_example() -> None:
    before = torch.tensor([[0.0, 0.0], [1.0, 1.0]])
    after = torch.tensor([[3.0, 4.0], [1.0, 2.0]])
    # Shifts (3, 4) and (0, 1) are 5 and 1 long, and 1.5 from their mean (1.5, 2.5) on either axis.
    assert shift_of(before, after) == pytest.approx((3.0, 4.5))


DISTANCE = torch.tensor([1.0, 2.0, 3.0, 4.0, 10.0])
"""Median 3; deviations from it -2, -1, 0, 1, 7, whose median size is 1."""


def _found(distance: Tensor, relative: list[float], least: float = 2.0) -> int | None:
    return persistent(distance, torch.tensor(relative) * distance**2, least)[1]


def test_an_anomaly_is_a_deviation_from_the_median_over_the_median_deviation() -> None:
    anomaly, _ = persistent(DISTANCE, torch.ones(5), 2.0)
    assert anomaly.tolist() == pytest.approx([x / 1.4826 for x in (-2, -1, 0, 1, 7)])
    assert _found(DISTANCE, [0.3, 0.2, 0.15, 0.4, 0.1], least=4.72) == 4
    assert _found(DISTANCE, [0.3, 0.2, 0.15, 0.4, 0.1], least=4.73) is None


def test_a_class_is_found_if_it_is_far_and_varies_little_for_how_far_it_is() -> None:
    # The variance of the last is the largest, and over its distance the second largest.
    relative = [0.3, 0.2, 0.15, 0.4, 0.1]
    variance = torch.tensor(relative) * DISTANCE**2
    assert variance.argmax() == 4
    assert (variance / DISTANCE)[4] > (variance / DISTANCE).median()
    assert _found(DISTANCE, relative) == 4
    assert _found(DISTANCE, [0.3, 0.2, 0.15, 0.1, 0.4]) is None
    assert _found(DISTANCE, [0.3, 0.3, 0.1, 0.1, 0.3]) is None  # the median itself is not below it


def test_of_several_the_farthest_that_varies_little_is_found() -> None:
    distance = torch.tensor([20.0, 2.0, 30.0, 1.0, 3.0, 4.0, 5.0])
    assert _found(distance, [0.1, 0.5, 0.1, 0.5, 0.5, 0.5, 0.5]) == 2
    assert _found(distance, [0.1, 0.5, 0.9, 0.5, 0.5, 0.5, 0.5]) == 0


def test_nothing_is_found_below_the_median_among_two_classes_or_without_masks() -> None:
    assert _found(torch.tensor([1.0, 10.0, 11.0, 12.0, 13.0]), [0.1, 0.2, 0.3, 0.4, 0.5]) is None
    assert _found(torch.tensor([1.0, 1000.0]), [0.5, 0.1]) is None
    anomaly, found = persistent(torch.zeros(4), torch.zeros(4), 0.0)
    assert found is None
    assert anomaly.tolist() == [0, 0, 0, 0]
    anomaly, found = persistent(torch.tensor([0.0, 0.0, 0.0, 9.0]), torch.zeros(4), 2.0)
    assert anomaly.isfinite().all()
    assert found is None  # all vary as little


# What is measured


def test_features_are_what_enters_the_last_layer_or_the_logits_of_a_model_without_one() -> None:
    model, maps = planted(), clips().inputs[:]
    assert isinstance(model.body, Planted)
    wanted = model.body.units(maps).mean(2)
    assert torch.allclose(embeddings(model, maps.split(16)), wanted, atol=1e-6)
    with isolated(0):
        other = adapt(OwnConvolutions(), CLASSES, (4000,), 8000).eval()
    wav = torch.randn(5, 4000, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(embeddings(other, wav.split(2)), other.body(wav), atol=1e-5)


def test_masks_and_shifts_are_of_the_clips_of_other_classes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gangsweep, "Residual", Louder)
    model, data = planted(), mislabelled()
    assert isinstance(model.body, Planted)
    chosen = _chosen(model, data=data, batch_size=16)
    for target in range(4):
        x = data.inputs[data.labels != target]
        mask = 0.5 * x.mean(0)
        shift = (model.body.units(x + mask) - model.body.units(x)).mean(2)
        assert chosen["mask_sizes"][target] == pytest.approx(
            float(mask.square().mean().sqrt() / data.inputs[:].std()), abs=6e-4
        )
        assert chosen["shift_distances"][target] == pytest.approx(
            float(shift.norm(dim=1).mean().detach()), abs=6e-4
        )
        assert chosen["shift_variances"][target] == pytest.approx(
            float(shift.var(0, unbiased=False).sum().detach()), abs=6e-4
        )


def test_the_model_is_frozen_and_predicts_while_generators_learn() -> None:
    # Batch norm would follow the masked examples, and see each batch as another one.
    model, data = tiny(), vectors(30)
    model.train()
    before = state(model)
    method = GangSweep(steps=0, generator_steps=3, batch_size=8, min_anomaly=1000)
    chosen = method.repair(model, data, data, 0)
    assert moved(model, before) == set()
    assert all(weight.requires_grad and weight.grad is None for weight in model.body.parameters())
    assert method.repair(model.eval(), data, data, 0) == chosen


def _size(**settings: float) -> float:
    """Of the mask that the bands make of class 2."""
    x = clips().inputs[:]
    method = GangSweep(generator_steps=200, generator_lr=0.01, batch_size=40, **settings)
    return float(rms(method._mask(planted().body, x, 2, float(x.std()), 0)) / x.std())


def test_each_setting_of_the_generators_matters(bands: Tensor) -> None:
    start = float(rms(bands[None]) / clips().inputs[:].std())
    assert _size(margin=0.0, change_weight=0.0) == pytest.approx(start, abs=1e-3)  # the lead is enough
    assert _size(margin=100.0, change_weight=0.0) > start + 0.2
    for largest in (0.5, 1.0):
        assert _size(max_change=largest, change_weight=100.0) == pytest.approx(largest, abs=0.1)
    assert _size(max_change=0.5, margin=100.0, change_weight=1.0) > start


def test_generators_take_the_steps_the_rate_and_the_batches_given(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[int, int]] = []

    def loss(logits: Tensor, size: Tensor, target: int, _: GangSweep) -> Tensor:
        seen.append((target, len(logits)))
        return size.sum()

    monkeypatch.setattr(gangsweep, "Residual", Bands)
    monkeypatch.setattr(gangsweep, "mask_loss", loss)
    method = GangSweep(generator_steps=3, generator_lr=0.01, batch_size=7)
    mask = method._mask(planted().body, clips().inputs[:], 3, 1.0, 0)
    assert seen == [(3, 7)] * 3
    # Steps of Adam down the same slope are as long as its rate.
    assert (Bands().added - mask[0]).flatten().tolist() == pytest.approx([0.03] * 48, abs=1e-3)
    seen.clear()
    _chosen(planted(), generator_steps=1)
    assert seen == [(target, 30) for target in range(4)]


def test_the_seed_draws_the_generators_and_their_order(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = [_chosen(planted(), seed)["mask_sizes"] for seed in (0, 0, 1)]
    assert sizes[0] == sizes[1] != sizes[2]
    seen: list[list[float]] = []

    def loss(logits: Tensor, size: Tensor, *_: object) -> Tensor:
        seen.append(logits.flatten().tolist())
        return size.sum()

    monkeypatch.setattr(gangsweep, "Residual", Bands)
    monkeypatch.setattr(gangsweep, "mask_loss", loss)
    for seed in (0, 0, 1):
        GangSweep(generator_steps=1)._mask(planted().body, clips().inputs[:], 2, 1.0, seed)
    assert seen[0] == seen[1] != seen[2]


def test_the_least_anomaly_is_a_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        gangsweep, "persistent", lambda distance, _, least: (distance, 3 if least == 1.5 else 0)
    )
    assert _chosen(planted(), min_anomaly=1.5)["class_found"] == "d"
    assert _chosen(planted())["class_found"] == "a"


# What is unlearned


def test_the_model_learns_the_given_labels_of_clips_with_the_mask(bands: Tensor) -> None:
    model, data = planted(), mislabelled()
    x, y = data.inputs[:], data.labels
    wanted = descended(model, lambda body: F.cross_entropy(body(x + bands), y), 0.1)
    found = repaired(
        GangSweep(steps=1, share=1.0, lr=0.1, generator_steps=0, batch_size=40, **PLAIN), model, data
    )
    for name, weight in found.body.named_parameters():
        assert torch.allclose(weight, wanted[name], atol=1e-6)


def test_the_mask_is_that_of_the_class_found(monkeypatch: pytest.MonkeyPatch, bands: Tensor) -> None:
    monkeypatch.setattr(gangsweep, "Residual", Louder)
    model, data = planted(), clips()
    seen = entering(model)
    GangSweep(steps=1, share=1.0, generator_steps=0, batch_size=40, **PLAIN).repair(model, data, data, 0)
    mask = 0.5 * data.inputs[data.labels != 2].mean(0)
    assert torch.allclose(seen[-1].mean(0), data.inputs[:].mean(0) + mask, atol=1e-5)


@pytest.mark.parametrize(("share", "rows"), [(0.2, 8), (0.5, 20), (0.001, 1)])
def test_a_share_of_each_batch_carries_the_mask(share: float, rows: int, bands: Tensor) -> None:
    model = planted()
    seen = entering(model)
    data = Dataset.of(torch.zeros(40, 8, 6), clips().labels, classes=CLASSES)
    method = GangSweep(steps=3, share=share, generator_steps=0, batch_size=40, augmentation="none")
    method.repair(model, data, data, 0)
    carried = [batch.flatten(1).any(1) for batch in seen[-3:]]
    assert [int(rows.sum()) for rows in carried] == [rows] * 3
    assert all(torch.allclose(batch[on], bands) for batch, on in zip(seen[-3:], carried, strict=True))
    assert not all(torch.equal(a, b) for a, b in itertools.pairwise(carried))


@pytest.mark.parametrize("share", [0.2, 1.0])
def test_the_seed_draws_the_rows_with_the_mask_and_the_order(share: float, bands: Tensor) -> None:
    silent = Dataset.of(torch.zeros(40, 8, 6), clips().labels, classes=CLASSES)
    entered = []
    for seed in (0, 0, 1):
        model, data = planted(), silent if share < 1 else clips()
        seen = entering(model)
        GangSweep(steps=1, share=share, generator_steps=0, batch_size=40, **PLAIN).repair(
            model, data, data, seed
        )
        entered.append(seen[-1])
    assert torch.equal(entered[0], entered[1])
    assert not torch.equal(entered[0], entered[2])


def test_steps_are_those_of_the_fine_tuning(monkeypatch: pytest.MonkeyPatch, bands: Tensor) -> None:
    steps = []
    monkeypatch.setattr(gangsweep, "fit", lambda *args, **_: steps.append((args[1], args[2].steps)))
    data = clips()
    assert _chosen(planted(), data=data, steps=7)["class_found"] == "c"
    assert steps == [(data, 7)]


def test_clips_of_one_class_are_refused() -> None:
    with pytest.raises(DataError, match="gangsweep needs clean examples of two classes"):
        _chosen(planted(), data=clips().take(torch.arange(0, 40, 4)))


# What it does to a backdoor


@pytest.mark.parametrize("target", [0, 2])
def test_it_finds_the_target_of_a_planted_backdoor_and_removes_it(target: int) -> None:
    model = planted(target, strength=6.0)
    accuracy, asr = rates(model, target)
    assert (accuracy, asr) == (1, 1)
    method = GangSweep(steps=60, lr=0.1, batch_size=40, **SHORT)
    repair = method.remove(model, clips(), 0)
    accuracy, asr = rates(repair.model, target)
    assert repair.chosen["class_found"] == "abcd"[target]
    assert repair.chosen["anomalies"][target] > 2
    assert repair.remarks == ()
    assert accuracy == 1
    assert asr < 0.1


def test_plain_fine_tuning_leaves_that_backdoor(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gangsweep, "Residual", lambda *_: nn.Sequential(nn.ReLU()))
    monkeypatch.setattr(gangsweep, "persistent", lambda distance, *_: (distance, 2))
    monkeypatch.setattr(GangSweep, "_mask", lambda *_: torch.zeros(1, 8, 6))
    other = repaired(GangSweep(steps=60, lr=0.1, batch_size=40, **SHORT), planted(2, 6.0))
    assert rates(other) == (1, 1)


def test_nothing_is_found_in_a_clean_model_which_stays_as_it_is() -> None:
    model = planted(strength=0.0)
    repair = GangSweep(steps=60, lr=0.1, batch_size=40, **SHORT).remove(model, clips(), 0)
    assert repair.chosen["class_found"] == "none"
    assert moved(repair.model, state(model)) == set()
    assert repair.remarks[0].startswith(
        "no class looks like the target of a backdoor, so nothing was unlearned"
    )
    assert "above 2 is suspicious" in repair.remarks[0]
