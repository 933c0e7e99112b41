"""Every attack keeps the rules of its family; they stand in `closesesame.testing`."""

from collections.abc import Callable

from closesesame.attacks import ATTACKS
from tests.contracts import rules_of


@rules_of(ATTACKS)
def test_contract(check: Callable[[], None]) -> None:
    check()
