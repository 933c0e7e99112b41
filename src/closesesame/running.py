"""How a grid runs a method of each family: what the method is given, and what it makes.

Every job of a method runs this, so this module is part of the identity of every job.
"""

from dataclasses import dataclass, field
from typing import Any

from closesesame.data import Dataset
from closesesame.detection import Detection
from closesesame.inspection import Inspection
from closesesame.models import Architecture, Classifier, ModelCard
from closesesame.purification import Purification
from closesesame.removal import Removal
from closesesame.robust_training import RobustTraining, Watch
from closesesame.robust_training.base import unwatched
from closesesame.training import Training


@dataclass(frozen=True, eq=False)
class Given:
    """What a family may be given. There is no trigger, no poison mask, no target label and no test set.

    Attributes:
        suspect: the model under suspicion.
        clean: clean examples.
        untrusted: the training set, poison among it.
        inputs: what inputs look like, on the card of no model.
        architecture: what to train.
        training: how, where the method does not say itself.
    """

    suspect: Classifier | None = None
    clean: Dataset | None = None
    untrusted: Dataset | None = None
    inputs: ModelCard | None = None
    architecture: Architecture | None = None
    training: Training | None = None


@dataclass(frozen=True, eq=False)
class Made:
    """What a method made, and what it says of that in a row."""

    artifact: Any
    about: dict[str, Any] = field(default_factory=dict)


def remove(removal: Removal, given: Given, seed: int) -> Made:
    """Repairs the suspect with clean examples, or with untrusted ones for a removal that asks for such."""
    assert given.suspect is not None
    repair = removal.remove(given.suspect, given.clean if given.untrusted is None else given.untrusted, seed)
    return Made(
        repair.model,
        {
            "tuned_on": repair.tuned_on,
            "held_out": repair.held_out,
            "held_out_acc_before": repair.acc_before,
            "held_out_acc": repair.acc_after,
            "seconds": repair.seconds,
            "chosen": repair.chosen,
        },
    )


def train(robust: RobustTraining, given: Given, seed: int, *, watch: Watch = unwatched) -> Made:
    """Trains as the suspects of the grid are trained, unless the method says how."""
    assert given.architecture is not None
    assert given.untrusted is not None
    if given.training is not None and "training" not in robust.model_fields_set:
        robust = robust.model_copy(update={"training": given.training})
    trained = robust.train(given.architecture, given.untrusted, seed, clean=given.clean, watch=watch)
    return Made(trained.model, {"seconds": trained.seconds, "chosen": trained.chosen})


def score(detection: Detection, given: Given, seed: int) -> Made:
    """Scores the untrusted set with the suspect that was trained on it."""
    assert given.suspect is not None
    assert given.untrusted is not None
    suspicion = detection.score(given.suspect, given.untrusted, given.clean, seed)
    return Made(suspicion, {"seconds": suspicion.seconds})


def inspect(inspection: Inspection, given: Given, seed: int) -> Made:
    """Judges the suspect."""
    assert given.suspect is not None
    verdict = inspection.inspect(given.suspect, given.clean, seed)
    return Made(verdict, {"seconds": verdict.seconds, "chosen": {"statistics": verdict.statistics}})


def fit(purification: Purification, given: Given, seed: int) -> Made:
    """Makes a purifier for the inputs of the data set."""
    purifier = purification.fit(given.clean, seed, card=given.inputs)
    return Made(purifier, {"seconds": purifier.seconds, "chosen": purifier.chosen})
