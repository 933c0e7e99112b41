"""The families of methods, one row each: what a family is given, what it makes, and how that is measured.

Planning, tables, reports, lists and the command line go through this table and know no family by name.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from closesesame import running
from closesesame.attacks import ATTACKS
from closesesame.attacks.described import attack_settings
from closesesame.core.described import Setting, settings_of
from closesesame.core.method import Registry
from closesesame.detection import DETECTIONS
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
from closesesame.inspection import INSPECTIONS
from closesesame.models import ARCHITECTURES
from closesesame.purification import PURIFICATIONS
from closesesame.removal import REMOVALS
from closesesame.robust_training import ROBUST_TRAININGS
from closesesame.running import Given, Made

Need = Literal["suspect", "clean", "untrusted", "untrusted sample", "architecture", "inputs"]
"""What a method may be given: the untrusted training set as a whole, or a few hundred of its examples."""


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
        makes: the kind of artifact, see `bench.judging.KINDS`.
        needs: what one of its methods is given.
        run: runs a method on that, with a seed.
        measures: what its judge says, the most telling first.
    """

    verb: str
    makes: str
    needs: Callable[[Any], frozenset[Need]]
    run: Callable[[Any, Given, int], Made]
    measures: tuple[Measure, ...]


def _needs(*names: Need, clean: bool = False) -> frozenset[Need]:
    return frozenset({*names, "clean"}) if clean else frozenset(names)


FAMILIES: tuple[Family, ...] = (
    Family(
        registry=REMOVALS,
        title="Removals",
        verb="remove",
        makes="model",
        needs=lambda m: _needs("suspect", "untrusted sample" if m.untrusted else "clean"),
        run=running.remove,
        measures=(ASR, RA, RA_REFERENCE_REPAIRED, ACC, DER),
        example="sesame remove MODEL REPAIRED --clean CLIPS --method {name}",
        shown=("cost", "data_free", "requires", "untrusted"),
    ),
    Family(
        registry=ROBUST_TRAININGS,
        title="Robust training",
        verb="train",
        makes="model",
        needs=lambda m: _needs("architecture", "untrusted", clean=m.wants_clean()),
        run=running.train,
        measures=(ASR, RA, RA_REFERENCE, ACC, DER),
        example="sesame train CLIPS MODEL --method {name}",
        shown=("needs_clean",),
    ),
    Family(
        registry=DETECTIONS,
        title="Detections",
        verb="screen",
        makes="suspicion",
        needs=lambda m: _needs("suspect", "untrusted", clean=m.needs_clean),
        run=running.score,
        measures=OF_SCORES,
        example="sesame screen CLIPS SCREENED --method {name}",
        shown=("of", "needs_clean", "requires", "trains"),
    ),
    Family(
        registry=INSPECTIONS,
        title="Inspections",
        verb="inspect",
        makes="verdict",
        needs=lambda m: _needs("suspect", clean=not m.data_free),
        run=running.inspect,
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
        run=running.fit,
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
