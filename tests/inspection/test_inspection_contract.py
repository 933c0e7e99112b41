"""What holds for every inspection."""

import copy
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from torch import nn

from closesesame.core.errors import ClosesesameError, DataError, DivergedError, ModelError
from closesesame.core.seeding import isolated
from closesesame.data import Dataset, Splits
from closesesame.inspection import INSPECTIONS, Inspection, Verdict, load_verdict
from closesesame.models import ARCHITECTURES, Classifier
from closesesame.models.matching import data_for
from closesesame.training import train
from tests.conftest import QUICK, RATE, SMALL

ALL = pytest.mark.parametrize("name", INSPECTIONS)
STEADY: dict[str, dict[str, object]] = {"max_margin": {"calibrated": True}}
"""Settings at which the false alarms of a method are as many as it says."""


def quick(name: str) -> Inspection:
    return INSPECTIONS.make(name, INSPECTIONS[name].quick)


@ALL
def test_the_model_is_left_alone_and_the_seed_repeats(
    name: str, clean_model: Classifier, tones: Splits
) -> None:
    kept, state = copy.deepcopy(clean_model.state_dict()), torch.random.get_rng_state()
    clean_model.train()
    first, again = (quick(name).inspect(clean_model, tones.validation, 5) for _ in range(2))
    assert clean_model.training
    clean_model.eval()
    assert torch.equal(torch.random.get_rng_state(), state)
    assert all(torch.equal(value, kept[key]) for key, value in clean_model.state_dict().items())
    assert all(weight.requires_grad and weight.grad is None for weight in clean_model.body.parameters())
    assert first.statistics == again.statistics
    assert first.p_value == again.p_value
    assert set(first.statistics) == set(clean_model.card.classes)
    assert (first.method, first.settings) == (name, quick(name).settings())
    assert first.seconds > 0


@ALL
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_every_architecture_can_be_inspected(name: str, architecture: str, tones: Splits) -> None:
    model = ARCHITECTURES.make(architecture, {"depth": 2} if architecture == "kwt" else {}).build(
        tones.train.classes, tones.train.input_shape, tones.train.sample_rate, seed=0
    )
    assert len(quick(name).inspect(model, tones.validation, 0).statistics) == 4


class Turned(nn.Module):
    """A body whose logits stand in another order."""

    def __init__(self, body: nn.Module, order: torch.Tensor) -> None:
        super().__init__()
        self.body, self.order = body, order

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.body(features)
        return logits[:, self.order]


@ALL
def test_classes_in_another_order_give_the_same(name: str, clean_model: Classifier, tones: Splits) -> None:
    order = ("top", "low", "high", "middle")
    places = torch.tensor([clean_model.card.classes.index(word) for word in order])
    card = replace(clean_model.card, classes=order)
    turned = Classifier(clean_model.front_end, Turned(clean_model.body, places), card)
    first, other = (quick(name).inspect(model, tones.validation, 0) for model in (clean_model, turned))
    assert other.statistics == pytest.approx(first.statistics)
    assert other.target == first.target
    shuffled = quick(name).inspect(clean_model, data_for(card, tones.validation), 0)
    assert shuffled.statistics == pytest.approx(first.statistics)


@ALL
def test_any_module_from_inputs_to_logits_will_do(name: str, tones: Splits) -> None:
    with isolated(0):
        module = nn.Sequential(nn.Linear(4000, 8), nn.ReLU(), nn.Linear(8, 4))
    assert set(quick(name).inspect(module, tones.validation, 0).statistics) == set(tones.train.classes)
    with pytest.raises(DataError, match="a module that is not ours does not know its classes"):
        quick(name).inspect(module, None, 0)


