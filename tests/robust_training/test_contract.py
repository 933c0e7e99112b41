"""Every robust training keeps the rules of its family; they stand in `closesesame.testing`."""

from collections.abc import Callable

from closesesame.robust_training import ROBUST_TRAININGS
from tests.contracts import rules_of


@rules_of(ROBUST_TRAININGS)
def test_contract(check: Callable[[], None]) -> None:
    check()
