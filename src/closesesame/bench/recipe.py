"""A recipe names what a grid measures: a TOML file; a wrong key is refused with the nearest right one."""

import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, Field, model_validator

from closesesame.attacks import ATTACKS
from closesesame.core.bounds import LONGEST_NAME, Duration, SampleRate, Seed
from closesesame.core.errors import DataError, SettingError
from closesesame.core.method import Registry
from closesesame.core.settings import Settings
from closesesame.data.folders import SplitRule, Task
from closesesame.families import BY_NAME, FAMILIES, Family
from closesesame.models import ARCHITECTURES

from .protocol import Protocol


def _printable(text: str) -> str:
    if not text.isprintable():
        raise ValueError(f"must be of printable characters, got {text[:40]!r}")
    return text


Name = Annotated[str, Field(min_length=1, max_length=LONGEST_NAME), AfterValidator(_printable)]
Label = Annotated[str, Field(max_length=LONGEST_NAME), AfterValidator(_printable)]
Share = Annotated[float, Field(ge=0, le=1)]
MOST_ENTRIES = 1_000
LISTS = ("data", "model", "attack", *BY_NAME)
"""What a recipe lists."""


def _registry(kind: str) -> Registry[Any] | None:
    known: dict[str, Registry[Any]] = {"attack": ATTACKS, "model": ARCHITECTURES}
    return known.get(kind) or (BY_NAME[kind].registry if kind in BY_NAME else None)


def _entries(given: Any, kind: str) -> Any:
    """Entries as tables: a name alone is one, and `all` is every method there is."""
    if isinstance(given, dict):
        raise ValueError(  # noqa: TRY004 - pydantic makes a sentence of no other
            f"has one [{kind}], and a list is wanted; write [[{kind}]] above each entry, also if it is the "
            "only one"
        )
    registry = _registry(kind)
    if given == "all" and registry is not None:
        given = tuple(registry)
    if isinstance(given, str):
        given = (given,)
    if not isinstance(given, list | tuple):
        return given
    return tuple({"name": entry} if isinstance(entry, str) else entry for entry in given)


class DataEntry(Settings):
    """A data set: a folder of recordings under the data folder, or `synthetic`."""

    name: Name = Field(description="what it is called in tables")
    source: str = Field(
        "", description="folder, relative to the data folder; the name if empty; or `synthetic`"
    )
    task: Task = Field("word", description="what the label is")
    sample_rate: SampleRate = Field(16_000, description="Hz")
    duration_s: Duration = Field(1.0, description="length of a clip")
    split: SplitRule = Field("auto", description="how the parts are told apart")

    def place(self, data_folder: Path) -> Path:
        """Where its recordings lie."""
        return data_folder / (self.source or self.name)


class MethodEntry(Settings):
    """A method of a registry with its settings, and what it is called in tables."""

    name: Name = Field(description="name in the registry, or module:Class")
    label: Label = Field("", description="what it is called in tables; the name if empty")
    settings: dict[str, Any] = Field({}, description="settings of the method")

    @property
    def shown(self) -> str:
        """The label, or the name."""
        return self.label or self.name


class ModelEntry(MethodEntry):
    """An architecture, and how long its models train if not as long as those of the recipe."""

    epochs: int | None = Field(None, ge=0, le=10_000, description="epochs, instead of those of [training]")


class AttackEntry(MethodEntry):
    """An attack, and the poisoning rates it is tried at if not those of the recipe."""

    rates: tuple[Share, ...] | None = Field(None, max_length=MOST_ENTRIES, description="poisoning rates")

    @model_validator(mode="after")
    def _rate_has_one_place(self) -> "AttackEntry":
        if "rate" in self.settings:
            raise ValueError(
                f"sets the poisoning rate of {self.shown!r} in its settings, where the grid would override "
                f"it; write rates = [{self.settings['rate']}] beside its name"
            )
        return self


Methods = tuple[MethodEntry, ...]


