"""A method is a frozen, keyword-only set of hyper-parameters with a name, a citation and one verb."""

import importlib
import inspect
import json
import sys
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from types import ModuleType, NoneType, UnionType
from typing import Annotated, Any, ClassVar, Generic, TypeVar, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from .errors import SettingError, cut, listed, nearest, short
from .settings import Settings

M = TypeVar("M", bound="Method")


class Method(Settings):
    """Base of everything that has hyper-parameters: a frozen set of them, a name, a citation, one verb."""

    name: ClassVar[str]
    """What it is called on the command line and in tables."""
    cite: ClassVar[str]
    """Where it was published: arXiv number, DOI, or venue and year; `ours` if nowhere."""
    quick: ClassVar[dict[str, Any]] = {}
    """Settings at which it takes a second on a hundred short clips, for tests of its contract."""
    fp32_only: ClassVar[bool] = False
    """Whether it computes in fp32 whatever it is asked: bf16 has too few digits for what it does."""
    domains: ClassVar[tuple[str, ...]] = ("speech",)
    """The kinds of data it works on; `core.domain` lists them."""

    @classmethod
    def parse(cls: type[M], settings: Mapping[str, object]) -> M:
        """Makes the method from text, each value read by the type of its field (`--set field=value`).

        A list of plain items is text with commas, or JSON; what holds more is JSON.

        Raises:
            SettingError: if a field is unknown or its value does not fit.
        """
        given = {}
        for name, value in settings.items():
            field = cls.model_fields.get(name)
            given[name] = read = _read(value, field)
            if isinstance(value, str) and field is not None and not _may_be(read, field):
                raise SettingError(f"{cls.__name__}.{name} must be {_how(name, field)}, got {cut(value)!r}")
        return cls(**given)

    def settings(self) -> dict[str, Any]:
        """Returns all hyper-parameters as plain JSON values."""
        return self.model_dump(mode="json")

    @classmethod
    def full_name(cls) -> str:
        """The name to write into files: `module:Class` for a method that is not ours."""
        ours = cls.__module__.partition(".")[0] == __name__.partition(".")[0]
        return cls.name if ours else f"{cls.__module__}:{cls.__qualname__}"

    def calls(self) -> tuple[str, ...]:
        """Modules of other methods that it runs because its settings name them."""
        return ()

    def refuse(self, field: str, rule: str) -> SettingError:
        """Returns the error for a value that only the data at hand shows to be wrong."""
        return SettingError(f"{type(self).__name__}.{field} must be {rule}, got {getattr(self, field)!r}")

    @classmethod
    def claims(cls) -> dict[str, Any]:
        """Returns what the class says of itself (its class variables), for lists and tables."""
        names = {name for base in cls.__mro__ for name in vars(base).get("__annotations__", {})}
        hidden = {
            "name",
            "cite",
            "quick",
            "fp32_only",
            *cls.model_fields,
            *BaseModel.__annotations__,
            *dir(BaseModel),
        }
        return {name: getattr(cls, name) for name in sorted(names - hidden) if hasattr(cls, name)}

    @classmethod
    def claims_in_words(cls) -> dict[str, str]:
        """What the class says of itself, for people: what it needs, how long it takes; by a word each."""
        return {}


def _read(value: object, field: FieldInfo | None) -> object:
    """Parses lists and objects as JSON, `none` as None for optional fields, and lists of plain items.

    pydantic converts the rest.
    """
    if not isinstance(value, str):
        return value
    may_be_none = field is not None and NoneType in get_args(field.annotation)
    if value == "none" and may_be_none:
        return None
    if value[:1] in {"[", "{"}:
        with suppress(ValueError):
            return json.loads(value)
    bare = value[1:-1] if value[:1] == "[" and value[-1:] == "]" else value  # a shell takes quotes away
    if field is not None and _is_list_of_plain(field.annotation) and bare and bare[0] not in "[{":
        return [item.strip().strip("\"'") for item in bare.split(",")]
    return value


def _kinds(annotation: Any) -> list[Any]:
    """The types that a field may have: those of a union by themselves, and none that is None."""
    union = get_origin(annotation) in {Union, UnionType}
    return [kind for kind in (get_args(annotation) if union else [annotation]) if kind is not NoneType]


def _is_list(kind: Any) -> bool:
    return get_origin(kind) in {tuple, list}


