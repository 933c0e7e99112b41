"""A recipe names what a grid measures: a TOML file; a wrong key is refused with the nearest right one."""

import tomllib
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, model_validator

from closesesame.core.errors import DataError
from closesesame.core.settings import Settings
from closesesame.data.folders import SplitRule, Task

from .protocol import Protocol

Share = Annotated[float, Field(ge=0, le=1)]


class DataEntry(Settings):
    """A data set: a folder of recordings under the data folder, or `synthetic`."""

    name: str = Field(description="what it is called in tables")
    source: str = Field(
        "", description="folder, relative to the data folder; the name if empty; or `synthetic`"
    )
    task: Task = Field("word", description="what the label is")
    sample_rate: int = Field(16_000, gt=0, description="Hz")
    duration_s: float = Field(1.0, gt=0, description="length of a clip")
    split: SplitRule = Field("auto", description="how the parts are told apart")


class MethodEntry(Settings):
    """A method of a registry with its settings, and what it is called in tables."""

    name: str = Field(description="name in the registry, or module:Class")
    label: str = Field("", description="what it is called in tables; the name if empty")
    settings: dict[str, Any] = Field({}, description="settings of the method")

    @property
    def shown(self) -> str:
        """The label, or the name."""
        return self.label or self.name


class AttackEntry(MethodEntry):
    """An attack, and the poisoning rates it is tried at if not those of the recipe."""

    rates: tuple[Share, ...] | None = Field(None, description="poisoning rates")


class Recipe(Settings):
    """A grid: every data set x model x attack x rate x defence x clean fraction x seed."""

    name: str = Field(description="what the grid is called")
    about: str = Field("", description="what it is to show")
    seeds: tuple[int, ...] = Field((0,), min_length=1, description="one run each")
    rates: tuple[Share, ...] = Field((0.0, 0.05), min_length=1, description="poisoning rates")
    clean_fractions: tuple[Share, ...] = Field(
        (0.05,), min_length=1, description="shares of the training set"
    )
    data: tuple[DataEntry, ...] = Field(min_length=1, description="data sets")
    model: tuple[MethodEntry, ...] = Field((MethodEntry(name="resnet"),), min_length=1, description="models")
    attack: tuple[AttackEntry, ...] = Field(min_length=1, description="attacks")
    defence: tuple[MethodEntry, ...] = Field((), description="removals; `none` is always measured")
    training: dict[str, Any] = Field({}, description="settings of the training of victims")
    protocol: Protocol = Field(Protocol(), description="what holds for every removal alike")
    tuned_on: str = Field(
        "", description="which bench the defaults of its methods were chosen on, for the head of its tables"
    )

    @model_validator(mode="after")
    def _names_tell_apart(self) -> "Recipe":
        for kind in ("data", "model", "attack", "defence"):
            names = [entry.name if kind == "data" else entry.shown for entry in getattr(self, kind)]
            for name in names:
                if names.count(name) > 1:
                    raise ValueError(f"has two entries of {kind} called {name!r}; give one another label")
        return self

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
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read: {error}") from None
    except tomllib.TOMLDecodeError as error:
        raise DataError(f"{path} is not TOML: {error}") from None
    return Recipe(**content)
