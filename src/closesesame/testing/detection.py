"""The rules of a detection."""

import torch
from torch import Tensor, nn

from closesesame.core.errors import DataError, ModelError
from closesesame.data import Dataset
from closesesame.detection import Detection

from . import method
from .contract import check_all, demand, left_alone, quick, refused
from .examples import of_every_architecture, own_network, tones, trained


def _clean(detection: Detection) -> Dataset | None:
    return tones().validation if detection.needs_clean else None


def what_is_passed_in_is_left_alone_and_the_seed_repeats(detection: Detection) -> None:
    """All that is drawn comes from the seed."""
    detection, suspect, examples = quick(detection), trained(), tones().train.sample(0.2, 0)
    clean = _clean(detection)
    given: dict[str, nn.Module | Dataset | Tensor] = {"model": suspect, "set of examples": examples}
    given |= {"clean set": clean} if clean else {}
    with left_alone(given):
        first = detection.score(suspect, examples, clean, 5)
    again = detection.score(trained(), tones().train.sample(0.2, 0), _clean(detection), 5)
    demand(torch.equal(first.scores, again.scores), "the same seed gave other scores; use the seed")
    demand(first.ids == examples.ids, "the scores are not of the examples in their order")
    demand(first.scores.min() < first.scores.max(), "all examples have the same score")


def clean_examples_are_asked_for_if_they_are_needed(detection: Detection) -> None:
    """The class variable `needs_clean` says so, and without it there are none."""
    detection, examples = quick(detection), tones().train.sample(0.2, 0)
    said = refused(DataError, detection.score, trained(), examples, None, 0)
    demand(
        (said is not None) == detection.needs_clean,
        f"needs_clean is {detection.needs_clean}, and without clean examples it says: {said}",
    )


def every_model_is_looked_at(detection: Detection) -> None:
    """Of all our architectures, and a module of somebody else."""
    detection, examples = quick(detection), tones().train.sample(0.1, 0)
    for name, model in (*of_every_architecture(examples), ("network of somebody else", own_network())):
        said = refused(ModelError, detection.score, model, examples, _clean(detection), 0)
        demand(said is None, f"a {name!r} is refused: {said}")


CHECKS = (
    *method.CHECKS,
    what_is_passed_in_is_left_alone_and_the_seed_repeats,
    clean_examples_are_asked_for_if_they_are_needed,
    every_model_is_looked_at,
)


def check_detection(detection: Detection) -> None:
    """Puts a detection through the contract; takes a few seconds at `quick` settings.

    Raises:
        ContractError: with the rule that it breaks.
    """
    check_all(detection, CHECKS)
