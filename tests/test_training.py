"""The training loop: it does what its settings say, learns, repeats, and stops by validation alone."""

import copy
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.optim.optimizer import register_optimizer_step_pre_hook

from closesesame.core import machine
from closesesame.core.errors import DataError, ModelError, SettingError
from closesesame.data import Dataset, Splits
from closesesame.models import ARCHITECTURES, Classifier, adapt
from closesesame.models.front_ends import LogMel, Wrapped
from closesesame.models.hooks import on_input
from closesesame.training import (
    Batch,
    History,
    Training,
    accuracy,
    backpropagate,
    fit,
    on_features,
    predict,
    train,
    untrained,
)
from closesesame.training.predicting import FEATURE_CACHE_BYTES
from tests.conftest import QUICK, SMALL, make_tones

PLAIN: dict[str, Any] = {"augmentation": "none", "precision": "fp32"}


def numbered(n: int) -> Dataset:
    """Inputs of three numbers; the first is the place of the example, and the label is odd or even."""
    place = torch.arange(n)
    inputs = torch.stack([place.float(), torch.ones(n), -torch.ones(n)], 1)
    return Dataset.of(inputs, place % 2, classes=["even", "odd"])


def line(*before: nn.Module) -> Classifier:
    """A model of one layer, whose features are its inputs."""
    with torch.random.fork_rng(devices=[]):
        torch.random.manual_seed(0)
        body = nn.Sequential(*before, nn.Linear(3, 2))
    return adapt(body, ("even", "odd"), (3,), None)


def layer_of(model: Classifier) -> nn.Linear:
    *_, layer = model.body.children()
    assert isinstance(layer, nn.Linear)
    return layer


@contextmanager
def features_of(model: Classifier) -> Iterator[list[Tensor]]:
    """The features of each batch that the body is trained on."""
    seen: list[Tensor] = []
    hook = model.body.register_forward_pre_hook(
        lambda body, given: seen.append(given[0].clone()) if body.training else None
    )
    yield seen
    hook.remove()


@contextmanager
def groups_at_steps() -> Iterator[list[dict[str, Any]]]:
    """What the optimizer is set to at each of its steps, and its class."""
    seen: list[dict[str, Any]] = []

    def look(optimizer: torch.optim.Optimizer, *_: object) -> None:
        (group,) = optimizer.param_groups
        seen.append({**group, "class": type(optimizer), "params": len(group["params"])})

    hook = register_optimizer_step_pre_hook(look)
    yield seen
    hook.remove()


def test_it_learns_tones(clean_model: Classifier, tones: Splits) -> None:
    assert accuracy(clean_model, tones.test) > 0.97


def test_same_seed_same_weights_and_the_global_generator_is_left_alone(tones: Splits) -> None:
    few, short = tones.train.take(torch.arange(64)), QUICK.model_copy(update={"epochs": 1})
    state = torch.random.get_rng_state()
    first, again, other = (train(SMALL, few, short, seed=s).state_dict() for s in (0, 0, 1))
    assert torch.equal(torch.random.get_rng_state(), state)
    assert all(torch.equal(value, again[name]) for name, value in first.items())
    assert not torch.equal(first["body.head.weight"], other["body.head.weight"])


def test_validation_data_change_nothing_where_nobody_watches_them(tones: Splits) -> None:
    few, short = tones.train.take(torch.arange(64)), QUICK.model_copy(update={"epochs": 1})
    loud = tones.validation.with_inputs(
        tones.validation.inputs.replace(torch.arange(40), torch.ones(40, 4000))
    )
    alone, beside = (train(SMALL, few, short, seed=0, validation=part).state_dict() for part in (None, loud))
    assert all(torch.equal(value, beside[name]) for name, value in alone.items())


@pytest.mark.parametrize("name", ARCHITECTURES)
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_every_architecture_trains_in_both_precisions(name: str, precision: str, tones: Splits) -> None:
    few = tones.train.take(torch.arange(32))
    settings = {"epochs": 3, "batch_size": 16, "precision": precision, "augmentation": "strong", "lr": 1e-3}
    architecture = ARCHITECTURES.make(name, ARCHITECTURES[name].quick)
    model = architecture.build(few.classes, few.input_shape, few.sample_rate, seed=0)
    if precision == "bf16" and not machine.has_bf16(torch.device("cpu")):
        with pytest.raises(SettingError, match="'bf16' needs"):
            fit(model, few, Training(**settings), seed=0)
        return
    history = fit(model, few, Training(**settings), seed=0)
    assert len(history.loss) == 3
    assert history.precision == precision
    assert all(0 < loss < 5 for loss in history.loss)
    assert not model.training


