"""What each kind of job is given: frozen, typed values, stored as JSON and read back as they were.

The ids of the jobs whose artifacts a job uses stand in its cell, so a row finds all it needs by id.
"""

from collections.abc import Mapping
from typing import Any, Literal, TypeVar

from pydantic import Field

from closesesame.core.settings import Settings

from .recipe import DataEntry

C = TypeVar("C", bound="Cell")
WHERE = "where"
"""The part of a cell that says where files lie on this machine; no identity depends on it."""


class MethodPlan(Settings):
    """A method: the settings that were changed, all it amounts to, and the module it is in."""

    name: str
    settings: dict[str, Any]
    all_settings: dict[str, Any]
    module: str


class AttackPlan(MethodPlan):
    """An attack; its recordings are known by what they hold."""

    sounds: dict[str, str] = Field(default_factory=dict)
    """The hash of each recording, by the setting that names it."""

    @property
    def rate(self) -> float:
        """The poisoning rate."""
        return float(self.all_settings["rate"])


class DataPlan(Settings):
    """A data set and the hash of what it holds."""

    entry: DataEntry
    fingerprint: str


class Where(Settings):
    """Where files lie on this machine, and which code reads them."""

    data_folder: str
    read_by: str
    sounds: dict[str, str] = Field(default_factory=dict)
    """The path of each recording of the attack in the data folder, by the setting that names it."""


class Cell(Settings):
    """What all jobs are given.

    Attributes:
        data: the data set.
        seed: of everything drawn.
        machine: what the job was planned for, see `Machine`.
        where: places on this machine.
    """

    data: DataPlan
    seed: int
    machine: dict[str, str]
    where: Where

    def payload(self) -> dict[str, Any]:
        """As plain JSON values."""
        return self.model_dump(mode="json")

    @classmethod
    def read(cls: type[C], payload: Mapping[str, Any]) -> C:
        """What `payload` gave.

        Raises:
            ValueError: if it is of another form, as in a damaged store.
        """
        return cls.model_validate(dict(payload))


class TriggerCell(Cell):
    """Makes the trigger of an attack; the poisoning rate is no part of its settings."""

    attack: AttackPlan


class PoisonCell(Cell):
    """Poisons the training set, once for all models, detectors and robust trainings."""

    attack: AttackPlan
    trigger: str


class TrainCell(Cell):
    """Trains a model on a poisoned set, or on the clean one if there is none."""

    model: MethodPlan
    training: dict[str, Any]
    poisoned: str | None = None


class MethodCell(Cell):
    """Runs a method of a family on what the family is given.

    Attributes:
        family: its name.
        method: what runs.
        protocol: see `Protocol.about`; None if no clean examples are drawn.
        clean_fraction: how many clean examples, as a share of the training part.
        suspect: the job whose model is given.
        untrusted: how much of the untrusted training set is given, if any.
        poisoned: the job of that set; None if it is the clean one, at rate 0.
        model: what a robust training builds.
        training: how a robust training trains, where it does not say itself.
    """

    family: str
    method: MethodPlan
    protocol: dict[str, Any] | None = None
    clean_fraction: float | None = None
    suspect: str | None = None
    untrusted: Literal["all", "sample"] | None = None
    poisoned: str | None = None
    model: MethodPlan | None = None
    training: dict[str, Any] | None = None


class JudgeCell(Cell):
    """Measures what a job made, with the trigger and the test set; one row of a table.

    Attributes:
        model: the architecture of the suspect.
        training: how the suspect was trained.
        attack: whose trigger is played.
        labels: what model, attack and method are called in tables.
        family: of the method; `none` for the suspect as it is.
        method: what was run; None for the suspect as it is.
        clean_fraction: clean examples that the method got.
        clean_from: where they came from.
        trigger: the job of the trigger.
        poisoned: the job of the poisoned set; None at rate 0.
        suspect: the job of the model before any method.
        reference: the job of the clean reference model.
        judged: the job that made what is measured.
        bare: the row of the suspect as it is; None if this is that row.
        on_reference: the row of the clean reference model after the same method.
    """

    model: MethodPlan
    training: dict[str, Any]
    attack: AttackPlan
    labels: dict[str, str]
    family: str
    method: MethodPlan | None = None
    clean_fraction: float | None = None
    clean_from: str | None = None
    trigger: str
    poisoned: str | None = None
    suspect: str
    reference: str
    judged: str
    bare: str | None = None
    on_reference: str | None = None
