"""Every inspection keeps the rules of its family; they stand in `closesesame.testing`."""

from collections.abc import Callable

from closesesame.inspection import INSPECTIONS
from tests.contracts import rules_of


@rules_of(INSPECTIONS)
def test_contract(check: Callable[[], None]) -> None:
    check()
