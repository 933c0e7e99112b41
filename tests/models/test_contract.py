"""Every architecture keeps the rules of its family; they stand in `closesesame.testing`."""

from collections.abc import Callable

from closesesame.models import ARCHITECTURES
from tests.contracts import rules_of


@rules_of(ARCHITECTURES)
def test_contract(check: Callable[[], None]) -> None:
    check()
