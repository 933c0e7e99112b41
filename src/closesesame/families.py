"""The families of methods, one row each: what a family is given, what it makes, and how that is measured.

Planning, tables, reports, lists and the command line go through this table and know no family by name.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from closesesame.core.method import Registry
from closesesame.data import Dataset
from closesesame.evaluation.measures import OF_MODELS, Measure
from closesesame.models import Architecture, Classifier, load_model, save_model
from closesesame.removal import REMOVALS, Removal
from closesesame.training import Training

Need = Literal["suspect", "clean", "untrusted", "untrusted sample", "architecture"]
"""What a method may be given: the untrusted training set as a whole, or a few hundred of its examples."""


@dataclass(frozen=True, eq=False)
class Given:
    """What a family may be given. There is no trigger, no poison mask, no target label and no test set.

    Attributes:
        suspect: the model under suspicion.
        clean: clean examples.
        untrusted: the training set, poison among it.
        architecture: what to train.
        training: how, where the method does not say itself.
    """

    suspect: Classifier | None = None
    clean: Dataset | None = None
    untrusted: Dataset | None = None
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


@dataclass(frozen=True)
class Family:
    """One family.

    Attributes:
        registry: its methods.
        title: for headings.
        verb: what the command line calls it.
        makes: the kind of artifact, see `KINDS`.
        needs: what one of its methods is given.
        run: runs a method on that, with a seed.
        measures: what its judge says, the most telling first.
        example: a command to type.
        shown: class variables that stand in its list; all where there are none.
    """

    registry: Registry[Any]
    title: str
    verb: str
    makes: str
    needs: Callable[[Any], frozenset[Need]]
    run: Callable[[Any, Given, int], Made]
    measures: tuple[Measure, ...]
    example: str
    shown: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """As recipes, rows and `sesame list` call it."""
        return self.registry.family


KINDS = {
    "model": Kind(save_model, load_model, "closesesame.evaluation.exam"),
}
"""Kinds of artifacts by name."""


def _needs_of_removal(removal: Removal) -> frozenset[Need]:
    return frozenset({"suspect", "untrusted sample" if removal.untrusted else "clean"})


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


FAMILIES: tuple[Family, ...] = (
    Family(
        registry=REMOVALS,
        title="Removals",
        verb="remove",
        makes="model",
        needs=_needs_of_removal,
        run=_remove,
        measures=OF_MODELS,
        example="sesame remove MODEL REPAIRED --clean CLIPS --method {name}",
    ),
)

BY_NAME = {family.name: family for family in FAMILIES}
"""Families by name."""
