"""Every detection keeps the rules of its family; they stand in `closesesame.testing`."""

from collections.abc import Callable

from closesesame.detection import DETECTIONS
from tests.contracts import rules_of


@rules_of(DETECTIONS)
def test_contract(check: Callable[[], None]) -> None:
    check()
