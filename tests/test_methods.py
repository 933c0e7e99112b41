"""The list of all methods is derived from the registries."""

import pytest

from closesesame.core.errors import SettingError
from closesesame.listing import ALL, describe_methods


def test_the_list_is_that_of_the_families() -> None:
    rows = describe_methods()
    assert [(row["family"], row["name"]) for row in rows] == [
        (family, name) for family, listed in ALL.items() for name in listed.registry
    ]
    assert all(set(row) == {"family", "name", "cite", "claims", "what"} for row in rows)
    assert {row["name"] for row in describe_methods("attacks")} == set(ALL["attack"].registry)
    with pytest.raises(SettingError, match="no family is called 'atack'.*did you mean 'attack'"):
        describe_methods("atack")
