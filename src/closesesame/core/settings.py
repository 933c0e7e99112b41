"""Checked, frozen settings whose errors are one sentence."""

import copy
import json
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from typing import Any, get_args

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from .errors import SettingError, nearest

LONGEST_SHOWN = 60
"""Characters of a wrong value that an error repeats."""
_checking: ContextVar[bool] = ContextVar("checking", default=False)


class Settings(BaseModel):
    """Base of all that is configured: checked when made, never changed afterwards."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True, allow_inf_nan=False)

    def __init__(self, **settings: Any) -> None:
        if _checking.get():  # settings within settings: the outermost says where the error is
            super().__init__(**settings)
            return
        checking = _checking.set(True)
        try:
            super().__init__(**settings)
        except ValidationError as error:
            raise SettingError(_sentence(type(self), error)) from None
        finally:
            _checking.reset(checking)

    @model_validator(mode="before")
    @classmethod
    def _true_is_no_number(cls, given: Any) -> Any:
        """Refuses `True` where a number is expected: Python would count it as 1."""
        for name, value in given.items() if isinstance(given, dict) else ():
            field = cls.model_fields.get(name)
            if isinstance(value, bool) and field is not None and not _takes_switch(field.annotation):
                raise ValueError(f"takes no {_SWITCH} for {name!r}")
        return given


def default(parent: type[Settings], name: str, value: Any, *, description: str | None = None) -> Any:
    """Restates a field of a parent class with another default.

    As in `lr: float = default(Parent, "lr", 0.1)`.

    Args:
        parent: where the meaning and the range of the field stand.
        name: of the field.
        value: the new default.
        description: a narrower meaning, if it is not the parent's.
    """
    field = copy.copy(parent.model_fields[name])
    field.default = value
    if description is not None:
        field.description = description
    return field


def _takes_switch(annotation: Any) -> bool:
    return annotation in {bool, Any} or any(map(_takes_switch, get_args(annotation)))


_NUMBER, _WHOLE, _SWITCH, _TEXT = "a number", "a whole number", "true or false", "text"
_LIST, _TABLE, _NONE = "a list", "a table of names and values", "none"
_RULES = {
    "greater_than": "> {gt}",
    "greater_than_equal": ">= {ge}",
    "less_than": "< {lt}",
    "less_than_equal": "<= {le}",
    "literal_error": "one of {expected}",
    "enum": "one of {expected}",
    "multiple_of": "a multiple of {multiple_of}",
    "finite_number": "a finite number",
    "float_type": _NUMBER,
    "float_parsing": _NUMBER,
    "int_type": _WHOLE,
    "int_parsing": _WHOLE,
    "int_from_float": _WHOLE,
    "int_parsing_size": "a whole number of fewer digits",
    "bool_type": _SWITCH,
    "bool_parsing": _SWITCH,
    "string_type": _TEXT,
    "string_unicode": "text in UTF-8",
    "string_too_short": "text of {min_length} or more characters",
    "string_too_long": "text of at most {max_length} characters",
    "string_pattern_mismatch": "text of the form {pattern}",
    "too_short": "a list of {min_length} or more",
    "too_long": "a list of at most {max_length}",
    "tuple_type": _LIST,
    "list_type": _LIST,
    "set_type": _LIST,
    "frozen_set_type": _LIST,
    "iterable_type": _LIST,
    "dict_type": _TABLE,
    "mapping_type": _TABLE,
    "model_type": _TABLE,
    "model_attributes_type": _TABLE,
    "dataclass_type": _TABLE,
    "invalid_key": "named by text",
    "none_required": _NONE,
    "is_instance_of": "a {class}",
}
"""What a value must be, by the kind of error that pydantic reports."""


def _sentence(cls: type[Settings], error: ValidationError) -> str:
    errors: list[dict[str, Any]] = [{**one} for one in error.errors(include_url=False)]
    # An unknown name explains a missing one.
    errors.sort(key=lambda one: one["type"] != "extra_forbidden")
    first, loc = errors[0], errors[0]["loc"]
    if first["type"] == "extra_forbidden":
        field, inside = str(loc[-1]), _place(cls, loc[:-1])
        return f"{inside} has no setting {_shown(field)}; {nearest(field, _fields_at(cls, loc[:-1]))}"
    if first["type"] == "missing":
        short = f"{_place(cls, loc[:-1])} must be a list of {loc[-1] + 1} or more" if _is_index(loc) else ""
        return short or f"{_place(cls, loc)} is missing"
    if first["type"] in {"value_error", "assertion_error"}:
        said = str(first["ctx"]["error"])
        names_its_field = said.partition(" ")[0] in _fields_at(cls, loc)
        return f"{_place(cls, loc)}{'.' if names_its_field else ' '}{said}"
    alike = _alternatives(cls, errors)
    wanted = " or ".join(dict.fromkeys(map(_wanted, alike)))
    return (
        f"{_place(cls, loc[:-1] if len(alike) > 1 else loc)} must be {wanted}, got {_shown(first['input'])}"
    )


def _wanted(error: Mapping[str, Any]) -> str:
    rule = _RULES.get(error["type"])
    if rule is None:
        return str(error["msg"]).removeprefix("Input should be ").removeprefix("a valid ")
    return rule.format(**error.get("ctx", {}))


def _alternatives(cls: type[Settings], errors: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The errors that are one: a value that may be of several types fails once for each of them."""
    first, place = errors[0], errors[0]["loc"][:-1]
    if not place or not isinstance(first["loc"][-1], str) or first["loc"][-1] in _fields_at(cls, place):
        return [first]
    return [one for one in errors if one["input"] is first["input"] and one["loc"][:-1] == place]


def _place(cls: type[Settings], loc: tuple[int | str, ...]) -> str:
    """As `Recipe.data[0].name`."""
    parts = (f"[{part}]" if isinstance(part, int) else f".{part}" for part in loc if part != "[key]")
    return cls.__name__ + "".join(parts)


def _is_index(loc: tuple[int | str, ...]) -> bool:
    return isinstance(loc[-1], int)


def _shown(value: object) -> str:
    """A wrong value as a person would write it, on one line, cut if it is long."""
    if isinstance(value, int) and value.bit_length() > 4 * LONGEST_SHOWN:
        return f"a number of about {round(value.bit_length() * 0.30103):,} digits"
    if isinstance(value, str):
        cut = value[:LONGEST_SHOWN]
        return repr(cut) if cut == value else f"{cut!r}... ({len(value):,} characters)"
    text = _KINDS.get(type(value), _as_json)(value)
    return text if len(text) <= LONGEST_SHOWN else f"{text[:LONGEST_SHOWN]}..."


def _as_json(value: object) -> str:
    try:
        return json.dumps(value, default=lambda other: type(other).__name__, ensure_ascii=False)
    except (ValueError, TypeError, RecursionError):
        return f"a {type(value).__name__}"


_KINDS: dict[type, Callable[[object], str]] = {type(None): lambda _: _NONE, float: repr}


def _fields_at(cls: type[BaseModel], place: tuple[int | str, ...]) -> list[str]:
    """The fields that are known at a place inside nested settings."""
    here = cls
    for part in place:
        field = here.model_fields.get(str(part))
        if field is None:
            continue  # an index into a list
        inner = [field.annotation, *getattr(field.annotation, "__args__", ())]
        here = next((a for a in inner if isinstance(a, type) and issubclass(a, BaseModel)), here)
    return [field.alias or name for name, field in here.model_fields.items()]
