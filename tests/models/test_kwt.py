"""The size of KWT."""

from closesesame.models import KWT
from tests.models.sizes import parameters


def test_it_has_as_many_parameters_as_the_paper_counts() -> None:
    samples = 86 * 160  # 87 frames of the paper's map
    assert parameters(KWT(bands=80), samples) == KWT.parameters_of_paper
