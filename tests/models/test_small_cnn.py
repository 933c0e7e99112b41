"""The size of SmallCNN."""

from closesesame.models import SmallCNN
from tests.models.sizes import parameters


def test_it_has_as_many_parameters_as_the_paper_counts() -> None:
    assert parameters(SmallCNN()) == SmallCNN.parameters_of_paper
