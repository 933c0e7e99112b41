"""AUROC, its interval, and the share found at a share of false alarms, by hand."""

import math
from dataclasses import replace

import pytest
import torch

from closesesame.core.errors import DataError
from closesesame.detection import Suspicion
from closesesame.evaluation import Area, Screening
from closesesame.evaluation.screening import area, found_at


def numbers(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


def scores_of(**scores: float) -> Suspicion:
    return Suspicion(ids=tuple(scores), scores=numbers(*scores.values()), method="test")


def test_auroc_counts_a_tie_one_half() -> None:
    # Pairs: 3 beats 1, 2, 2 (3 wins); 2 beats 1 and ties twice (2 wins); 0 beats none: 5 of 9.
    assert area(numbers(3, 2, 0), numbers(2, 1, 2)).value == pytest.approx(5 / 9)
    assert area(numbers(1, 1), numbers(1, 1, 1)).value == 0.5
    assert area(numbers(2, 3), numbers(0, 1)).value == 1.0
    assert area(numbers(0, 1), numbers(2, 3)).value == 0.0


def test_auroc_is_that_of_all_pairs() -> None:
    rng = torch.Generator().manual_seed(0)
    poisoned, clean = (torch.randint(12, (n,), generator=rng).double() for n in (40, 70))
    pairs = (poisoned[:, None] > clean).double() + (poisoned[:, None] == clean).double() / 2
    assert area(poisoned, clean).value == pytest.approx(float(pairs.mean()))


def test_the_interval_of_an_area_is_where_hanley_and_mcneil_put_it_1_96_deviations_away() -> None:
    seen = Area(0.8, poisoned=20, clean=50)
    low, high = seen.interval
    for end in (low, high):
        # Variance of Hanley and McNeil with Q1 = A / (2 - A) and Q2 = 2 A^2 / (1 + A).
        q1, q2 = end / (2 - end), 2 * end**2 / (1 + end)
        variance = (end * (1 - end) + 19 * (q1 - end**2) + 49 * (q2 - end**2)) / (20 * 50)
        assert abs(0.8 - end) == pytest.approx(1.959964 * math.sqrt(variance), abs=1e-6)
    assert low < 0.8 < high
    # The two kinds do not count alike: a large area is less sure where few are poisoned.
    assert Area(0.8, poisoned=50, clean=20).interval != pytest.approx(seen.interval)


def test_a_perfect_area_is_not_certain() -> None:
    # One of each: the lower end A solves (1 - A)^2 = 1.96^2 A (1 - A), so A = 1 / (1 + 1.96^2).
    assert Area(1.0, 1, 1).interval == pytest.approx((1 / (1 + 1.959964**2), 1.0), abs=1e-6)
    assert Area(0.0, 1, 1).interval == pytest.approx((0.0, 1 - 1 / (1 + 1.959964**2)), abs=1e-6)
    assert 0.9 < Area(1.0, 50, 500).interval[0] < 1.0


def test_what_is_found_lies_above_the_threshold_that_few_enough_clean_examples_exceed() -> None:
    clean = torch.arange(100).double()  # one in a hundred may lie above: the threshold is 98
    poisoned = numbers(97, 98, 98.5, 99, 200)
    assert (found_at(poisoned, clean, 1).hits, found_at(poisoned, clean, 1).of) == (3, 5)
    assert found_at(poisoned, clean, 5).hits == 5  # threshold 94
    assert found_at(numbers(94, 95), clean, 5).hits == 1
    # Of 99 clean ones less than one is 1 %: none may be flagged.
    assert found_at(numbers(98, 98.5), clean[:99], 1).hits == 1
    # Ties with the threshold are not flagged: flagging them would flag all clean ones.
    assert found_at(numbers(5, 6), torch.full((100,), 5.0).double(), 10).hits == 1


def test_a_screening_matches_by_id_and_says_each_measure_by_its_key() -> None:
    judge = Screening({"a": True, "b": False, "c": False, "d": True})
    screened = judge.score(scores_of(c=1, a=3, d=2, b=2))
    assert screened.auroc is not None
    assert screened.auroc.value == pytest.approx(3.5 / 4)
    said = screened.as_json()
    assert set(said) == {"auroc", "tpr_at_1", "tpr_at_5", "tpr_at_10", "tpr_at_own", "fpr_at_own"}
    assert said["tpr_at_own"] is said["fpr_at_own"] is None  # the method names no threshold
    assert said["auroc"]["value"] == pytest.approx(3.5 / 4)
    assert (said["auroc"]["poisoned"], said["auroc"]["clean"]) == (2, 2)
    assert said["tpr_at_10"]["value"] == 0.5
    assert said["tpr_at_10"]["of"] == 2
    assert screened.tpr_at_10 is not None
    assert said["tpr_at_10"]["interval"] == screened.tpr_at_10.interval


def test_each_share_of_true_positives_is_that_of_its_own_share_of_false_alarms() -> None:
    # Thresholds on 0 to 99: 98 at 1 %, 94 at 5 %, 89 at 10 %.
    clean = {f"clean {row}": float(row) for row in range(100)}
    poisoned = {f"poisoned {row}": value for row, value in enumerate((10, 89.5, 90.5, 91.5, 95.5, 96.5, 99))}
    screened = Screening(dict.fromkeys(clean, False) | dict.fromkeys(poisoned, True)).score(
        scores_of(**clean, **poisoned)
    )
    said = screened.as_json()
    found = [said[key]["value"] for key in ("tpr_at_1", "tpr_at_5", "tpr_at_10")]
    assert found == pytest.approx([1 / 7, 3 / 7, 6 / 7])


def test_without_poisoned_or_without_clean_examples_nothing_is_measured() -> None:
    for poisoned in (True, False):
        screened = Screening({"a": poisoned, "b": poisoned}).score(scores_of(a=1, b=2))
        assert set(screened.as_json().values()) == {None}


def test_the_threshold_of_a_method_flags_what_lies_above_it_on_clean_data_too() -> None:
    scores = {"a": 3.0, "b": 2.0, "c": 2.5, "d": 1.0, "e": 9.0}
    suspicion = replace(scores_of(**scores), flagged_above=2.0)
    said = Screening(dict.fromkeys(scores, False) | {"a": True, "b": True}).score(suspicion).as_json()
    assert (said["tpr_at_own"]["hits"], said["tpr_at_own"]["of"]) == (1, 2)  # b is at the threshold
    assert (said["fpr_at_own"]["hits"], said["fpr_at_own"]["of"]) == (2, 3)
    said = Screening(dict.fromkeys(scores, False)).score(suspicion).as_json()
    assert said["fpr_at_own"]["value"] == 3 / 5
    assert said["tpr_at_own"] is said["auroc"] is said["tpr_at_1"] is None


def test_scores_of_other_examples_are_refused() -> None:
    judge = Screening({"a": True, "b": False})
    with pytest.raises(DataError, match=r"1 examples are scored and not known \(c\)"):
        judge.score(scores_of(a=1, b=2, c=3))
    with pytest.raises(DataError, match=r"1 examples have no score \(b\)"):
        judge.score(scores_of(a=1))
    twice = Suspicion(ids=("a", "b", "a"), scores=numbers(1, 2, 3), method="test")
    with pytest.raises(DataError, match=r"1 examples have several scores \(a\)"):
        judge.score(twice)
