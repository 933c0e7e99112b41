"""The demo: which removals a new user sees."""

from closesesame.demo import REMOVALS, STEPS
from closesesame.removal.choice import removal_for


def test_the_first_row_is_the_removal_that_is_taken_by_itself_and_all_train_equally_long() -> None:
    assert REMOVALS[0].name == removal_for({}, clean=True, audio=False).name
    assert {removal.settings()["steps"] for removal in REMOVALS} == {STEPS}
