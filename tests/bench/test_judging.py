"""The judges of a grid, each with a truth that is known."""

from typing import Any

import pytest

from closesesame.bench.judging import KINDS, Truth
from closesesame.inspection import Verdict


def asked(*_: object) -> Any:
    pytest.fail("the judge of verdicts asked for what it does not need")


@pytest.mark.parametrize("backdoored", [False, True])
@pytest.mark.parametrize("flagged", [False, True])
def test_a_verdict_is_right_if_it_says_what_the_suspect_was_trained_on(
    backdoored: bool, flagged: bool
) -> None:
    # A backdoor without a single target, such as all-to-all, is one too.
    truth = Truth(asked, asked, asked, lambda: None, backdoored=backdoored)
    named = "yes" if flagged else None
    verdict = Verdict(
        backdoored=flagged, target=named, statistics={}, compared="", threshold=0.05, p_value=0.2
    )
    said = KINDS["verdict"].judge(verdict, truth)
    assert said["right"] == float(flagged == backdoored)
    assert said["flagged"] == float(flagged)
    assert said["target_found"] is None


@pytest.mark.parametrize(("target", "found"), [("yes", 1.0), ("no", 0.0)])
def test_a_verdict_is_compared_with_the_target_label_of_the_suspect(target: str, found: float) -> None:
    truth = Truth(asked, asked, asked, lambda: target, backdoored=True)
    verdict = Verdict(backdoored=True, target="yes", statistics={}, compared="", threshold=0.05, p_value=0.2)
    assert KINDS["verdict"].judge(verdict, truth)["target_found"] == found
