"""The families of methods, one row each: what a family is given, what it makes, and how that is measured.

Planning, tables, reports, lists and the command line go through this table and know no family by name.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from closesesame.attacks import ATTACKS
from closesesame.attacks.described import attack_settings
from closesesame.core.described import Setting, settings_of
from closesesame.core.method import Registry
from closesesame.data import Dataset
from closesesame.detection import DETECTIONS, Detection, Suspicion, load_suspicion
from closesesame.evaluation.measures import (
    ACC,
    ASR,
    DER,
    OF_SCORES,
    OF_VERDICTS,
    RA,
    RA_REFERENCE,
    RA_REFERENCE_REPAIRED,
    Measure,
)
from closesesame.inspection import INSPECTIONS, Inspection, Verdict, load_verdict
from closesesame.models import ARCHITECTURES, Architecture, Classifier, ModelCard, load_model, save_model
from closesesame.purification import PURIFICATIONS, Purification, Purifier
from closesesame.purification.files import load_purifier
from closesesame.removal import REMOVALS, Removal
from closesesame.robust_training import ROBUST_TRAININGS, RobustTraining
from closesesame.training import Training

Need = Literal["suspect", "clean", "untrusted", "untrusted sample", "architecture", "inputs"]
"""What a method may be given: the untrusted training set as a whole, or a few hundred of its examples."""


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


@dataclass(frozen=True)
class Kind:
    """A kind of artifact: how its folder is written and read onto a device, and its judge's module."""

    save: Callable[[Any, Path], object]
    load: Callable[[Path, str], Any]
    judge: str


@dataclass(frozen=True, kw_only=True)
class Listed:
    """A family as lists show it.

    Attributes:
        registry: its methods.
        title: for headings.
        example: a command to type.
        shown: class variables that stand in its list; all where there are none.
        settings: what settings a method has, for its description.
    """

    registry: Registry[Any]
    title: str
    example: str
    shown: tuple[str, ...] = ()
    settings: Callable[[Any], list[Setting]] = settings_of

    @property
    def name(self) -> str:
        """As recipes, rows and `sesame list` call it."""
        return self.registry.family


@dataclass(frozen=True, kw_only=True)
class Family(Listed):
    """A family that a grid runs on suspects.

    Attributes:
        verb: what the command line calls it.
        makes: the kind of artifact, see `KINDS`.
        needs: what one of its methods is given.
        run: runs a method on that, with a seed.
        measures: what its judge says, the most telling first.
    """

    verb: str
    makes: str
    needs: Callable[[Any], frozenset[Need]]
    run: Callable[[Any, Given, int], Made]
    measures: tuple[Measure, ...]


KINDS = {
    "model": Kind(save_model, load_model, "closesesame.evaluation.exam"),
    "purifier": Kind(Purifier.save, load_purifier, "closesesame.evaluation.exam"),
    "suspicion": Kind(
        Suspicion.save, lambda folder, _: load_suspicion(folder), "closesesame.evaluation.screening"
    ),
    "verdict": Kind(Verdict.save, lambda folder, _: load_verdict(folder), "closesesame.evaluation.trial"),
}
"""Kinds of artifacts by name."""


def _remove(removal: Removal, given: Given, seed: int) -> Made:
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


def _train(robust: RobustTraining, given: Given, seed: int) -> Made:
    """Trains as the suspects of the grid are trained, unless the method says how."""
    assert given.architecture is not None
    assert given.untrusted is not None
    if given.training is not None and "training" not in robust.model_fields_set:
        robust = robust.model_copy(update={"training": given.training})
    trained = robust.train(given.architecture, given.untrusted, seed, clean=given.clean)
    return Made(trained.model, {"seconds": trained.seconds, "chosen": trained.chosen})


def _score(detection: Detection, given: Given, seed: int) -> Made:
    assert given.suspect is not None
    assert given.untrusted is not None
    suspicion = detection.score(given.suspect, given.untrusted, given.clean, seed)
    return Made(suspicion, {"seconds": suspicion.seconds})


def _inspect(inspection: Inspection, given: Given, seed: int) -> Made:
    assert given.suspect is not None
    verdict = inspection.inspect(given.suspect, given.clean, seed)
    return Made(verdict, {"seconds": verdict.seconds, "chosen": {"statistics": verdict.statistics}})


def _fit(purification: Purification, given: Given, seed: int) -> Made:
    purifier = purification.fit(given.clean, seed, card=given.inputs)
    return Made(purifier, {"seconds": purifier.seconds, "chosen": purifier.chosen})


def _needs(*names: Need, clean: bool = False) -> frozenset[Need]:
    return frozenset({*names, "clean"}) if clean else frozenset(names)


FAMILIES: tuple[Family, ...] = (
    Family(
        registry=REMOVALS,
        title="Removals",
        verb="remove",
        makes="model",
        needs=lambda m: _needs("suspect", "untrusted sample" if m.untrusted else "clean"),
        run=_remove,
        measures=(ASR, RA, RA_REFERENCE_REPAIRED, ACC, DER),
        example="sesame remove MODEL REPAIRED --clean CLIPS --method {name}",
        shown=("cost", "data_free", "requires", "untrusted"),
    ),
    Family(
        registry=ROBUST_TRAININGS,
        title="Robust training",
        verb="train",
        makes="model",
        needs=lambda m: _needs("architecture", "untrusted", clean=m.needs_clean),
        run=_train,
        measures=(ASR, RA, RA_REFERENCE, ACC, DER),
        example="sesame train CLIPS MODEL --method {name}",
        shown=("needs_clean",),
    ),
    Family(
        registry=DETECTIONS,
        title="Detections",
        verb="detect",
        makes="suspicion",
        needs=lambda m: _needs("suspect", "untrusted", clean=m.needs_clean),
        run=_score,
        measures=OF_SCORES,
        example="sesame detect MODEL CLIPS SCORES --method {name}",
        shown=("of", "needs_clean"),
    ),
    Family(
        registry=INSPECTIONS,
        title="Inspections",
        verb="inspect",
        makes="verdict",
        needs=lambda m: _needs("suspect", clean=not m.data_free),
        run=_inspect,
        measures=OF_VERDICTS,
        example="sesame inspect MODEL --method {name}",
        shown=("data_free", "least_classes"),
    ),
    Family(
        registry=PURIFICATIONS,
        title="Purifications",
        verb="purify",
        makes="purifier",
        needs=lambda m: _needs("inputs", clean=not m.data_free),
        run=_fit,
        measures=(ASR, RA, RA_REFERENCE, ACC, DER),
        example="sesame purify CLIPS PURIFIER --method {name}",
        shown=("data_free",),
    ),
)

BY_NAME = {family.name: family for family in FAMILIES}
"""Families by name."""

LISTED: tuple[Listed, ...] = (
    Listed(
        registry=ATTACKS,
        title="Attacks",
        example="sesame poison CLIPS POISONED --attack {name}",
        shown=("clean_label", "needs", "audible"),
        settings=attack_settings,
    ),
    *FAMILIES,
    Listed(
        registry=ARCHITECTURES,
        title="Architectures",
        example="sesame train CLIPS MODEL --model {name}",
        shown=("parameters_of_paper",),
    ),
)
"""All that `sesame list` lists."""