class Recipe(Settings):
    """A grid: every data set x model x attack x rate x method x clean fraction x seed.

    An entry of a list is a table, or a name alone. Instead of a list of methods, `all` takes every one.
    """

    name: Name = Field(description="what the grid is called")
    about: str = Field("", description="what it is to show")
    seeds: tuple[Seed, ...] = Field((0,), min_length=1, max_length=MOST_ENTRIES, description="one run each")
    rates: tuple[Share, ...] = Field(
        (0.0, 0.05), min_length=1, max_length=MOST_ENTRIES, description="poisoning rates"
    )
    clean_fractions: tuple[Share, ...] = Field(
        (0.05,), min_length=1, max_length=MOST_ENTRIES, description="shares of the training set"
    )
    data: tuple[DataEntry, ...] = Field(min_length=1, max_length=MOST_ENTRIES, description="data sets")
    model: tuple[ModelEntry, ...] = Field(
        (ModelEntry(name="resnet"),), min_length=1, max_length=MOST_ENTRIES, description="architectures"
    )
    attack: tuple[AttackEntry, ...] = Field(min_length=1, max_length=MOST_ENTRIES, description="attacks")
    removal: Methods = Field((), max_length=MOST_ENTRIES, description="removals")
    robust_training: Methods = Field((), max_length=MOST_ENTRIES, description="trainings on the poisoned set")
    detection: Methods = Field((), max_length=MOST_ENTRIES, description="scores of the poisoned set's clips")
    inspection: Methods = Field((), max_length=MOST_ENTRIES, description="verdicts on the suspect")
    purification: Methods = Field((), max_length=MOST_ENTRIES, description="filters before the suspect")
    training: dict[str, Any] = Field({}, description="settings of the training of suspects")
    protocol: Protocol = Field(Protocol(), description="what holds for every method alike")
    adversaries: bool = Field(
        False, description="whether each model is also attacked again: retuned and reactivated"
    )
    tuned_on: str = Field(
        "", description="which bench the defaults of its methods were chosen on, for the head of its tables"
    )

    @model_validator(mode="before")
    @classmethod
    def _short_entries(cls, given: dict[str, Any]) -> dict[str, Any]:
        return {key: _entries(value, key) if key in LISTS else value for key, value in given.items()}

    @model_validator(mode="after")
    def _names_tell_apart(self) -> "Recipe":
        for kind in LISTS:
            names = [entry.name if kind == "data" else entry.shown for entry in getattr(self, kind)]
            for name in names:
                if names.count(name) > 1:
                    raise ValueError(f"has two entries of {kind} called {name!r}; give one another label")
        return self

    def methods(self) -> Iterator[tuple[Family, MethodEntry]]:
        """All methods that are measured, with their families."""
        for family in FAMILIES:
            for entry in getattr(self, family.name):
                yield family, entry

    def foreign_modules(self) -> tuple[str, ...]:
        """The modules of methods that are not ours: what stands before the colon of `module:Class`."""
        entries = (*self.model, *self.attack, *(entry for _, entry in self.methods()))
        return tuple(dict.fromkeys(entry.name.partition(":")[0] for entry in entries if ":" in entry.name))

    def rates_of(self, attack: AttackEntry) -> tuple[float, ...]:
        """The poisoning rates of an attack; rate 0 is always among them, first."""
        wanted = self.rates if attack.rates is None else attack.rates
        return (0.0, *(rate for rate in dict.fromkeys(wanted) if rate))


def read_recipe(path: Path) -> Recipe:
    """Reads a recipe.

    Raises:
        DataError: if the file is not there or is no TOML.
        SettingError: if a key is unknown or a value does not fit.
    """
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise DataError(f"{path} is not TOML: it is no text in UTF-8") from None
    except (tomllib.TOMLDecodeError, RecursionError, ValueError) as error:
        raise DataError(f"{path} is not TOML: {error}") from None
    try:
        return Recipe(**content)
    except SettingError as error:
        raise SettingError(f"{path}: {error}") from None
