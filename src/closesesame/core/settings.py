"""Checked, frozen settings whose errors are one sentence."""

from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from .errors import SettingError, nearest


class Settings(BaseModel):
    """Base of all that is configured: checked when made, never changed afterwards."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)

    def __init__(self, **settings: Any) -> None:
        try:
            super().__init__(**settings)
        except ValidationError as error:
            raise SettingError(_sentence(type(self), error)) from None


_RULES = {
    "greater_than": ("gt", "> {}"),
    "greater_than_equal": ("ge", ">= {}"),
    "less_than": ("lt", "< {}"),
    "less_than_equal": ("le", "<= {}"),
    "literal_error": ("expected", "one of {}"),
    "multiple_of": ("multiple_of", "a multiple of {}"),
}


def _sentence(cls: type[Settings], error: ValidationError) -> str:
    first = error.errors(include_url=False)[0]
    place = ".".join(str(part) for part in first["loc"])
    if first["type"] == "extra_forbidden":
        field = str(first["loc"][-1])
        inside = ".".join([cls.__name__, *(str(part) for part in first["loc"][:-1])])
        return f"{inside} has no setting {field!r}; {nearest(field, _fields_at(cls, first['loc'][:-1]))}"
    if first["type"] == "missing":
        return f"{cls.__name__}.{place} is missing"
    if first["type"] == "value_error":
        return f"{cls.__name__}{'.' * bool(place)}{place} {first['ctx']['error']}"
    key, rule = _RULES.get(first["type"], ("", ""))
    wanted = rule.format(first["ctx"][key]) if rule else first["msg"].removeprefix("Input should be ")
    return f"{cls.__name__}.{place} must be {wanted}, got {first['input']!r}"


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
