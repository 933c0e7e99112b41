"""The rules of an inspection."""

import math
from pathlib import Path
from tempfile import TemporaryDirectory

from closesesame.core.errors import DataError, ModelError
from closesesame.inspection import Inspection, Verdict, load_verdict

from . import method
from .contract import check_all, demand, left_alone, quick, refused
from .examples import of_every_architecture, own_network, tones, trained, turned


def _said(verdict: Verdict) -> tuple[object, ...]:
    """All of a verdict but how long it took."""
    pattern = None if verdict.pattern is None else verdict.pattern.tolist()
    return verdict.backdoored, verdict.target, verdict.statistics, verdict.p_value, verdict.threshold, pattern


def what_is_passed_in_is_left_alone_and_the_seed_repeats(inspection: Inspection) -> None:
    """All that is drawn comes from the seed."""
    inspection, suspect, clean = quick(inspection), trained(), tones().validation
    with left_alone({"model": suspect, "clean set": clean}):
        first = inspection.inspect(suspect, clean, 5)
    again = inspection.inspect(trained(), tones().validation, 5)
    demand(_said(first) == _said(again), "the same seed gave another verdict; use the seed")


def clean_examples_are_asked_for_if_they_are_needed(inspection: Inspection) -> None:
    """A method that is `data_free` works without, and others say that they miss them."""
    said = refused(DataError, quick(inspection).inspect, trained(), None, 0)
    demand(
        (said is None) == inspection.data_free,
        f"data_free is {inspection.data_free}, and without clean examples it says: {said}",
    )


def every_model_is_judged(inspection: Inspection) -> None:
    """Of all our architectures, and a module of somebody else."""
    inspection, clean = quick(inspection), tones().validation
    for name, model in (*of_every_architecture(clean), ("network of somebody else", own_network())):
        said = refused(ModelError, inspection.inspect, model, clean, 0)
        demand(said is None, f"a {name!r} is refused: {said}")


def the_order_of_classes_does_not_matter(inspection: Inspection) -> None:
    """Classes are known by their names."""
    inspection, clean = quick(inspection), tones().validation
    first = inspection.inspect(trained(), clean, 0)
    for model, data in (
        (turned(trained()), clean),
        (trained(), clean.with_classes(turned(trained()).card.classes)),
    ):
        other = inspection.inspect(model, data, 0)
        alike = [
            math.isclose(value, other.statistics.get(name, math.nan), rel_tol=1e-4, abs_tol=1e-6)
            for name, value in first.statistics.items()
        ]
        demand(
            all(alike) and (other.target, other.backdoored) == (first.target, first.backdoored),
            "the verdict is another one if the classes stand in another order",
        )


def a_verdict_says_what_was_compared(inspection: Inspection) -> None:
    """And by which numbers, and reads the same from disk."""
    verdict = quick(inspection).inspect(trained(), tones().validation, 0)
    demand(verdict.compared, "the verdict does not say what was compared")
    demand(verdict.statistics, "the verdict has no statistic by which the classes were compared")
    with TemporaryDirectory() as folder:
        verdict.save(Path(folder) / "verdict")
        again = load_verdict(Path(folder) / "verdict")
    demand(_said(again) == _said(verdict), "the verdict read from disk says something else")


CHECKS = (
    *method.CHECKS,
    what_is_passed_in_is_left_alone_and_the_seed_repeats,
    clean_examples_are_asked_for_if_they_are_needed,
    every_model_is_judged,
    the_order_of_classes_does_not_matter,
    a_verdict_says_what_was_compared,
)


def check_inspection(inspection: Inspection) -> None:
    """Puts an inspection through the contract; takes a few seconds at `quick` settings.

    Raises:
        ContractError: with the rule that it breaks.
    """
    check_all(inspection, CHECKS)
