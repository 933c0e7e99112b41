"""The contract of every method of every registry."""

import json

import pytest

from closesesame.core.errors import SettingError
from closesesame.core.method import Method
from closesesame.core.settings import Settings
from closesesame.listing import ALL, describe_methods

METHODS = [method for listed in ALL.values() for method in listed.registry.values()]


@pytest.mark.parametrize("method", METHODS, ids=lambda m: m.name)
class TestEveryMethod:
    def test_it_is_made_without_settings_and_survives_json(self, method: type[Method]) -> None:
        made = method()
        assert method.parse(json.loads(json.dumps(made.settings()))) == made

    def test_it_names_its_source_and_says_what_it_does(self, method: type[Method]) -> None:
        assert method.cite
        first = (method.__doc__ or "").splitlines()[0]
        assert 20 < len(first) < 110
        assert first.endswith(".")

    def test_every_field_is_described_and_has_a_snake_case_name(self, method: type[Method]) -> None:
        for name, field in method.model_fields.items():
            assert field.description, name
            assert name == name.lower()

    def test_an_unknown_setting_is_refused_with_the_nearest(self, method: type[Method]) -> None:
        field = next(iter(method.model_fields))
        with pytest.raises(SettingError, match=f"has no setting '{field}x'.*did you mean '{field}'"):
            method.parse({f"{field}x": "1"})

    def test_a_bad_value_is_refused_by_class_and_field(self, method: type[Method]) -> None:
        for field, about in method.model_fields.items():
            wanted, inner = rf"{method.__name__}\.{field}", about.annotation
            if isinstance(inner, type) and issubclass(inner, Settings):
                wanted = rf"{method.__name__}\.{field} has no setting 'no'"
            with pytest.raises(SettingError, match=wanted):
                method.parse({field: {"no": "such value"}})


def test_the_list_is_the_registries() -> None:
    rows = describe_methods()
    assert [(row["family"], row["name"]) for row in rows] == [
        (family, name) for family, listed in ALL.items() for name in listed.registry
    ]
    assert all(set(row) == {"family", "name", "cite", "claims", "what"} for row in rows)
    assert {row["name"] for row in describe_methods("attacks")} == set(ALL["attack"].registry)
    with pytest.raises(SettingError, match="no family is called 'atack'.*did you mean 'attack'"):
        describe_methods("atack")
