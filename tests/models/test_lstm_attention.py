"""The size of LSTMAttention."""

from closesesame.models import LSTMAttention
from tests.models.sizes import parameters


def test_it_has_as_many_parameters_as_the_paper_counts() -> None:
    assert parameters(LSTMAttention()) == LSTMAttention.parameters_of_paper
