"""The rules of all methods of a registry as parameters of a test."""

from typing import Any

import pytest

from closesesame.core.method import Registry
from closesesame.testing import checks_for


def rules_of(registry: Registry[Any]) -> pytest.MarkDecorator:
    """One parameter `check` for each method and each rule of its family."""
    checks = [
        pytest.param(check, id=f"{name}-{rule}")
        for name, method in registry.items()
        for rule, check in checks_for(method())
    ]
    return pytest.mark.parametrize("check", checks)
