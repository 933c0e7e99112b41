"""The size of LSTM."""

from closesesame.models import LSTM
from tests.models.sizes import parameters


def test_it_has_as_many_parameters_as_the_paper_counts() -> None:
    samples = 86 * 160  # 87 frames of the paper's map
    assert parameters(LSTM(bands=80), samples) == LSTM.parameters_of_paper