def test_each_epoch_sees_each_example_once_in_an_order_of_its_own() -> None:
    model = line()
    with features_of(model) as seen:
        fit(model, numbered(40), Training(steps=10, batch_size=24, **PLAIN), seed=0)
    # The second batch reaches over the end of the first epoch, so that all are full.
    assert [len(features) for features in seen] == [24] * 10
    epochs = torch.cat(seen)[:, 0].long().reshape(6, 40)
    assert all(torch.equal(epoch.sort().values, torch.arange(40)) for epoch in epochs)
    assert len({tuple(epoch.tolist()) for epoch in epochs}) == 6
    with features_of(model) as other:
        fit(model, numbered(40), Training(steps=10, batch_size=24, **PLAIN), seed=1)
    assert not torch.equal(torch.cat(seen), torch.cat(other))


def test_labels_stay_with_their_examples(monkeypatch: pytest.MonkeyPatch) -> None:
    pairs: list[tuple[Tensor, Tensor]] = []

    def spy(logits: Tensor, labels: Tensor) -> Tensor:
        pairs.append((model_sees[-1][:, 0], labels))
        return logits.square().mean()

    monkeypatch.setattr("closesesame.training.loop.F.cross_entropy", spy)
    model = line()
    with features_of(model) as model_sees:
        fit(model, numbered(10), Training(steps=4, batch_size=4, **PLAIN), seed=0)
    assert len(pairs) == 4
    assert all(torch.equal(places.long() % 2, labels) for places, labels in pairs)


def test_a_rule_is_told_which_rows_its_features_and_labels_are(monkeypatch: pytest.MonkeyPatch) -> None:
    data, seen = numbered(10), []

    def rule(body: nn.Module, batch: Batch) -> Tensor:
        assert torch.equal(batch.features, data.inputs[batch.index])
        assert torch.equal(batch.labels, data.labels[batch.index])
        seen.append(batch.index)
        return backpropagate(body, batch)

    for cached in (FEATURE_CACHE_BYTES, 0):
        monkeypatch.setattr("closesesame.training.predicting.FEATURE_CACHE_BYTES", cached)
        fit(line(), data, Training(steps=5, batch_size=4, **PLAIN), seed=0, gradient=rule)
    epochs = torch.cat(seen).reshape(4, 10)
    assert all(torch.equal(epoch.sort().values, torch.arange(10)) for epoch in epochs)


def test_a_batch_with_other_features_is_the_same_batch_in_all_else() -> None:
    batch = Batch(torch.zeros(2, 3), torch.tensor([1, 0]), torch.tensor([7, 5]), "bf16")
    other = batch.with_features(torch.ones(2, 3))
    assert torch.equal(other.features, torch.ones(2, 3))
    assert (other.labels.tolist(), other.index.tolist(), other.precision) == ([1, 0], [7, 5], "bf16")
    assert other.logits(nn.Linear(3, 2)).dtype == torch.bfloat16


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_training_tells_the_blocks_around_it_what_it_runs_in(
    precision: machine.Precision, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine, "has_bf16", lambda _: True)
    other: machine.Precision = "bf16" if precision == "fp32" else "fp32"
    with machine.precision(other) as outer, machine.precision("auto") as inner:
        fit(line(), numbered(8), Training(steps=1, augmentation="none", precision=precision), seed=0)
        assert outer == inner == {precision}
        fit(line(), numbered(8), Training(steps=1, augmentation="none"), seed=0)
    assert outer == inner == {"fp32", "bf16"}


@pytest.mark.parametrize(
    ("settings", "batches"),
    [
        ({"epochs": 3, "batch_size": 4}, [4] * 6),
        ({"epochs": 3, "batch_size": 4, "steps": 5}, [4] * 5),
        ({"epochs": 2, "batch_size": 64}, [8] * 2),  # a batch is the whole set at most
        ({"epochs": 0}, []),
        ({"steps": 0}, []),
    ],
)
def test_epochs_or_steps_say_how_long(settings: dict[str, Any], batches: list[int]) -> None:
    model = line()
    before = layer_of(model).weight.clone()
    with features_of(model) as seen:
        fit(model, numbered(8), Training(**settings, **PLAIN), seed=0)
    assert [len(features) for features in seen] == batches
    assert torch.equal(layer_of(model).weight, before) == (not batches)
    assert not model.training


