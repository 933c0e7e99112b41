"""The judge of verdicts."""

import pytest

from closesesame.core.errors import DataError
from closesesame.evaluation import Trial
from closesesame.evaluation.measures import OF_VERDICTS
from closesesame.inspection import Verdict


def verdict(backdoored: bool, target: str | None = None, p_value: float | None = 0.2) -> Verdict:
    return Verdict(
        backdoored=backdoored, target=target, statistics={}, compared="", threshold=0.05, p_value=p_value
    )


def test_a_verdict_is_right_if_it_says_how_the_model_is() -> None:
    on_clean, on_victim = Trial(None), Trial("yes")
    assert on_clean.score(verdict(False)).as_json() == {
        "right": 1.0,
        "flagged": 0.0,
        "target_found": None,
        "p_value": 0.2,
    }
    assert on_clean.score(verdict(True, "yes", 0.01)).as_json() == {
        "right": 0.0,
        "flagged": 1.0,
        "target_found": None,
        "p_value": 0.01,
    }
    hit, missed, other = (
        on_victim.score(said) for said in (verdict(True, "yes"), verdict(False), verdict(True, "no", None))
    )
    assert (hit.right, hit.flagged, hit.target_found) == (True, True, True)
    assert (missed.right, missed.flagged, missed.target_found) == (False, False, False)
    assert (other.right, other.flagged, other.target_found, other.p_value) == (True, True, False, None)
    assert set(hit.as_json()) == {measure.key for measure in OF_VERDICTS}


def test_a_backdoor_without_a_single_target_has_none_to_find() -> None:
    judged = Trial(None, backdoored=True).score(verdict(True, "yes"))
    assert (judged.right, judged.target_found) == (True, None)
    with pytest.raises(DataError, match="without a backdoor has no target label, got 'yes'"):
        Trial("yes", backdoored=False)