def _is_table(kind: Any) -> bool:
    return get_origin(kind) is dict or (isinstance(kind, type) and issubclass(kind, BaseModel))


def _is_list_of_plain(annotation: Any) -> bool:
    """Whether it is a list of numbers or words."""
    kinds = _kinds(annotation)
    items = [item for kind in kinds for item in get_args(kind)]
    bare = [get_args(item)[0] if get_origin(item) is Annotated else item for item in items]
    return all(map(_is_list, kinds)) and not any(_is_list(item) or _is_table(item) for item in bare)


def _may_be(value: object, field: FieldInfo) -> bool:
    """Whether a value that was read has the form of one of the types: a list, a table, or anything else."""
    kinds = _kinds(field.annotation)
    if value is None or not all(_is_list(kind) or _is_table(kind) for kind in kinds):
        return True
    return (isinstance(value, list) and any(map(_is_list, kinds))) or (
        isinstance(value, dict) and any(map(_is_table, kinds))
    )


def _how(name: str, field: FieldInfo) -> str:
    """What a list or a table must be, as a person types it."""
    if _is_list_of_plain(field.annotation):
        default = field.get_default(call_default_factory=True)
        items = default if isinstance(default, tuple | list) and default else (1, 2)
        return f"a list, such as --set {name}={','.join(map(str, items))}"
    kind = _kinds(field.annotation)[0]
    if _is_list(kind):
        return f"a list in JSON, such as --set '{name}=[...]'"
    inner = {} if get_origin(kind) is dict else kind.model_fields
    first = next((key for key, one in inner.items() if isinstance(one.default, int | float | str)), "")
    example = {first: inner[first].default} if first else {"NAME": 1}
    return f"a table of names and values in JSON, such as --set '{name}={json.dumps(example)}'"


def import_by_name(module: str) -> ModuleType:
    """Imports a module that the user named; the current folder is looked at last.

    Raises:
        SettingError: if it cannot be imported, for whatever reason.
    """
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.append(here)
    try:
        return importlib.import_module(module)
    except (Exception, SystemExit) as error:
        raise SettingError(
            f"module {cut(module)!r} cannot be imported ({type(error).__name__}: {short(error)})"
        ) from error


class Registry(Mapping[str, type[M]], Generic[M]):
    """The one hand-written list of a family; commands, docs, tests and reports are derived from it."""

    def __init__(self, family: str, base: type[M], *methods: type[M]) -> None:
        self.family, self.base = family, base
        self._methods = {method.name: method for method in methods}

    def __getitem__(self, name: str) -> type[M]:
        """Finds a method by its name, or by `module:Class` where it is not ours.

        Raises:
            SettingError: if there is none, naming the nearest.
        """
        if name in self._methods:
            return self._methods[name]
        if ":" in name:
            return self._foreign(name)
        raise SettingError(f"no {self.family} is called {cut(name)!r}; {nearest(name, self._methods)}")

    def __contains__(self, name: object) -> bool:
        return name in self._methods

    def __iter__(self) -> Iterator[str]:
        return iter(self._methods)

    def __len__(self) -> int:
        return len(self._methods)

    def make(self, name: str, settings: Mapping[str, object] | None = None) -> M:
        """Makes a method from its name and its settings, which may be text."""
        return self[name].parse(settings or {})

    def recall(self, name: str, settings: Mapping[str, object]) -> M:
        """As `make`, for a name that was read from a file: nothing is imported because a file says so.

        Raises:
            SettingError: if it is `module:Class` of a module that was not imported before.
        """
        module, foreign, _ = name.partition(":")
        if foreign and module not in sys.modules:
            raise SettingError(
                f"{self.family} {cut(name)!r} is not ours; if you trust it, import {cut(module)!r} first "
                f"(on the command line: --import {cut(module)})"
            )
        return self.make(name, settings)

    def _foreign(self, name: str) -> type[M]:
        module, _, attribute = name.partition(":")
        found = getattr(import_by_name(module), attribute, None)
        if found is None:
            raise SettingError(f"{self.family} {cut(name)!r} is not in {cut(module)}")
        if not (isinstance(found, type) and issubclass(found, self.base)):
            raise SettingError(f"{self.family} {cut(name)!r} must be a subclass of {self.base.__name__}")
        if inspect.isabstract(found):
            lacking = listed(sorted(found.__abstractmethods__))
            raise SettingError(f"{self.family} {cut(name)!r} lacks what its base asks for: {lacking}")
        return found
