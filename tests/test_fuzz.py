"""Some of the cases of `benchmarks/measure/fuzz.py`, and what makes a case a fault."""

import random
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks.measure import cases, fuzz
from closesesame.core.errors import ClosesesameError, DataError

NO_WORLD: Any = None
COMPARISONS = [kind for kind in cases.KINDS if kind.startswith("same figures")]
HOSTILE = [kind for kind in cases.KINDS if kind not in COMPARISONS]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Whole files to damage, and a victim with its trigger."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield cases.World.make(tmp_path_factory.mktemp("world"))
    torch.set_num_threads(threads)


@pytest.mark.parametrize("kind", HOSTILE)
def test_hostile_input_works_or_is_refused_in_one_sentence(
    kind: str, world: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fuzz, "KINDS", {kind: cases.KINDS[kind]})
    tally = fuzz.try_cases(range(30), 1, tmp_path, world)[kind]
    assert not tally.faults
    assert tally.works
    assert tally.refused


@pytest.mark.parametrize("kind", COMPARISONS)
def test_another_order_place_format_or_rate_gives_the_same_figures(
    kind: str, world: Any, tmp_path: Path
) -> None:
    make, _ = cases.KINDS[kind]
    for number in range(2):
        (tmp_path / str(number)).mkdir()
        make(random.Random(number), tmp_path / str(number), world)()


def test_the_compared_figures_say_something(world: Any) -> None:
    assert world.wanted["acc"]["value"] > 0.9
    assert world.wanted["asr"]["value"] > 0.5
    assert world.wanted["ra_reference"]["value"] > 0


def test_a_comparison_fails_if_classes_are_matched_by_index(world: Any, tmp_path: Path) -> None:
    make, _ = cases.KINDS["same figures: classes permuted"]
    act = make(random.Random(0), tmp_path, world)
    config = tmp_path / "victim" / "config.json"
    original = world.folder / "exam" / "victim" / "config.json"
    config.write_text(original.read_text(encoding="utf-8"), encoding="utf-8")
    with pytest.raises(AssertionError, match="instead of"):
        act()


def refuse(sentence: str) -> Callable[[Path], object]:
    def act(place: Path) -> None:
        raise DataError(sentence)

    return act


def leave_something(place: Path) -> None:
    (place / ".half").write_text("", encoding="utf-8")
    raise DataError("the disk is full; make room")


def warn(place: Path) -> None:
    warnings.warn("odd", UserWarning, stacklevel=1)


def change_the_input(place: Path) -> None:
    (place / "given").write_text("other", encoding="utf-8")


def be_slow(place: Path) -> None:
    end = time.monotonic() + 60
    while time.monotonic() < end:
        pass


FAULTS: dict[str, Callable[[Path], object]] = {
    "TypeError": lambda place: len(3),  # type: ignore[arg-type]
    "empty": refuse(""),
    "1,000 characters": refuse("x" * 1_000),
    "several lines": refuse("one\ntwo"),
    "shows an object": refuse("got <object object at 0x7f>"),
    "left or changed": leave_something,
    "UserWarning": warn,
    "given": change_the_input,
    "TooSlow": be_slow,
}


@pytest.mark.parametrize("said", FAULTS)
def test_what_is_neither_work_nor_one_sentence_is_a_fault(
    said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def make(rng: random.Random, place: Path, world: Any) -> Callable[[], object]:
        (place / "given").write_text("it", encoding="utf-8")
        return lambda: FAULTS[said](place)

    monkeypatch.setattr(fuzz, "KINDS", {"made": (make, 1)})
    monkeypatch.setattr(fuzz, "MOST_CPU_S", 0.2)
    tallies: dict[str, Any] = {}
    fuzz.try_case(0, 0, tmp_path, NO_WORLD, tallies)
    (fault,) = tallies["made"].faults
    assert said in fault["what"]


def test_a_refusal_is_counted_by_its_kind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def make(rng: random.Random, place: Path, world: Any) -> Callable[[], object]:
        return lambda: refuse("the folder is empty; add recordings")(place)

    monkeypatch.setattr(fuzz, "KINDS", {"made": (make, 1)})
    tallies: dict[str, Any] = {}
    fuzz.try_case(0, 0, tmp_path, NO_WORLD, tallies)
    assert tallies["made"].refused == {"DataError": 1}
    assert issubclass(DataError, ClosesesameError)


def test_a_run_that_was_killed_goes_on_where_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tried = tmp_path / "tried"

    def make(rng: random.Random, place: Path, world: Any) -> Callable[[], object]:
        with tried.open("a", encoding="utf-8") as file:
            file.write(".")
        return lambda: None

    monkeypatch.setattr(fuzz, "KINDS", {"made": (make, 1)})
    monkeypatch.setattr(fuzz, "CHUNK", 5)
    monkeypatch.setattr(cases.World, "make", lambda folder: None)
    forked = fuzz._in_a_fork

    def stopped(numbers: range, *rest: Any) -> Any:
        if numbers.start == 10:
            raise KeyboardInterrupt
        return forked(numbers, *rest)

    monkeypatch.setattr(fuzz, "_in_a_fork", stopped)
    with pytest.raises(KeyboardInterrupt):
        fuzz.run(20, 0, tmp_path / "out.json")
    monkeypatch.setattr(fuzz, "_in_a_fork", forked)
    assert fuzz.run(20, 0, tmp_path / "out.json")["made"].works == 20
    assert len(tried.read_text(encoding="utf-8")) == 20