def one_cycle(step: int) -> float:
    """Up from 1/25 of the peak in the first three of ten steps, then down to 1/250000 of it, by cosines."""
    low, lowest = 1 / 25, 1 / 250_000
    if step <= 2:
        return 1 + (low - 1) * (1 + math.cos(math.pi * step / 2)) / 2
    return lowest + (1 - lowest) * (1 + math.cos(math.pi * (step - 2) / 7)) / 2


@pytest.mark.parametrize(
    ("schedule", "share"),
    [
        ("one_cycle", one_cycle),
        ("cosine", lambda step: (1 + math.cos(math.pi * step / 9)) / 2),
        ("constant", lambda step: 1.0),
    ],
)
@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_the_learning_rate_follows_its_schedule(schedule: str, share: Any, optimizer: str) -> None:
    settings = {"schedule": schedule, "optimizer": optimizer, "lr": 0.2, "momentum": 0.8}
    with groups_at_steps() as seen:
        fit(line(), numbered(8), Training(epochs=9, **settings, **PLAIN), seed=0)
    assert [group["lr"] for group in seen] == pytest.approx([0.2 * share(step) for step in range(9)])
    if optimizer == "sgd":
        assert {group["momentum"] for group in seen} == {0.8}


def test_settings_reach_the_optimizer() -> None:
    settings = {"lr": 0.1, "weight_decay": 0.3, "schedule": "constant", "steps": 1, **PLAIN}
    sgd = {"optimizer": "sgd", "momentum": 0.6}
    with groups_at_steps() as seen:
        for more in ({"optimizer": "adamw"}, {**sgd, "nesterov": True}, {**sgd, "nesterov": False}):
            fit(line(), numbered(8), Training(**settings, **more), seed=0)
    adamw, nesterov, plain = seen
    assert (adamw["class"], adamw["lr"], adamw["weight_decay"]) == (torch.optim.AdamW, 0.1, 0.3)
    for group in (nesterov, plain):
        assert (group["class"], group["lr"], group["momentum"]) == (torch.optim.SGD, 0.1, 0.6)
        assert group["weight_decay"] == 0.3
    assert [group["nesterov"] for group in (nesterov, plain)] == [True, False]


def test_what_is_frozen_and_the_front_end_are_not_trained(tones: Splits) -> None:
    few = tones.train.take(torch.arange(16))
    model = SMALL.build(few.classes, few.input_shape, few.sample_rate, seed=0)
    count = len([*model.body.parameters()])
    for name, parameter in model.body.named_parameters():
        parameter.requires_grad = not name.startswith("head.")
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with groups_at_steps() as seen:
        fit(model, few, Training(steps=2, batch_size=8, precision="fp32"), seed=0)
    assert {group["params"] for group in seen} == {count - 2}
    changed = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
    assert changed
    assert not [name for name in changed if name.startswith(("front_end", "body.head"))]


def test_the_rule_gets_no_gradient_of_an_earlier_batch_and_its_losses_are_averaged_by_epoch() -> None:
    losses = iter([1.0, 2.0, 3.0, 5.0, 8.0, 0.0, 9.0])

    def rule(body: nn.Module, batch: Batch) -> Tensor:
        assert all(p.grad is None for p in body.parameters())
        assert body.training
        batch.loss(body).backward()
        return torch.tensor(next(losses))

    history = fit(line(), numbered(8), Training(steps=7, batch_size=4, **PLAIN), seed=0, gradient=rule)
    assert history.loss == [1.5, 4.0, 4.0]  # the seventh batch ends no epoch
    assert history.validation_loss == []


def test_a_model_without_weights_to_train_is_refused() -> None:
    frozen = line().requires_grad_(False)
    with pytest.raises(ModelError, match="has no weights that can be trained"):
        fit(frozen, numbered(8), Training(steps=2, batch_size=4, **PLAIN), seed=0)


