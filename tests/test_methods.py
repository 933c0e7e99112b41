"""The list of all methods is derived from the registries."""

import pytest

from closesesame.core.errors import SettingError
from closesesame.registries import REGISTRIES, describe_methods


def test_the_list_is_the_registries() -> None:
    rows = describe_methods()
    assert [(row["family"], row["name"]) for row in rows] == [
        (registry.family, name) for registry in REGISTRIES.values() for name in registry
    ]
    assert all(set(row) == {"family", "name", "cite", "claims", "what"} for row in rows)
    assert {row["name"] for row in describe_methods("attacks")} == set(REGISTRIES["attack"])
    with pytest.raises(SettingError, match="no family is called 'atack'.*did you mean 'attack'"):
        describe_methods("atack")
