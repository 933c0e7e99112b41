"""The list of all methods is derived from the registries."""

import re
import shlex
from typing import Any

import pytest
from pydantic import BaseModel

from closesesame.cli.inputs import settings_of
from closesesame.core.errors import SettingError
from closesesame.core.method import Method
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


METHODS: dict[str, type[Method]] = {
    name: method for listed in ALL.values() for name, method in listed.registry.items()
}
STRUCTURED = [
    (name, field)
    for name, method in METHODS.items()
    for field, about in method.model_fields.items()
    if isinstance(about.default, tuple | list | dict | BaseModel)
]


def typed(text: str) -> dict[str, Any]:
    """What a command makes of `--set FIELD=VALUE` in a sentence."""
    found = re.search(r"such as (--set .+?), got ", text)
    assert found
    return settings_of(shlex.split(found[1])[1:])


@pytest.mark.parametrize(("name", "field"), STRUCTURED)
def test_a_list_or_table_that_is_none_is_told_as_it_is_typed(name: str, field: str) -> None:
    method = METHODS[name]
    for wrong in ("", "[1", '{"a":'):
        with pytest.raises(SettingError, match=f"{method.__name__}.{field} must be a ") as error:
            method.parse({field: wrong})
        example = typed(str(error.value))
        assert list(example) == [field]
        if "NAME" not in str(example[field]):
            assert method.parse(example) == method()


def test_a_list_is_typed_with_commas_or_as_json_or_as_a_shell_leaves_it() -> None:
    dlp, nad = METHODS["dlp"], METHODS["nad"]
    for text in ("SL,AU", '["SL","AU"]', "[SL,AU]", " SL, 'AU'"):
        assert dlp.parse({"stages": text}).settings()["stages"] == ["SL", "AU"]
    assert dlp.parse({"stages": "SL"}).settings()["stages"] == ["SL"]
    assert nad.parse({"betas": "1,2.5,3"}).settings()["betas"] == [1, 2.5, 3]
    with pytest.raises(SettingError, match=r"DLP.stages\[1\] must be one of 'SL', 'AU' or 'ASSFT', got 'UA'"):
        dlp.parse({"stages": "SL,UA"})
    with pytest.raises(SettingError, match=r"NAD.betas must be a list of at most 3"):
        nad.parse({"betas": "1,2,3,4"})