def test_what_comes_after_an_epoch_sees_the_weights_that_its_last_step_left() -> None:
    def weights(steps: int, seen: list[tuple[int, Tensor]] | None = None) -> Tensor:
        model = line()
        training = Training(steps=steps, batch_size=4, schedule="constant", **PLAIN)

        def look(epoch: int, watched: Classifier) -> None:
            assert watched is model
            assert not watched.training  # a batch norm would learn from what is looked at
            assert seen is not None
            seen.append((epoch, layer_of(model).weight.detach().clone()))

        fit(model, numbered(8), training, seed=0, after_epoch=None if seen is None else look)
        return layer_of(model).weight.detach()

    seen: list[tuple[int, Tensor]] = []
    assert torch.equal(weights(5, seen), weights(5))
    assert [epoch for epoch, _ in seen] == [1, 2]  # the fifth batch ends no epoch
    assert torch.equal(seen[0][1], weights(2))
    assert torch.equal(seen[1][1], weights(4))


def test_a_step_goes_down_the_slope_of_the_cross_entropy() -> None:
    model, data = line(), numbered(6)
    weight = layer_of(model).weight
    loss = nn.functional.cross_entropy(model(data.inputs[:]), data.labels)
    (slope,) = torch.autograd.grad(loss, [weight])
    wanted = weight.detach() - 0.1 * slope
    settings = {"optimizer": "sgd", "lr": 0.1, "momentum": 0, "weight_decay": 0, "schedule": "constant"}
    history = fit(model, data, Training(steps=1, **settings, **PLAIN), seed=0)
    assert torch.allclose(weight, wanted, atol=1e-6)
    assert history.loss == pytest.approx([loss.item()])


def test_augmentation_acts_on_each_training_batch_as_its_seed_says() -> None:
    # All clips are one, so the order makes no difference.
    data = make_tones(1, 0).take(torch.zeros(8, dtype=torch.long))

    def seen_with(kind: str, seed: int) -> Tensor:
        model = SMALL.build(data.classes, data.input_shape, data.sample_rate, seed=0)
        with features_of(model) as seen:
            settings = {"steps": 2, "batch_size": 8, "augmentation": kind, "precision": "fp32"}
            fit(model, data, Training(**settings), seed=seed)
        assert len(seen) == 2
        return torch.cat(seen)

    plain, light, strong = (seen_with(kind, 0) for kind in ("none", "light", "strong"))
    features = SMALL.build(data.classes, data.input_shape, data.sample_rate, seed=0).front_end(
        data.inputs[:1]
    )
    assert torch.equal(plain, features.expand_as(plain))
    for kind, found in (("light", light), ("strong", strong)):
        assert len({tuple(clip.flatten().tolist()) for clip in found}) == 16
        assert torch.equal(found, seen_with(kind, 0))
        assert not torch.equal(found, seen_with(kind, 1))
    # Light moves and covers, strong changes the values too.
    values = {*features.flatten().tolist(), 0.0}
    assert set(light.flatten().tolist()) <= values
    assert not set(strong.flatten().tolist()) <= values


def test_the_seed_decides_dropout() -> None:
    # All examples are one, so no order is another training.
    data = numbered(1).take(torch.zeros(8, dtype=torch.long))

    def weights(seed: int) -> Tensor:
        model = line(nn.Dropout(0.5))
        fit(model, data, Training(steps=3, batch_size=8, **PLAIN), seed=seed)
        return layer_of(model).weight.detach()

    first = weights(0)
    torch.rand(3)  # the global generator is somewhere else now
    assert torch.equal(weights(0), first)
    assert not torch.allclose(weights(1), first)


def test_only_patience_looks_at_validation_and_training_goes_on_in_training_mode() -> None:
    data = numbered(8)
    modes: list[bool] = []

    def run(patience: int | None) -> History:
        model = line()
        hook = model.body.register_forward_pre_hook(lambda body, _: modes.append(body.training))
        settings = Training(epochs=3, patience=patience, **PLAIN)
        history = fit(model, data, settings, seed=0, validation=numbered(4))
        hook.remove()
        assert not model.training
        return history

    assert run(None).validation_loss == []
    assert modes == [True] * 3
    modes.clear()
    assert len(run(3).validation_loss) == 3
    assert modes == [True, False] * 3


