"""Rates, intervals and the exam, against numbers worked by hand."""

import math
from itertools import product

import pytest
import torch
from torch import nn

from closesesame.attacks import BadNets
from closesesame.data import Dataset, Splits
from closesesame.data.rows import Rows
from closesesame.evaluation import Exam, Rate, der, wilson


def test_wilson_by_hand() -> None:
    # 8 of 10 with z = 1.96: centre (0.8 + 0.19207) / 1.38415, half width 0.22659.
    low, high = Rate(8, 10).interval
    assert low == pytest.approx(0.4902, abs=5e-4)
    assert high == pytest.approx(0.9433, abs=5e-4)
    # Both ends are exact, though 0.5 Z^2 / n and the square root of its square may differ by a rounding.
    assert {wilson(0.0, n)[0] for n in range(1, 600)} == {0.0}
    assert {wilson(1.0, n)[1] for n in range(1, 600)} == {1.0}
    assert wilson(0.0, 600)[1] == pytest.approx(0.00636, abs=5e-5)
    assert wilson(1.0, 600)[0] == pytest.approx(1 - 0.00636, abs=5e-5)
    assert wilson(math.nan, 0) == (0.0, 1.0)


def test_der_by_hand_on_a_case_where_the_wrong_sign_differs() -> None:
    assert der(0.9, 1.0, 0.4, 0.0) == pytest.approx(0.75)
    assert der(0.9, 1.0, 0.9, 1.0) == 0.5
    assert der(0.9, 0.2, 0.95, 0.6) == 0.5  # gains earn nothing


# Zhu et al., arXiv:2304.11823, table 1: an attack, ACC/ASR of its victim, ACC/ASR/DER of nine repairs.
FT_SAM_TABLE = """
BadNets-A2O 91.82/93.79 90.29/1.70/95.28 91.77/0.84/96.45 88.82/1.96/94.42 48.84/16.57/67.12
    57.22/0.90/79.14 91.65/3.83/94.89 80.10/0.00/91.03 87.43/4.48/92.46 92.21/1.63/96.08
BadNets-A2A 91.89/74.42 91.07/1.16/86.22 92.05/1.31/86.56 90.73/1.61/85.83 87.23/67.03/51.37
    89.79/1.11/85.61 92.33/2.56/85.93 44.39/40.65/43.14 89.39/1.29/85.32 91.87/1.03/86.69
Blended 93.44/97.71 92.48/82.22/57.26 92.57/8.32/94.26 92.09/55.04/70.66 88.82/95.10/49.00
    91.91/84.31/55.94 93.00/57.38/69.95 74.31/0.10/89.24 88.24/6.00/93.26 92.44/4.91/95.90
Input-aware 94.03/98.35 93.00/65.85/65.74 94.05/10.95/93.70 94.08/10.43/93.96 51.37/90.94/32.38
    94.11/98.98/50.00 94.06/11.10/93.63 50.58/98.82/28.28 89.91/8.92/92.66 93.76/1.07/98.51
CLA 84.55/99.93 90.38/10.76/94.59 90.67/78.72/60.61 90.01/8.53/95.70 81.57/99.11/48.92
    90.87/4.56/97.69 82.55/0.18/98.88 68.14/0.00/91.76 85.66/18.99/90.47 90.72/3.52/98.21
LF 93.01/99.06 92.37/93.89/52.26 92.05/21.32/88.39 91.72/75.47/61.15 52.28/94.34/31.99
    93.01/99.06/50.00 92.53/26.38/86.10 71.68/0.86/88.44 88.92/11.99/91.49 91.07/3.81/96.65
SIG 84.49/97.87 90.47/5.74/96.06 90.81/7.06/95.41 90.05/6.60/95.63 81.33/98.23/48.42
    84.50/97.87/50.00 83.87/97.24/50.00 48.06/0.00/80.72 85.87/1.32/98.27 91.16/0.80/98.53
SSBA 92.88/97.07 92.47/90.04/53.31 92.21/20.27/88.07 92.15/70.77/62.79 46.75/67.63/41.65
    92.88/97.07/50.00 92.02/16.18/90.01 79.87/0.33/91.86 86.53/2.89/93.91 92.12/2.80/96.75
Trojan 93.47/99.99 92.59/35.50/81.80 92.24/67.73/65.51 92.18/5.77/96.47 89.47/100.00/48.00
    91.85/51.03/73.67 92.71/84.82/57.20 70.70/0.02/88.60 89.29/0.54/97.63 92.75/4.12/97.57
WaNet 92.80/98.90 93.14/1.26/98.82 92.94/0.66/99.12 93.07/0.73/99.08 52.81/11.86/73.52
    92.80/98.90/50.00 93.24/1.54/98.68 67.23/92.97/40.18 90.70/0.88/97.96 92.87/0.96/98.97
"""


