"""The training loop: it learns, repeats, and stops by validation alone."""

import pytest
import torch

from closesesame.core.errors import DataError
from closesesame.data import Dataset, Splits
from closesesame.models import ARCHITECTURES, Classifier
from closesesame.training import Training, accuracy, choose_precision, fit, predict, train
from tests.conftest import QUICK, SMALL


def test_it_learns_tones(clean_model: Classifier, tones: Splits) -> None:
    assert accuracy(clean_model, tones.test) > 0.97


def test_same_seed_same_weights_and_the_global_generator_is_left_alone(tones: Splits) -> None:
    few, short = tones.train.take(torch.arange(64)), QUICK.model_copy(update={"epochs": 1})
    state = torch.random.get_rng_state()
    first, again, other = (train(SMALL, few, short, seed=s).state_dict() for s in (0, 0, 1))
    assert torch.equal(torch.random.get_rng_state(), state)
    assert all(torch.equal(value, again[name]) for name, value in first.items())
    assert not torch.equal(first["body.head.weight"], other["body.head.weight"])


@pytest.mark.parametrize("name", ARCHITECTURES)
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_every_architecture_trains_in_both_precisions(name: str, precision: str, tones: Splits) -> None:
    few = tones.train.take(torch.arange(32))
    settings = {"epochs": 3, "batch_size": 16, "precision": precision, "augmentation": "strong", "lr": 1e-3}
    extra = {"depth": 2} if name == "kwt" else {}
    architecture = ARCHITECTURES.make(name, extra)
    model = architecture.build(few.classes, few.input_shape, few.sample_rate, seed=0)
    history = fit(model, few, Training(**settings), seed=0)
    assert len(history.loss) == 3
    assert history.precision == precision
    assert all(0 < loss < 5 for loss in history.loss)
    assert not model.training


def test_steps_count_batches_and_every_example_is_seen_equally(tones: Splits) -> None:
    seen: list[torch.Tensor] = []
    few = tones.train.take(torch.arange(40))
    model = SMALL.build(few.classes, few.input_shape, few.sample_rate, seed=0)

    def spy(body: torch.nn.Module, loss: object) -> torch.Tensor:
        value = loss()  # type: ignore[operator]
        value.backward()
        seen.append(next(iter(body.parameters())).grad.clone())  # type: ignore[union-attr]
        return value  # type: ignore[no-any-return]

    fit(model, few, Training(steps=7, batch_size=24, precision="fp32"), seed=0, gradient=spy)
    assert len(seen) == 7


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
    monkeypatch.setattr("closesesame.training.FEATURE_CACHE_BYTES", 0)
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


def test_precision_is_as_asked_or_as_the_host_has_it() -> None:
    layer = torch.nn.Linear(1, 1)
    assert choose_precision("bf16", layer) == "bf16"
    assert choose_precision("fp32", layer) == "fp32"
    can = torch.cpu.get_capabilities()
    expected = "bf16" if can.get("amx_bf16") or can.get("avx512_bf16") else "fp32"
    assert choose_precision("auto", layer) == expected