def test_training_stops_after_patience_epochs_without_a_better_one_and_keeps_the_best(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Its bias says after which epoch a model was; the losses are read from a list.
    found = iter([5.0, 4.0, 4.5, 3.0, 3.0, 6.0, 1.0])
    monkeypatch.setattr("closesesame.training.loop.F.cross_entropy", lambda *_: torch.tensor(next(found)))
    model = line()
    bias = layer_of(model).bias

    def count(body: nn.Module, batch: Batch) -> Tensor:
        bias.data += 1
        return torch.zeros(())

    start = bias.clone()
    settings = Training(epochs=7, patience=2, **PLAIN)
    history = fit(model, numbered(8), settings, seed=0, validation=numbered(4), gradient=count)
    assert history.validation_loss == [5.0, 4.0, 4.5, 3.0, 3.0, 6.0]
    assert torch.allclose(bias, start + 4)


def test_it_stops_when_validation_gets_no_better_and_keeps_the_best(tones: Splits) -> None:
    few = tones.train.take(torch.arange(64))
    model = SMALL.build(few.classes, few.input_shape, few.sample_rate, seed=0)
    # Labels without meaning cannot be learned, so validation gets worse soon.
    rng = torch.Generator().manual_seed(0)
    noise = few.with_labels(torch.randint(4, (64,), generator=rng))
    held = tones.validation.with_labels(torch.randint(4, (40,), generator=rng))
    settings = Training(epochs=60, batch_size=32, lr=0.05, patience=3, schedule="constant", precision="fp32")
    history = fit(model, noise, settings, seed=0, validation=held)
    assert len(history.loss) < 60
    best = min(history.validation_loss)
    assert history.validation_loss.index(best) == len(history.validation_loss) - 4
    loss = torch.nn.functional.cross_entropy(predict(model, held), held.labels)
    assert float(loss) == pytest.approx(best, rel=1e-4)


def test_features_computed_batch_by_batch_give_the_same_model(
    tones: Splits, monkeypatch: pytest.MonkeyPatch
) -> None:
    few, short = tones.train.take(torch.arange(64)), QUICK.model_copy(update={"epochs": 1})
    kept = train(SMALL, few, short, seed=0)
    monkeypatch.setattr("closesesame.training.predicting.FEATURE_CACHE_BYTES", 0)
    computed = train(SMALL, few, short, seed=0)
    x = few.inputs[:4]
    assert torch.allclose(kept(x), computed(x), atol=1e-4)


def test_what_cannot_be_trained_is_refused(tones: Splits) -> None:
    one = Dataset.of(
        torch.zeros(4, 4000), torch.zeros(4, dtype=torch.long), classes=["a", "b"], sample_rate=8000
    )
    with pytest.raises(DataError, match="two classes"):
        train(SMALL, one, QUICK, seed=0)
    with pytest.raises(DataError, match="patience needs validation"):
        train(SMALL, tones.train, Training(patience=2), seed=0)


def test_predictions_are_in_order_in_evaluation_mode_and_leave_the_mode_as_it_was() -> None:
    data, model = numbered(10), line(nn.Dropout(0.5))
    wanted = model.eval()(data.inputs[:])
    with machine.precision("fp32"):
        for training in (True, False):
            model.train(training)
            found = predict(model, data, batch_size=4)
            assert torch.allclose(found, wanted, atol=1e-6)
            assert not found.requires_grad
            assert model.training == training
        nothing = predict(model, data.take(torch.arange(0)))
        assert nothing.shape == (0, 2)
        right = (wanted.argmax(1) == data.labels).sum()
        assert accuracy(model, data) == pytest.approx(float(right) / 10)


def test_a_model_that_fails_to_answer_is_left_in_the_mode_it_was_in() -> None:
    class Fails(nn.Module):
        def forward(self, inputs: Tensor) -> Tensor:
            raise RuntimeError("no answer")

    model = line()
    model.front_end = Wrapped(Fails())
    model.train()
    for ask in (predict, on_features):
        with pytest.raises((RuntimeError, ModelError), match="no answer"):
            ask(model, numbered(4))
    assert all(module.training for module in model.modules())


def test_a_new_model_has_weights_of_its_seed_and_may_be_watched_by_validation(tones: Splits) -> None:
    few, bare = tones.train.take(torch.arange(16)), Training(epochs=0, precision="fp32")
    first, again, other = (train(SMALL, few, bare, seed=seed).state_dict() for seed in (0, 0, 1))
    name = "body.head.weight"
    assert torch.equal(first[name], again[name])
    assert not torch.equal(first[name], other[name])
    watched = bare.model_copy(update={"epochs": 1, "patience": 1})
    model = train(SMALL, few, watched, seed=0, validation=tones.validation)
    assert not torch.equal(model.state_dict()[name], first[name])


def test_a_new_model_is_calibrated_on_its_training_data(tones: Splits) -> None:
    few = tones.train.take(torch.arange(32))
    model = train(SMALL, few, Training(epochs=0, precision="fp32"), seed=0)
    maps = model.front_end(few.inputs[:])
    assert float(maps.mean()) == pytest.approx(0, abs=1e-3)
    assert float(maps.std()) == pytest.approx(1, abs=1e-3)


def test_a_new_model_is_calibrated_on_a_sample_of_its_own_seed(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[str, ...]] = []
    monkeypatch.setattr(LogMel, "calibrate", lambda _, data: seen.append(data.ids))
    data = make_tones(400, 0)
    for seed in (3, 4):
        untrained(SMALL, data, seed=seed)
    assert seen == [data.sample(256 / 400, seed).ids for seed in (3, 4)]
    assert seen[0] != seen[1]


def test_a_new_model_is_trained_on_the_device_of_its_settings(
    tones: Splits, monkeypatch: pytest.MonkeyPatch
) -> None:
    few, settings = tones.train.take(torch.arange(16)), Training(epochs=0, precision="fp32", device="cuda:1")
    asked = []

    def choose(wanted: str, *, setting: str) -> torch.device:
        asked.append((wanted, setting))
        return torch.device("meta")

    monkeypatch.setattr(machine, "choose_device", choose)
    model = train(SMALL, few, settings, seed=0)
    assert asked == [("cuda:1", "Training.device")]
    assert {value.device.type for value in model.state_dict().values()} == {"meta"}
    assert model.device.type == "meta"
    assert model.features(few).device.type == "meta"


def test_a_device_that_is_not_there_is_refused_before_the_work(
    tones: Splits, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(type(SMALL), "build", lambda *_, **__: pytest.fail("it built a model"))
    with pytest.raises(SettingError, match="^Training.device 'cuda' is not there: torch finds 0 CUDA GPUs;"):
        train(SMALL, tones.train, Training(device="cuda"), seed=0)
    with pytest.raises(SettingError, match="^Training.device must be cpu, cuda, .*, got 'abacus'$"):
        Training(device="abacus")


def test_a_model_is_trained_further_where_it_is(tones: Splits) -> None:
    few = tones.train.take(torch.arange(16))
    model = train(SMALL, few, Training(epochs=0, precision="fp32"), seed=0)
    fit(model, few, Training(epochs=1, precision="fp32", device="cuda"), seed=0)
    assert model.device.type == "cpu"


def test_features_that_no_data_set_holds_are_not_kept(clean_model: Classifier, tones: Splits) -> None:
    class Halves(nn.Module):
        def forward(self, wav: Tensor) -> Tensor:
            return wav.bfloat16()

    model = copy.deepcopy(clean_model)
    model.front_end = Wrapped(nn.Sequential(model.front_end, Halves()))
    short, data = on_features(model, tones.test)
    assert short is model
    assert data is tones.test


def test_features_too_large_for_memory_are_not_kept(
    clean_model: Classifier, tones: Splits, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = tones.test
    size = clean_model.features(data).nbytes
    for room, kept in ((size, True), (size - 1, False)):
        monkeypatch.setattr("closesesame.training.predicting.FEATURE_CACHE_BYTES", room)
        short, features = on_features(clean_model, data)
        assert (short is not clean_model) is kept
        assert (features is not data) is kept


def test_who_changes_the_body_alone_runs_the_front_end_once(clean_model: Classifier, tones: Splits) -> None:
    model, seen, data = copy.deepcopy(clean_model), list[Tensor](), tones.validation
    model.front_end = Wrapped(nn.Sequential(nn.Dropout(0.5), model.front_end)).train()
    model.body.eval()
    with on_input(model.front_end, seen.append):
        short, features = on_features(model, data)
        answers = predict(short, features)
    assert [len(inputs) for inputs in seen] == [1, len(data)]  # one clip tells how large all are
    assert (model.front_end.training, model.body.training) == (True, False)
    assert torch.equal(answers, predict(model, data))
    layer = next(model.body.parameters())
    layer.data.zero_()
    assert not torch.equal(answers, predict(short, features))
    with pytest.raises(ModelError, match="load them as the model takes them"):
        on_features(model, replace(data, sample_rate=16_000))
