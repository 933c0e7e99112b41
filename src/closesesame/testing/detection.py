"""The rules of a detection."""

from collections.abc import Iterator
from contextlib import contextmanager
from unittest import mock

import torch
from torch import Tensor, nn

from closesesame.core import machine
from closesesame.core.errors import DataError, ModelError
from closesesame.core.types import Inputs, Labels
from closesesame.data import Dataset
from closesesame.detection import Detection
from closesesame.models.matching import as_classifier

from . import method
from .contract import check_all, demand, demand_lack, left_alone, quick, refused
from .examples import of_every_architecture, own_networks, tones, trained

TOLERANCE = 1e-3
"""By how much of the range of all scores one may change: sums of floats depend on their order."""
FOLLOW = 0.97
"""Correlation from which on scores of a method that trains are the same but for rounding."""
SMALL_BATCH = 7


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
    """Of all our architectures, and of somebody else; or refused, if it lacks what `requires` names."""
    detection, examples, looked_at = quick(detection), tones().train.sample(0.1, 0), 0
    for name, model in (*of_every_architecture(examples), *own_networks()):
        try:
            detection.score(model, examples, _clean(detection), 0)
        except ModelError as error:
            demand_lack(detection.requires, as_classifier(model, examples), name, error)
            continue
        looked_at += 1
    demand(looked_at, "no model is looked at")


def the_size_of_batches_does_not_matter(detection: Detection) -> None:
    """Nothing is drawn or compared batch by batch; the order of examples is that of their ids for all."""
    detection, examples = quick(detection), tones().train.sample(0.2, 0)
    with machine.precision("fp32"):
        first = detection.score(trained(), examples, _clean(detection), 0).scores
        with _small_batches():
            batched = detection.score(trained(), examples, _clean(detection), 0).scores
    # Batches round differently, and a training carries that on.
    follow = detection.trains and float(torch.stack([batched, first]).corrcoef()[0, 1]) >= FOLLOW
    demand(follow or _alike(batched, first), "the same examples in smaller batches have other scores")


def an_input_is_scored_by_itself(detection: Detection) -> None:
    """Inputs come one by one, so the score of one does not depend on the others; training clips are a set."""
    if detection.of != "inputs":
        return
    detection, examples = quick(detection), tones().train.sample(0.2, 0)
    some = torch.arange(3, len(examples), 5)
    with machine.precision("fp32"):
        whole = detection.score(trained(), examples, _clean(detection), 0).scores
        alone = detection.score(trained(), examples.take(some), _clean(detection), 0).scores
    scale = float(whole.max() - whole.min())
    demand(
        _alike(alone, whole[some], scale),
        "the score of an input depends on the others that are scored with it",
    )


def _alike(scores: Tensor, others: Tensor, scale: float | None = None) -> bool:
    scale = float(others.max() - others.min()) if scale is None else scale
    return bool(((scores - others).abs() <= TOLERANCE * scale).all())


@contextmanager
def _small_batches() -> Iterator[None]:
    """Within the block all data sets are walked through a few examples at a time."""
    batches = Dataset.batches

    def smaller(data: Dataset, size: int) -> Iterator[tuple[Inputs, Labels]]:
        return batches(data, min(size, SMALL_BATCH))

    with mock.patch.object(Dataset, "batches", smaller):
        yield


CHECKS = (
    *method.CHECKS,
    what_is_passed_in_is_left_alone_and_the_seed_repeats,
    clean_examples_are_asked_for_if_they_are_needed,
    every_model_is_looked_at,
    the_size_of_batches_does_not_matter,
    an_input_is_scored_by_itself,
)


def check_detection(detection: Detection) -> None:
    """Puts a detection through the contract; takes a few seconds at `quick` settings.

    Raises:
        ContractError: with the rule that it breaks.
    """
    check_all(detection, CHECKS)
