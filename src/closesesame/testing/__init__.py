"""Contracts of methods as functions: whoever writes a method checks with one line that it keeps the rules.

    from closesesame.testing import check_removal
    check_removal(Mine())

A broken rule is a `ContractError`: one sentence that names it. The checks bring their own small data and
models, and use the `quick` settings of the class where nothing else was set. With pytest each rule is a test
of its own:

    @pytest.mark.parametrize(("name", "check"), checks_for(Mine()))
    def test_contract(name, check):
        check()

The checks say nothing of whether a method works: for that it has a test of its numbers, and a benchmark.
"""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from closesesame.attacks import Attack
from closesesame.core.errors import SettingError
from closesesame.core.method import Method
from closesesame.detection import Detection
from closesesame.inspection import Inspection
from closesesame.models import Architecture
from closesesame.purification import Purification
from closesesame.removal import Removal
from closesesame.robust_training import RobustTraining

from . import architecture, attack, detection, inspection, purification, removal, robust_training
from .architecture import check_architecture
from .attack import check_attack
from .contract import Check, ContractError
from .detection import check_detection
from .inspection import check_inspection
from .purification import check_purification
from .removal import check_removal
from .robust_training import check_robust_training

__all__ = [
    "ContractError",
    "check_architecture",
    "check_attack",
    "check_detection",
    "check_inspection",
    "check_purification",
    "check_removal",
    "check_robust_training",
    "checks_for",
]

CHECKS: dict[type[Method], tuple[Check[Any], ...]] = {
    Attack: attack.CHECKS,
    Removal: removal.CHECKS,
    RobustTraining: robust_training.CHECKS,
    Detection: detection.CHECKS,
    Inspection: inspection.CHECKS,
    Purification: purification.CHECKS,
    Architecture: architecture.CHECKS,
}


def checks_for(method: Method) -> Iterator[tuple[str, Callable[[], None]]]:
    """Every rule that a method must keep: what it says, and a function that checks it.

    Raises:
        SettingError: if the method is of no family.
    """
    for family, checks in CHECKS.items():
        if isinstance(method, family):
            yield from ((check.__name__, partial(check, method)) for check in checks)
            return
    raise SettingError(
        f"{type(method).__name__} is of no family: {', '.join(kind.__name__ for kind in CHECKS)}"
    )
