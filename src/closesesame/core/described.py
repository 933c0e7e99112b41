"""What a method says of itself, in words and as data: from its docstrings and its settings."""

import inspect
import json
import sys
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from .method import Method
from .settings import Settings


class Setting(NamedTuple):
    """One row of a table of settings.

    Attributes:
        name: as `--set` takes it; `outer.inner` is one inside the JSON object that `--set outer=` takes.
        default: as `--set` takes it.
        range: what is allowed, in a few words.
        about: what it is.
        value: the default as a JSON value.
        minimum: lowest number; None if it is not a number.
        maximum: highest number.
        choices: the values that are allowed, where they can be listed.
    """

    name: str
    default: str
    range: str
    about: str
    value: Any = None
    minimum: float | None = None
    maximum: float | None = None
    choices: tuple[Any, ...] = ()


class Words(NamedTuple):
    """What stands in the docstrings of a method, paragraph by paragraph.

    Attributes:
        title: the first paragraph of its module.
        does: what the class says.
        paper: where it comes from.
        differs: where ours differs from that.
    """

    title: str
    does: tuple[str, ...]
    paper: tuple[str, ...]
    differs: tuple[str, ...]


def words_of(method: type[Method]) -> Words:
    """Reads the docstrings of a class and of its module, which holds paper and differences."""
    title, *rest = _paragraphs(sys.modules[method.__module__].__doc__) or [""]
    does = _paragraphs(method.__doc__)
    paper, differs = [], []
    for paragraph in rest:
        before, mark, after = paragraph.partition("Ours differs:")
        paper += [before.strip()] if before.strip() else []
        differs += [after.strip()[:1].upper() + after.strip()[1:]] if mark else []
    return Words(title or method.name, tuple(does), tuple(paper), tuple(differs))


def settings_of(method: type[Method]) -> list[Setting]:
    """All settings of a method: its own first, then what it inherits."""
    inherited = {name for base in method.__bases__ for name in getattr(base, "model_fields", ())}
    schema = method.model_json_schema()
    rows = _rows(method, schema, schema.get("$defs", {}))
    return sorted(rows, key=lambda row: row.name in inherited)


def numeric(settings: list[Setting]) -> Setting | None:
    """The first whose default is a number, to show how one is set."""
    return next((row for row in settings if type(row.value) in {int, float} and "." not in row.name), None)


def _rows(cls: type[Settings], schema: Mapping[str, Any], known: Mapping[str, Any]) -> Iterator[Setting]:
    for name, field in cls.model_fields.items():
        about = _resolved(schema["properties"][name], known)
        value, numbers = about.get("default"), _numbers(about, known)
        yield Setting(
            name=name,
            default=_as_given(value),
            range=_range(about, known),
            about=field.description or "",
            value=value,
            minimum=numbers.get("minimum", numbers.get("exclusiveMinimum")),
            maximum=numbers.get("maximum", numbers.get("exclusiveMaximum")),
            choices=tuple(_choices(about)),
        )
        if isinstance(field.annotation, type) and issubclass(field.annotation, Settings):
            inner = _rows(field.annotation, about, known)
            yield from (row._replace(name=f"{name}.{row.name}") for row in inner)


def _paragraphs(text: str | None) -> list[str]:
    """The paragraphs of a docstring, each in one line."""
    return [" ".join(part.split()) for part in inspect.cleandoc(text or "").split("\n\n") if part.strip()]


def _resolved(about: Mapping[str, Any], known: Mapping[str, Any]) -> Mapping[str, Any]:
    """A part of a JSON schema, with what it refers to."""
    return {**known[about["$ref"].rpartition("/")[2]], **about} if "$ref" in about else about


def _inside(about: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The schemas of the elements of a list."""
    return list(about.get("prefixItems") or [about.get("items", {})])


def _numbers(about: Mapping[str, Any], known: Mapping[str, Any]) -> Mapping[str, Any]:
    """The first part of a JSON schema that stands for a number; empty if none does."""
    about = _resolved(about, known)
    if about.get("type") in {"integer", "number"}:
        return about
    parts = about.get("anyOf") or (_inside(about) if about.get("type") == "array" else [])
    return next(filter(None, (_numbers(part, known) for part in parts)), {})


def _choices(about: Mapping[str, Any]) -> list[Any]:
    return about.get("enum") or ([about["const"]] if "const" in about else [])


def _range(about: Mapping[str, Any], known: Mapping[str, Any]) -> str:
    """What a JSON schema allows, in a few words."""
    about = _resolved(about, known)
    if "anyOf" in about:
        parts = (_range({**part, "file": about.get("file")}, known) for part in about["anyOf"])
        return " or ".join(dict.fromkeys(parts))
    if _choices(about):
        return ", ".join(map(_as_given, _choices(about)))
    kind = about.get("type", "anything")
    if kind == "array":
        return f"list of {', '.join(dict.fromkeys(_range(part, known) for part in _inside(about)))}"
    if kind in {"integer", "number"}:
        return _bounds(about, kind)
    words = {"null": "none", "boolean": "true or false", "object": "settings"}
    words["string"] = "a recording" if about.get("file") else "text"
    return words.get(kind, str(kind))


def _bounds(about: Mapping[str, Any], kind: str) -> str:
    signs = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}
    if "minimum" in about and "maximum" in about:
        bounds = f"{_number(about['minimum'])} to {_number(about['maximum'])}"
    else:
        bounds = ", ".join(f"{sign} {_number(about[key])}" for key, sign in signs.items() if key in about)
    whole = "integer" if kind == "integer" else "" if bounds else "number"
    return ", ".join(part for part in (whole, bounds) if part)


def _number(value: float) -> str:
    return f"{value:,.0f}" if float(value).is_integer() else f"{value:g}"


def _as_given(value: object) -> str:
    """A value as `--set` takes it."""
    if value is None:
        return "none"
    return value if isinstance(value, str) else json.dumps(value)