def make_words(n: int, seed: int) -> Dataset:
    """Ten 'words', each a pair of tones."""
    rng = torch.Generator().manual_seed(seed)
    labels = torch.arange(n) % 10
    base = 200 * 1.3 ** labels[:, None]
    time = torch.arange(RATE // 2) / RATE
    phase = 6.28 * torch.rand(n, 2, 1, generator=rng)
    wav = torch.sin(6.2832 * base * time + phase[:, 0]) + torch.sin(6.2832 * 1.5 * base * time + phase[:, 1])
    wav = 0.1 * (0.5 + torch.rand(n, 1, generator=rng)) * wav + 0.02 * torch.randn(wav.shape, generator=rng)
    return Dataset.of(wav.float(), labels, classes=[f"word {row}" for row in range(10)], sample_rate=RATE)


@ALL
def test_models_that_were_never_poisoned_raise_no_alarm(name: str) -> None:
    method = INSPECTIONS.make(name, INSPECTIONS[name].quick | STEADY.get(name, {}))
    for seed in range(3):
        data = make_words(300, seed)
        model = train(SMALL, data, QUICK, seed=seed)
        verdict = method.inspect(model, data, seed)
        assert not verdict.backdoored, verdict


@ALL
def test_what_does_not_fit_is_refused(name: str, clean_model: Classifier, tones: Splits) -> None:
    method = quick(name)
    if method.data_free:
        assert method.inspect(clean_model, None, 0).statistics
    else:
        for clean in (None, tones.train.take(torch.arange(0))):
            with pytest.raises(DataError, match=f"{name} needs clean examples, got none"):
                method.inspect(clean_model, clean, 0)
    other = Dataset.of(torch.zeros(8, 4000), torch.arange(8) % 2, sample_rate=16_000)
    with pytest.raises(ModelError, match="clips of 0.5 s at 8,000 Hz, and the data hold clips of 0.25 s"):
        method.inspect(clean_model, other, 0)
    named = Dataset.of(torch.zeros(8, 4000), torch.arange(8) % 2, sample_rate=8000, classes=["x", "y"])
    with pytest.raises(ModelError, match="does not know class 'x', 'y' of the data"):
        method.inspect(clean_model, named, 0)


@ALL
def test_a_verdict_survives_a_file(name: str, clean_model: Classifier, tones: Splits, tmp_path: Path) -> None:
    made = quick(name).inspect(clean_model, tones.validation, 0)
    folder = made.save(tmp_path / "verdict")
    assert_same(load_verdict(folder), made)


def assert_same(read: Verdict, made: Verdict) -> None:
    names = ("backdoored", "target", "statistics", "compared", "threshold", "p_value", "method", "settings")
    for field in (*names, "seconds"):
        assert getattr(read, field) == getattr(made, field), field
    assert (read.pattern is None) == (made.pattern is None)
    if read.pattern is not None and made.pattern is not None:
        assert torch.equal(read.pattern, made.pattern)


def verdict(**more: Any) -> Verdict:
    made: dict[str, Any] = {
        "backdoored": True,
        "target": "low",
        "statistics": {"low": 3.0, "middle": 1.0},
        "compared": "three with one",
        "threshold": 2.0,
    }
    return Verdict(**made | more)


class Saying(Inspection):
    """Says what it is told to."""

    name: ClassVar[str] = "saying"
    cite: ClassVar[str] = "a test"
    least_classes: ClassVar[int] = 3
    word: str = "low"

    def judge(self, model: Classifier, clean: Dataset, seed: int) -> Verdict:
        assert not any(module.training for module in model.modules())
        assert not any(weight.requires_grad for weight in model.parameters())
        return verdict(target=self.word, pattern=torch.arange(6.0).reshape(2, 3), p_value=1 / len(clean))


def test_a_verdict_with_a_pattern_survives_a_file_and_one_without_removes_it(
    clean_model: Classifier, tones: Splits, tmp_path: Path
) -> None:
    made = Saying().inspect(clean_model, tones.validation, 0)
    assert made.p_value == 1 / len(tones.validation)
    assert made.method == f"{__name__}:Saying"
    folder = made.save(tmp_path / "verdict")
    assert_same(load_verdict(folder), made)
    verdict().save(folder)
    assert_same(load_verdict(folder), verdict())
    with pytest.raises(DataError, match="saying needs clean examples, got none"):
        Saying().inspect(clean_model, None, 0)


def test_a_verdict_on_classes_that_the_model_lacks_is_refused(clean_model: Classifier, tones: Splits) -> None:
    with pytest.raises(ModelError, match="saying names class 'loud', and the model knows 'low'"):
        Saying(word="loud").inspect(clean_model, tones.validation, 0)
    two = Dataset.of(torch.zeros(8, 800), torch.arange(8) % 2, sample_rate=8_000)
    with pytest.raises(ModelError, match="saying compares classes and needs 3 or more, and the model has 2"):
        Saying().inspect(nn.Linear(800, 2), two, 0)


@pytest.mark.parametrize(
    ("wrong", "error", "said"),
    [
        ({"statistics": {"low": float("nan")}}, DivergedError, "statistic of class 'low' is NaN"),
        ({"statistics": {"low": float("inf")}}, DivergedError, "statistic of class 'low' is NaN"),
        ({"pattern": torch.tensor([torch.nan])}, DivergedError, "pattern holds NaN"),
        ({"p_value": 1.5}, ModelError, "lies between 0 and 1, got 1.5"),
        ({"backdoored": False}, ModelError, "names target 'low' of a model without a backdoor"),
    ],
)
def test_a_verdict_that_cannot_be_is_refused(
    wrong: dict[str, Any], error: type[ClosesesameError], said: str
) -> None:
    with pytest.raises(error, match=said):
        verdict(**wrong)


def test_a_damaged_file_is_refused_and_nothing_else_is_replaced(tmp_path: Path) -> None:
    made = verdict(method="no_module:Nothing", pattern=torch.ones(3))
    folder = made.save(tmp_path / "verdict")
    assert load_verdict(folder).method == "no_module:Nothing"  # a name, and nothing is imported
    path = folder / "verdict.json"
    text = path.read_text()
    for wrong in (text[:-20], text.replace("3.0", "NaN"), text.replace('"low",', "7,"), "[]"):
        path.write_text(wrong)
        with pytest.raises(DataError, match="verdict.json cannot be used"):
            load_verdict(folder)
    path.write_text(text)
    weights = folder / "verdict.safetensors"
    weights.write_bytes(weights.read_bytes()[:-2])
    with pytest.raises(DataError, match="verdict.safetensors is damaged"):
        load_verdict(folder)
    with pytest.raises(DataError, match="verdict.json cannot be read"):
        load_verdict(tmp_path / "nowhere")
    (folder / "other.txt").write_text("mine")
    with pytest.raises(DataError, match="holds something else than verdict.json and verdict.safetensors"):
        made.save(folder)
