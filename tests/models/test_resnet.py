"""The size of ResNet."""

from closesesame.models import ResNet
from tests.models.sizes import parameters


def test_it_has_about_0_3_million_parameters() -> None:
    assert 250_000 < parameters(ResNet()) < 350_000
