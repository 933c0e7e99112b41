"""Every removal keeps the rules of its family; they stand in `closesesame.testing`."""

from collections.abc import Callable

from closesesame.removal import REMOVALS
from tests.contracts import rules_of


@rules_of(REMOVALS)
def test_contract(check: Callable[[], None]) -> None:
    check()
