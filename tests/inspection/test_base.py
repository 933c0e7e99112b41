"""What inspections share: what is refused, verdicts that cannot be, verdicts in files."""

from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from torch import nn

from closesesame.core.errors import ClosesesameError, DataError, DataWarning, DivergedError, ModelError
from closesesame.data import Dataset, Splits
from closesesame.inspection import Inspection, MaxMargin, Verdict, load_verdict
from closesesame.models import Classifier


def test_what_does_not_fit_is_refused(clean_model: Classifier, tones: Splits) -> None:
    method = MaxMargin(**MaxMargin.quick)
    assert method.inspect(clean_model, None, 0).statistics
    other = Dataset.of(torch.zeros(8, 4000), torch.arange(8) % 2, sample_rate=16_000)
    with pytest.raises(ModelError, match="clips of 0.5 s at 8,000 Hz, and the data hold clips of 0.25 s"):
        method.inspect(clean_model, other, 0)
    named = Dataset.of(torch.zeros(8, 4000), torch.arange(8) % 2, sample_rate=8000, classes=["x", "y"])
    with pytest.raises(ModelError, match="does not know class 'x', 'y' of the data"):
        method.inspect(clean_model, named, 0)
    with pytest.raises(DataError, match="a module that is not ours does not know its classes"):
        method.inspect(nn.Linear(4000, 4), None, 0)


def test_a_verdict_survives_a_file(clean_model: Classifier, tones: Splits, tmp_path: Path) -> None:
    made = MaxMargin(**MaxMargin.quick).inspect(clean_model, tones.validation, 0)
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


class Counting(Inspection):
    """Count the clean examples."""

    name: ClassVar[str] = "counting"
    cite: ClassVar[str] = "a test"

    def judge(self, model: Classifier, clean: Dataset, seed: int) -> Verdict:
        """As the statistic of every class."""
        return verdict(backdoored=False, target=None, statistics={"low": float(len(clean))})


class CountingWithoutData(Counting):
    """Count what a method without data is shown."""

    data_free: ClassVar[bool] = True


def test_a_method_without_data_is_shown_none_and_the_others_say_what_is_missing(
    clean_model: Classifier, tones: Splits
) -> None:
    some = tones.validation.take((tones.validation.labels > 1).nonzero()[:, 0])
    assert CountingWithoutData().inspect(clean_model, some, 0).statistics["low"] == 0
    assert Counting().inspect(clean_model, tones.validation, 0).statistics["low"] == len(tones.validation)
    with pytest.warns(DataWarning, match="no example of 2 of 4 classes .*: a backdoor that shows in their"):
        assert Counting().inspect(clean_model, some, 0).statistics["low"] == len(some)
