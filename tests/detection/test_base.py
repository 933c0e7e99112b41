"""What detections share: what they are shown, what is refused, scores in files."""

import hashlib
from pathlib import Path
from typing import ClassVar, Literal

import pytest
import torch
from torch import Tensor

from closesesame.core.errors import DataError, DivergedError, ModelError
from closesesame.data import Dataset, Splits
from closesesame.detection import Detection, Suspicion, TrainingLoss, load_suspicion
from closesesame.detection.base import hidden_order
from closesesame.models import Classifier


@pytest.fixture
def examples(tones: Splits) -> Dataset:
    return tones.test.take(torch.arange(60))


def test_classes_in_another_order_give_the_same(
    clean_model: Classifier, tones: Splits, examples: Dataset
) -> None:
    turned = examples.with_classes(("top", "low", "high", "middle"))
    assert turned.classes != examples.classes
    first, other = (
        TrainingLoss().score(clean_model, data, tones.validation, 0) for data in (examples, turned)
    )
    assert torch.equal(first.scores, other.scores)


def test_what_does_not_fit_is_refused(clean_model: Classifier, tones: Splits) -> None:
    method = TrainingLoss()
    with pytest.raises(DataError, match="training_loss needs examples to score, got none"):
        method.score(clean_model, tones.test.take(torch.arange(0)), tones.validation, 0)
    other = Dataset.of(torch.zeros(8, 4000), torch.arange(8) % 2, sample_rate=16_000)
    with pytest.raises(ModelError, match=r"clips of 0.5 s at 8,000 Hz, and the data hold clips of 0.25 s"):
        method.score(clean_model, other, tones.validation, 0)


def test_scores_survive_a_file_bit_by_bit(
    clean_model: Classifier, tones: Splits, examples: Dataset, tmp_path: Path
) -> None:
    made = TrainingLoss().score(clean_model, examples, tones.validation, 0)
    folder = made.save(tmp_path / "scores")
    made.save(folder)  # an old one is replaced
    read = load_suspicion(folder)
    assert torch.equal(read.scores, made.scores)
    assert (read.ids, read.method, read.settings, read.seconds) == (
        made.ids,
        made.method,
        made.settings,
        made.seconds,
    )


class Told(Detection):
    """Tells what it was shown."""

    name: ClassVar[str] = "told"
    cite: ClassVar[str] = "a test"
    of: ClassVar[Literal["training clips", "inputs"]] = "inputs"

    def suspicion(self, model: Classifier, examples: Dataset, clean: Dataset, seed: int) -> Tensor:
        assert not any(module.training for module in model.modules())
        assert not any(weight.requires_grad for weight in model.parameters())
        return examples.labels.float() + 10 * len(clean)


class ToldOfTraining(Told):
    """The same of training clips, with clean examples."""

    of: ClassVar[Literal["training clips", "inputs"]] = "training clips"
    needs_clean: ClassVar[bool] = True


class Broken(Told):
    """Gives one score too few, or NaN."""

    nan: bool = False

    def suspicion(self, model: Classifier, examples: Dataset, clean: Dataset, seed: int) -> Tensor:
        scores = torch.zeros(len(examples))
        if not self.nan:
            return scores[1:]
        scores[2] = torch.nan
        return scores


def test_inputs_have_no_labels_and_clean_examples_are_shown_to_those_that_need_them(
    clean_model: Classifier, tones: Splits
) -> None:
    clean_model.train().requires_grad_(True)
    told = Told().score(clean_model, tones.test, tones.validation, 0)
    assert set(told.scores.tolist()) == {0}
    assert (told.method, told.ids, told.scores.dtype) == (f"{__name__}:Told", tones.test.ids, torch.float64)
    shown = ToldOfTraining().score(clean_model, tones.test, tones.validation, 0).scores
    clean_model.eval()
    assert torch.equal(shown, tones.test.labels + 10.0 * len(tones.validation))
    with pytest.raises(DataError, match="told needs clean examples beside those that it scores"):
        ToldOfTraining().score(clean_model, tones.test, None, 0)
    other = Dataset.of(torch.zeros(8, 4000), torch.arange(8) % 2, sample_rate=16_000)
    with pytest.raises(ModelError, match="the data hold clips of 0.25 s"):
        ToldOfTraining().score(clean_model, tones.test, other, 0)


