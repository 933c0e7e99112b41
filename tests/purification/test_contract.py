"""Every purification keeps the rules of its family; they stand in `closesesame.testing`."""

from collections.abc import Callable

from closesesame.purification import PURIFICATIONS
from tests.contracts import rules_of


@rules_of(PURIFICATIONS)
def test_contract(check: Callable[[], None]) -> None:
    check()
