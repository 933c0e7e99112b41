"""Thresholds: what clean clips say, a share, the method's own; and clean clips scored beside the others."""

from typing import ClassVar, Literal

import pytest
import torch
from torch import Tensor

from closesesame.core.errors import DataError
from closesesame.data import Dataset, Splits
from closesesame.detection import Detection
from closesesame.detection.flagging import NOTHING, by_clean, by_method, by_share, least_clean, score_beside
from closesesame.models import Classifier


def numbers(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def test_a_clip_is_flagged_by_its_conformal_p_value() -> None:
    clean = numbers(3, 1, 9, 5, 7, 2, 8, 4, 6)
    # 9 clean clips, rate 0.2: p = (1 + those as high) / 10 must be 0.2 or less, so 1 may be as high.
    found = by_clean(clean, 0.2)
    assert found.threshold == 8
    scores = numbers(7.5, 8, 8.5, 9, 9.5)
    p_values = [(1 + sum(float(one) >= float(score) for one in clean)) / 10 for score in scores]
    assert p_values == [0.3, 0.3, 0.2, 0.2, 0.1]
    assert found.flagged(scores).tolist() == [False, False, True, True, True]
    assert "above 8, which 1 of 9 clean clips exceed" in found.why
    assert "20 % or fewer are flagged on average" in found.why


def test_equal_clean_scores_are_not_exceeded() -> None:
    found = by_clean(numbers(*[1.0] * 8, 5, 5, 5), 0.2)  # 0.2 x 12 = 2.4: the second highest
    assert found.threshold == 5
    assert "which 0 of 11" in found.why
    assert not found.flagged(numbers(5, 4)).any()


@pytest.mark.parametrize(
    ("rate", "least"), [(0.01, 99), (0.05, 19), (0.3, 3), (0.07, 14), (0.5, 1), (0.1, 9)]
)
def test_a_rate_needs_its_clean_clips(rate: float, least: int) -> None:
    assert least_clean(rate) == least
    enough = torch.arange(least, dtype=torch.float64)
    assert by_clean(enough, rate).threshold == least - 1  # the highest of all
    with pytest.raises(DataError, match=rf"needs {least:,} of them or more, and there are {least - 1}"):
        by_clean(enough[1:], rate)


def test_rates_are_decimal_numbers() -> None:
    # 0.29 x 100 is 28.999999999999996 in binary.
    assert by_clean(torch.arange(99, dtype=torch.float64), 0.29).threshold == 98 - 28
    assert by_share(torch.arange(100, dtype=torch.float64), 0.29).threshold == 99 - 29


def test_of_clean_clips_the_wanted_share_is_flagged_on_average() -> None:
    rng = torch.Generator().manual_seed(0)
    rates = []
    for _ in range(400):
        drawn = torch.randn(59 + 200, generator=rng, dtype=torch.float64).exp()
        rates.append(float(by_clean(drawn[:59], 0.05).flagged(drawn[59:]).double().mean()))
    assert sum(rates) / len(rates) == pytest.approx(3 / 60, abs=0.005)


@pytest.mark.parametrize(("share", "count"), [(0.2, 2), (0.29, 2), (0.05, 0), (0.999, 9)])
def test_a_share_is_flagged_from_the_top(share: float, count: int) -> None:
    scores = numbers(5, 3, 9, 1, 7, 2, 8, 4, 6, 0)
    flagged = by_share(scores, share).flagged(scores)
    assert sorted(scores[flagged].tolist()) == list(range(10 - count, 10))


def test_a_share_flags_fewer_if_scores_are_equal() -> None:
    scores = numbers(1, 1, 1, 0)
    assert not by_share(scores, 0.5).flagged(scores).any()


def test_without_a_threshold_nothing_is_flagged_and_the_remedy_said() -> None:
    assert by_method(None) is NOTHING
    assert not NOTHING.flagged(numbers(1, 2)).any()
    assert "--clean" in NOTHING.why
    own = by_method(1.5)
    assert own.flagged(numbers(1.5, 1.6)).tolist() == [False, True]
    assert "above 1.5, the method's own threshold" in own.why


class Place(Detection):
    """Score clips by their place among all that are scored together."""

    name: ClassVar[str] = "place"
    cite: ClassVar[str] = "none"
    of: ClassVar[Literal["training clips", "inputs"]] = "training clips"
    needs_clean: ClassVar[bool] = True

    def suspicion(self, model: Classifier, examples: Dataset, clean: Dataset, seed: int) -> Tensor:
        """Numbered by their ids, plus what the method was given besides."""
        ordered = sorted(examples.ids)
        places = [ordered.index(name) for name in examples.ids]
        return torch.tensor(places) + 1000 * len(clean) + 0.5 * seed


def test_clean_clips_are_scored_beside_the_others(tones: Splits, clean_model: Classifier) -> None:
    examples = tones.train.take(torch.tensor([4, 2, 9]))
    beside = tones.validation.take(torch.tensor([3, 1]))
    known = tones.validation.take(torch.tensor([5, 6, 7, 8]))
    found, clean = score_beside(Place(), clean_model, examples, known, beside, seed=1)
    assert found.ids == examples.ids
    together = sorted(examples.ids + beside.ids)
    assert found.scores.tolist() == [4000.5 + together.index(name) for name in examples.ids]
    assert clean.tolist() == [4000.5 + together.index(name) for name in beside.ids]
    alone, none = score_beside(Place(), clean_model, examples, known, None, seed=1)
    assert (alone.ids, len(none)) == (examples.ids, 0)