def test_scores_that_are_none_are_refused(clean_model: Classifier, tones: Splits) -> None:
    with pytest.raises(ModelError, match=r"told gave scores of shape \[199\] for 200 examples"):
        Broken().score(clean_model, tones.test, None, 0)
    third = tones.test.ids[int(hidden_order(tones.test)[2])]
    with pytest.raises(DivergedError, match=f"Broken gave {third!r} a score that is NaN or infinite"):
        Broken(nan=True).score(clean_model, tones.test, None, 0)
    with pytest.raises(DataError, match="2 examples have 1 scores"):
        Suspicion(ids=("a", "b"), scores=torch.zeros(1, dtype=torch.float64), method="test")


def test_a_damaged_file_is_refused_and_nothing_else_is_replaced(tmp_path: Path) -> None:
    made = Suspicion(ids=("a",), scores=torch.zeros(1, dtype=torch.float64), method="no_module:Nothing")
    folder = made.save(tmp_path / "scores")
    assert load_suspicion(folder).method == "no_module:Nothing"  # a name, and nothing is imported
    path = folder / "suspicion.json"
    text = path.read_text()
    for wrong in (text[:-20], text.replace('"a"', '"a", "b"'), text.replace("0.0\n", "NaN\n"), "[]"):
        path.write_text(wrong)
        with pytest.raises(DataError, match="suspicion.json cannot be used"):
            load_suspicion(folder)
    with pytest.raises(DataError, match="suspicion.json cannot be read"):
        load_suspicion(tmp_path / "nowhere")
    (folder / "other.txt").write_text("mine")
    with pytest.raises(DataError, match="holds something else than suspicion.json"):
        made.save(folder)
    assert (folder / "other.txt").read_text() == "mine"


class InOrder(Told):
    """Gives each example its place among those that it sees."""

    clean_ids: ClassVar[list[tuple[str, ...]]] = []
    needs_clean: ClassVar[bool] = True
    above: float | None = None

    def suspicion(self, model: Classifier, examples: Dataset, clean: Dataset, seed: int) -> Tensor:
        self.clean_ids.append(clean.ids)
        return torch.arange(len(examples))

    def flags_above(self) -> float | None:
        return self.above


def test_examples_are_seen_in_an_order_that_tells_nothing_and_scored_in_their_own(
    clean_model: Classifier, tones: Splits
) -> None:
    order = torch.tensor([3, 0, 2, 1])
    shuffled, clean = tones.test.take(order), tones.validation.take(order)
    found = InOrder().score(clean_model, shuffled, clean, 0)
    assert found.ids == shuffled.ids
    assert found.scores.tolist() == hidden_order(shuffled).argsort().tolist()
    assert found.scores.tolist() != [0, 1, 2, 3]
    assert InOrder.clean_ids.pop() == tuple(clean.ids[row] for row in hidden_order(clean).tolist())


def test_the_order_is_that_of_the_hashes_of_ids(tones: Splits) -> None:
    data = tones.test.take(torch.arange(12))
    hashes = [hashlib.sha256(data.ids[row].encode()).hexdigest() for row in hidden_order(data).tolist()]
    assert hashes == sorted(hashes)


def test_a_method_may_name_the_score_above_which_it_flags(
    clean_model: Classifier, tones: Splits, tmp_path: Path
) -> None:
    examples = tones.test.take(torch.arange(4))
    silent, found = (InOrder(above=at).score(clean_model, examples, tones.validation, 0) for at in (None, 1))
    assert silent.flagged is None
    assert found.flagged is not None
    assert torch.equal(found.flagged, hidden_order(examples).argsort() > 1)  # above it, not at it
    for made in (silent, found):
        assert load_suspicion(made.save(tmp_path / "scores")).flagged_above == made.flagged_above
    path = tmp_path / "scores" / "suspicion.json"
    path.write_text(path.read_text().replace('"flagged_above"', '"flagged"'))
    with pytest.raises(DataError, match="suspicion.json cannot be used"):
        load_suspicion(tmp_path / "scores")
