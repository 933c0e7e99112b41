"""Every default is the one that `defaults.json` says, on which the published figures rest.

A default is changed only with figures that show why, and with that file: `python -m tests.test_defaults`.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from closesesame.bench.protocol import Protocol
from closesesame.canaries.planting import Canaries
from closesesame.core.settings import Settings
from closesesame.enhancement import ENHANCEMENTS
from closesesame.enhancement.training import EnhancerTraining
from closesesame.evaluation.reactivation import Reactivate
from closesesame.evaluation.retuning import Retune
from closesesame.listing import ALL, TRAINING
from closesesame.training.ordinary import OrdinaryCheck, OrdinaryRepair
from closesesame.training.selfdistillation import SelfDistillation

FILE = Path(__file__).parent / "defaults.json"
OTHERS: tuple[type[Settings], ...] = (
    Canaries,
    EnhancerTraining,
    OrdinaryCheck,
    OrdinaryRepair,
    Protocol,
    Reactivate,
    Retune,
    SelfDistillation,
)
"""Settings that are no method of a family."""
RULE = (
    "A default is changed only together with figures that show why, and with tests/defaults.json, which "
    "`python -m tests.test_defaults` rewrites."
)
MISSING = "none"


def defaults() -> dict[str, Any]:
    """By family and name, what a method is set to if nothing is asked for."""
    registries = {name: listed.registry for name, listed in (ALL | {TRAINING.name: TRAINING}).items()}
    found: dict[str, Any] = {
        family: {name: method().settings() for name, method in registry.items()}
        for family, registry in (registries | {"enhancement": ENHANCEMENTS}).items()
    }
    return found | {"others": {one.__name__: one().model_dump(mode="json") for one in OTHERS}}


def text_of(found: dict[str, Any]) -> str:
    """What the file holds."""
    return json.dumps(found, indent=2, sort_keys=True) + "\n"


def leaves(found: dict[str, Any], place: str = "") -> Iterator[tuple[str, str]]:
    """Each setting by the names that lead to it, and its value as JSON; a method without any is one, too."""
    for name, value in found.items():
        if isinstance(value, dict) and value:
            yield from leaves(value, f"{place}{name}.")
        else:
            yield place + name, json.dumps(value, sort_keys=True)


def differing(written: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """A line for each setting of which the file says something else."""
    before, after = dict(leaves(written)), dict(leaves(now))
    return [
        f"{name}: {before.get(name, MISSING)} in {FILE.name}, {after.get(name, MISSING)} in the code"
        for name in sorted({*before, *after})
        if before.get(name) != after.get(name)
    ]


def test_defaults_are_those_of_the_file() -> None:
    written = FILE.read_text("utf-8")
    wrong = differing(json.loads(written), defaults())
    assert not wrong, "\n".join(["defaults differ:", *wrong, RULE])
    assert written == text_of(defaults()), f"{FILE.name} is not as it is written. {RULE}"


def test_what_differs_is_named_wherever_it_stands() -> None:
    written = {"removal": {"a": {"lr": 0.1, "training": {"epochs": 3}}, "b": {}}}
    now = {"removal": {"a": {"lr": 0.1, "training": {"epochs": 4}}, "c": {"on": True}}}
    assert differing(written, now) == [
        "removal.a.training.epochs: 3 in defaults.json, 4 in the code",
        "removal.b: {} in defaults.json, none in the code",
        "removal.c.on: none in defaults.json, true in the code",
    ]
    assert differing({"a": {"on": True, "n": 1}}, {"a": {"on": 1, "n": 1.0}}) == [
        "a.n: 1 in defaults.json, 1.0 in the code",
        "a.on: true in defaults.json, 1 in the code",
    ]
    assert differing(written, written) == []


if __name__ == "__main__":
    FILE.write_text(text_of(defaults()), "utf-8")
