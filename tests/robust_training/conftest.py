"""What tests of robust trainings share."""

from collections.abc import Iterator

import pytest

from closesesame.core import machine


@pytest.fixture(autouse=True)
def in_fp32() -> Iterator[None]:
    """Everything within the tests is computed in fp32, so that it can be followed by hand."""
    with machine.precision("fp32"):
        yield
