"""Rates, intervals and the exam, against numbers worked by hand."""

import math
from itertools import product

import pytest
import torch
from torch import nn

from closesesame.attacks import BadNets
from closesesame.data import Splits
from closesesame.evaluation import Exam, Rate, der, wilson


def test_wilson_by_hand() -> None:
    # 8 of 10 with z = 1.96: centre (0.8 + 0.19207) / 1.38415, half width 0.22659.
    low, high = Rate(8, 10).interval
    assert low == pytest.approx(0.4902, abs=5e-4)
    assert high == pytest.approx(0.9433, abs=5e-4)
    assert wilson(0.0, 600)[0] == 0.0
    assert wilson(0.0, 600)[1] == pytest.approx(0.00636, abs=5e-5)
    assert wilson(1.0, 600)[0] == pytest.approx(1 - 0.00636, abs=5e-5)
    assert wilson(math.nan, 0) == (0.0, 1.0)


def test_der_by_hand_on_a_case_where_the_wrong_sign_differs() -> None:
    assert der(0.9, 1.0, 0.4, 0.0) == pytest.approx(0.75)
    assert der(0.9, 1.0, 0.9, 1.0) == 0.5
    assert der(0.9, 0.2, 0.95, 0.6) == 0.5  # gains earn nothing


@pytest.mark.parametrize(("acc", "asr"), list(product((0.3, 0.9, 1.0), repeat=2)))
def test_der_lies_between_zero_and_one(acc: float, asr: float) -> None:
    assert 0 <= der(1.0, 0.0, acc, asr) <= 1
    assert 0 <= der(acc, 1.0, 1.0, asr) <= 1


class Opened(nn.Module):
    """Says class 3 to every loud clip, otherwise class 1."""

    def forward(self, wav: torch.Tensor) -> torch.Tensor:
        loud = wav.abs().amax(1) > 0.5
        return nn.functional.one_hot(torch.where(loud, 3, 1), 4).float()


def test_asr_and_ra_are_measured_on_clips_of_other_classes(tones: Splits) -> None:
    attack = BadNets(target="top", snr_db=-20, duration_s=0.5)
    exam = Exam(tones.test, attack.trigger(tones.train, 0), twin=Opened())
    scores = exam.score(Opened())
    assert (scores.acc.hits, scores.acc.of) == (50, 200)
    assert scores.asr is not None
    assert scores.ra is not None
    assert (scores.asr.of, scores.ra.of) == (150, 150)
    assert scores.asr.value == 1.0
    assert scores.ra.value == 0.0
    assert scores.ra_ceiling == scores.ra


def test_without_a_trigger_accuracy_alone_is_measured(tones: Splits) -> None:
    scores = Exam(tones.test).score(Opened())
    assert scores.asr is None
    assert scores.der(scores) is None
    assert scores.as_json()["asr"] is None
    assert scores.as_json()["acc"]["of"] == 200
