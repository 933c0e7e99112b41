"""The rules of every method, whatever its family."""

import json

from closesesame.core.errors import SettingError
from closesesame.core.method import Method
from closesesame.core.settings import Settings

from .contract import demand, refused


def every_class_variable_has_a_value(method: Method) -> None:
    """`name`, `cite`, and what a family asks for, such as `audible` of an attack."""
    for name in sorted(type(method).__class_vars__):
        demand(hasattr(method, name), f"the class variable {name!r} is missing")


def it_says_what_it_does_in_one_sentence(method: Method) -> None:
    """The first line of the docstring stands in lists, and the source beside it."""
    first = (type(method).__doc__ or "").split("\n", 1)[0]
    demand(
        20 < len(first) < 110 and first.endswith("."),
        f"the docstring must begin with one sentence of 20 to 110 characters, got {first!r}",
    )
    demand(method.cite, "the class variable 'cite' is empty; it names the paper, or says 'ours'")


def it_survives_json(method: Method) -> None:
    """Settings are written into files, and read from them."""
    again = type(method).parse(json.loads(json.dumps(method.settings())))
    demand(again == method, "the settings are others after JSON; every field must be plain data")


def every_field_is_described(method: Method) -> None:
    """Commands and pages show the description of every field."""
    for name, field in type(method).model_fields.items():
        demand(field.description, f"field {name!r} has no description")
        demand(name == name.lower(), f"field {name!r} must be in lower case")


def an_unknown_setting_is_refused_with_the_nearest(method: Method) -> None:
    """A slip of the pen is one sentence."""
    for field in list(type(method).model_fields)[:1]:
        said = refused(SettingError, type(method).parse, {f"{field}x": "1"}) or ""
        demand(
            f"has no setting '{field}x'" in said and f"did you mean '{field}'" in said,
            f"an unknown setting must be refused by SettingError, with the nearest: {said!r}",
        )


def a_bad_value_is_refused_by_class_and_field(method: Method) -> None:
    """Whatever the field, what it cannot be is one sentence that names it."""
    kind = type(method)
    for field, about in kind.model_fields.items():
        wanted, inner = f"{kind.__name__}.{field}", about.annotation
        if isinstance(inner, type) and issubclass(inner, Settings):
            wanted = f"{wanted} has no setting 'no'"
        said = refused(SettingError, kind.parse, {field: {"no": "such value"}})
        demand(
            said and wanted in said, f"a bad value of {field!r} must be refused by SettingError, not {said!r}"
        )


CHECKS = (
    every_class_variable_has_a_value,
    it_says_what_it_does_in_one_sentence,
    it_survives_json,
    every_field_is_described,
    an_unknown_setting_is_refused_with_the_nearest,
    a_bad_value_is_refused_by_class_and_field,
)