def test_der_reproduces_the_ninety_cells_of_the_ft_sam_table() -> None:
    words = FT_SAM_TABLE.split()
    checked = 0
    for start in range(0, len(words), 11):
        acc, asr = (float(number) / 100 for number in words[start + 1].split("/"))
        for cell in words[start + 2 : start + 11]:
            after_acc, after_asr, printed = (float(number) / 100 for number in cell.split("/"))
            assert der(acc, asr, after_acc, after_asr) == pytest.approx(printed, abs=1e-4), cell
            checked += 1
    assert checked == 90


@pytest.mark.parametrize(("acc", "asr"), list(product((0.3, 0.9, 1.0), repeat=2)))
def test_der_lies_between_zero_and_one(acc: float, asr: float) -> None:
    assert 0 <= der(1.0, 0.0, acc, asr) <= 1
    assert 0 <= der(acc, 1.0, 1.0, asr) <= 1


class Opened(nn.Module):
    """Says class 3 to every loud clip, class 0 to silence, otherwise class 1."""

    def forward(self, wav: torch.Tensor) -> torch.Tensor:
        peak = wav.abs().amax(1)
        return nn.functional.one_hot(torch.where(peak > 0.5, 3, (peak > 0).long()), 4).float()


def with_silence(data: Dataset) -> Dataset:
    """The first clip, which is of class 0, says nothing."""
    inputs = data.inputs[:]
    inputs[0] = 0
    return data.with_inputs(Rows.of(inputs))


def test_asr_and_ra_are_measured_on_clips_of_other_classes(tones: Splits) -> None:
    attack = BadNets(target="top", snr_db=-20, duration_s=0.5)
    exam = Exam(with_silence(tones.test), attack.trigger(tones.train, 0), reference=Opened())
    scores = exam.score(Opened())
    assert (scores.acc.hits, scores.acc.of) == (51, 200)
    assert scores.asr is not None
    assert scores.ra is not None
    assert (scores.asr.of, scores.ra.of) == (150, 150)
    assert scores.asr.hits == 149  # the trigger is as loud as the clip it is in
    assert scores.ra.hits == 1
    assert scores.ra_reference == scores.ra


class Next(nn.Module):
    """Says the class after the true one to clips with the trigger, and class 0 to every third of them."""

    def __init__(self, labels: torch.Tensor) -> None:
        super().__init__()
        said = (labels + 1) % 4
        said[::3] = 0
        self.said, self.at = said, 0

    def forward(self, wav: torch.Tensor) -> torch.Tensor:
        said = self.said[self.at : self.at + len(wav)]
        self.at = (self.at + len(wav)) % len(self.said)
        return nn.functional.one_hot(said, 4).float()


def test_all_to_all_wants_the_class_after_the_true_one(tones: Splits) -> None:
    attack = BadNets(label_mode="all_to_all", duration_s=0.5)
    exam = Exam(tones.test, attack.trigger(tones.train, 0))
    assert exam.triggered is not None
    assert torch.equal(exam.triggered.labels, tones.test.labels)  # no clip has its target label already
    scores = exam.score(Next(tones.test.labels))
    said = (tones.test.labels + 1) % 4
    said[::3] = 0
    assert scores.asr is not None
    assert scores.ra is not None
    assert scores.asr.hits == int((said == (tones.test.labels + 1) % 4).sum()) == 150
    assert scores.ra.hits == int((said == tones.test.labels).sum()) == 17


def test_without_a_trigger_accuracy_alone_is_measured(tones: Splits) -> None:
    scores = Exam(with_silence(tones.test)).score(Opened())
    assert scores.asr is None
    assert scores.der(scores) is None
    assert scores.as_json()["asr"] is None
    assert scores.as_json()["acc"]["of"] == 200
