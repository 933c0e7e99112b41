"""`--seed`: it reaches everything that a command draws. `remove` and `evaluate` have tests of their own."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar, Literal

import pytest
import torch
from torch import Tensor, nn

from closesesame import attacks, training
from closesesame.core.evidence import Evidence
from closesesame.data import Dataset, Splits, load_splits
from closesesame.detection import Detection
from closesesame.inspection import Inspection, Verdict
from closesesame.models import Architecture, Classifier, load_model
from closesesame.models.matching import data_for
from closesesame.purification import Lowpass
from closesesame.report import from_models
from closesesame.report.pages import catalogue
from closesesame.robust_training import RobustTraining, Watch
from tests.commands import FAST, WIDTHS, Sesame

HERE = __name__
SEED = ("--split", "random", "--seed", "5")

given: list[Any] = []
"""What the methods of this file were given, and commands gave to what they call."""


@pytest.fixture(autouse=True)
def _forget() -> None:
    given.clear()


@pytest.fixture
def parts(clips: Path) -> Splits:
    """The parts of the recordings as the seed draws them."""
    return load_splits(clips, sample_rate=8000, duration_s=0.5, split="random", seed=5)


class Inspects(Inspection):
    """Note what is given."""

    name: ClassVar[str] = "inspects"
    cite: ClassVar[str] = "none"

    def judge(self, model: Classifier, clean: Dataset, seed: int) -> Verdict:
        given.append((clean.ids, seed))
        statistics = dict.fromkeys(model.card.classes, 0.0)
        return Verdict(backdoored=False, target=None, statistics=statistics, compared="x", threshold=1)


class Purifies(Lowpass):
    """Note what is given."""

    name: ClassVar[str] = "purifies"

    def learn(self, network: nn.Module, tune: Dataset, held_out: Dataset, seed: int) -> dict[str, Any]:
        given.append((tune.ids, held_out.ids, seed))
        return {}


class Learns(RobustTraining):
    """Note what is given."""

    name: ClassVar[str] = "learns"
    cite: ClassVar[str] = "none"

    def learn(
        self,
        architecture: Architecture,
        untrusted: Dataset,
        clean: Dataset | None,
        seed: int,
        watch: Watch,
    ) -> tuple[Classifier, dict[str, Any]]:
        given.append((untrusted.ids, seed))
        return training.train(architecture, untrusted, self.training, seed=seed), {}


class Detects(Detection):
    """Note what is given."""

    name: ClassVar[str] = "detects"
    cite: ClassVar[str] = "none"
    of: ClassVar[Literal["training clips", "inputs"]] = "inputs"
    needs_clean: ClassVar[bool] = True

    def suspicion(self, model: Classifier, examples: Dataset, clean: Dataset, seed: int) -> Tensor:
        given.append((examples.ids, clean.ids, seed))
        return torch.arange(len(examples)).double()


def note(patch: pytest.MonkeyPatch, module: Any, name: str, seed_at: int | str, data_at: int) -> None:
    """Notes the clips and the seed that a function gets from now on."""
    function = getattr(module, name)

    def noted(*args: Any, **named: Any) -> Any:
        seed = args[seed_at] if isinstance(seed_at, int) else named[seed_at]
        given.append((args[data_at].ids, seed))
        return function(*args, **named)

    patch.setattr(module, name, noted)


def test_of_inspect(sesame: Sesame, model: Path, clips: Path, parts: Splits) -> None:
    sesame("inspect", model, "--method", f"{HERE}:Inspects", "--clean", clips, "--fraction", "0.5", *SEED)
    clean = data_for(load_model(model).card, parts.train).sample(0.5, 5)
    assert given == [(clean.ids, 5)]


def test_of_purify(sesame: Sesame, clips: Path, parts: Splits, tmp_path: Path) -> None:
    words = ("purify", clips, tmp_path / "p", *FAST, "--method", f"{HERE}:Purifies", "--fraction", "0.5")
    sesame(*words, "--set", "cutoff_hz=1000", *SEED)
    tune, held_out = Lowpass().put_aside(parts.train.sample(0.5, 5), 5)
    assert given == [(tune.ids, held_out.ids, 5)]


def test_of_screen(sesame: Sesame, model: Path, clips: Path, parts: Splits, tmp_path: Path) -> None:
    words = ("screen", clips, tmp_path / "s", "--model", model, "--method", f"{HERE}:Detects")
    sesame(*words, "--clean", clips, "--fpr", "0.5", *SEED)
    card = load_model(model).card
    examples, known = (data_for(card, part) for part in (parts.train, parts.validation))
    for_method, beside = known.hold_out(0.5, 5)
    ((scored, clean, seed),) = given
    assert (set(scored), set(clean), seed) == ({*examples.ids, *beside.ids}, set(for_method.ids), 5)


@pytest.mark.parametrize("method", [None, f"{HERE}:Learns"])
def test_of_train(
    method: str | None,
    sesame: Sesame,
    clips: Path,
    parts: Splits,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    words = ("train", clips, tmp_path / "m", *FAST, *WIDTHS, "--set", "epochs=1", *SEED)
    if method is None:
        note(monkeypatch, training, "untrained", "seed", 1)
        note(monkeypatch, training, "fit", "seed", 1)
        sesame(*words)
    else:
        sesame(*words, "--method", method)
    assert given == [(parts.train.ids, 5)] * (2 if method is None else 1)
    assert load_model(tmp_path / "m").card.made["seed"] == 5


def test_of_poison(
    sesame: Sesame, clips: Path, parts: Splits, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    note(monkeypatch, attacks, "poison_several", 2, 1)
    sesame("poison", clips, tmp_path / "p", *FAST, *SEED)
    assert given == [(parts.train.ids, 5)]


def test_of_report(
    sesame: Sesame,
    model: Path,
    clips: Path,
    parts: Splits,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def evidence(suspect: Classifier, examples: Dataset, clean: Dataset, seed: int) -> Evidence:
        given.append((examples.ids, clean.ids, seed))
        return Evidence(title="A figure", text="It shows nothing.", shapes=())

    pages = []

    def compared(**named: Any) -> Any:
        pages.append(named["seed"])
        return compare(**named)

    compare = from_models.compare
    monkeypatch.setattr(from_models, "compare", compared)
    monkeypatch.setattr("closesesame.listing.method_to_show", lambda _: SimpleNamespace(evidence=evidence))
    sesame("report", clips, tmp_path / "page.html", "--before", model, "--show", "anything", *SEED)
    assert pages == [5]
    card = load_model(model).card
    assert given == [(data_for(card, parts.train).ids, data_for(card, parts.validation).ids, 5)]


def test_of_catalogue(
    sesame: Sesame, clips: Path, parts: Splits, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    survey = catalogue.survey

    def surveyed(splits: Splits, asked: Any, seed: int) -> Any:
        given.append((splits.train.ids, seed))
        return survey(splits, asked, seed)

    monkeypatch.setattr(catalogue, "survey", surveyed)
    sesame("catalogue", tmp_path / "c", "--data", clips, "--attack", "badnets", *FAST, *SEED)
    assert given == [(parts.train.ids, 5)]
