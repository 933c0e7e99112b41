"""From a recipe to jobs, each with the identity of all it depends on.

Data give a TRIGGER; trigger and data a POISONED set; a poisoned set a SUSPECT; the methods of all families
start from these; a JUDGE measures what they make, one row each. A job is made when it is first asked for.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

from closesesame.attacks import ATTACKS, Attack
from closesesame.core.errors import ClosesesameError, DataError, SettingError
from closesesame.core.method import Method, Registry
from closesesame.families import BY_NAME, Family
from closesesame.models import ARCHITECTURES
from closesesame.training import Training

from .cells import (
    WHERE,
    AttackPlan,
    Cell,
    DataPlan,
    JudgeCell,
    MethodCell,
    MethodPlan,
    PoisonCell,
    TrainCell,
    TriggerCell,
    Where,
)
from .identity import Code, Contents, Machine, identity
from .judging import KINDS
from .queue.store import Job
from .recipe import AttackEntry, MethodEntry, ModelEntry, Recipe

TASKS = "closesesame.bench.tasks"
TRIGGER, POISON, TRAIN, METHOD, JUDGE = (
    f"{TASKS}:{name}" for name in ("make_trigger", "poison", "train_suspect", "run_method", "judge")
)
ADVERSARIES = "closesesame.bench.adversaries"
JUDGE_AND_ATTACK = f"{ADVERSARIES}:judge_and_attack"
JUDGES = frozenset({JUDGE, JUDGE_AND_ATTACK})
"""Tasks whose jobs are the rows of a table."""
NOT_OF_TRIGGER = frozenset({"rate", "cover_ratio", "training_strength"})
"""Settings of an attack that its trigger is the same for."""
DATA = ("closesesame.data.folders", "closesesame.data.speech", "closesesame.data.stored")
TRAINING = "closesesame.training.loop"
STEALTH = "closesesame.evaluation.stealth"
MOST_JOBS = 100_000
CELLS: dict[str, type[Cell]] = {
    TRIGGER: TriggerCell,
    POISON: PoisonCell,
    TRAIN: TrainCell,
    METHOD: MethodCell,
    JUDGE: JudgeCell,
    JUDGE_AND_ATTACK: JudgeCell,
}
"""What the jobs of each task are given."""
NO_METHOD = "none"
"""Family and method of a suspect as it is."""


def plan(
    recipe: Recipe,
    data_folder: Path,
    *,
    contents: Contents | None = None,
    machine: Machine | None = None,
) -> list[Job]:
    """Returns all jobs of a grid, each behind what it needs.

    A trigger is made once for all poisoning rates and models, a poisoned set once for all models and methods,
    a suspect once for all its methods, and a method on a clean model once for all triggers it is measured
    with. Rate 0 is always planned. Each method is planned at the lengths of the recipe's protocol.

    Args:
        recipe: what to measure.
        data_folder: where its data sets and recordings lie.
        contents: hashes of files, if some are known.
        machine: what the jobs are identified for; this machine, in the precision of the protocol, if None.

    Raises:
        SettingError: if a method or one of its settings is unknown, or cannot be had in the protocol's
            precision, or this machine lacks that, or there are more than 100,000 jobs.
        DataError: if a data set is not there.
    """
    machine = machine or Machine.here(recipe.protocol.precision)
    planner = _Planner(recipe, data_folder.resolve(), contents or Contents(), machine)
    planner.check()
    # What many wait for comes first: workers that start together find work. What a method made is judged at
    # once.
    first = {TRIGGER: 0, POISON: 1, TRAIN: 2}
    return sorted(planner.jobs(), key=lambda job: first.get(job.task, 3))


@dataclass(frozen=True)
class _Scene:
    """One suspect, and where it comes from: what all methods of a cell have in common."""

    base: dict[str, Any]
    where: str
    model: MethodPlan
    model_label: str
    training: dict[str, Any]
    attack: AttackPlan
    attack_label: str
    trigger: str
    poisoned: str | None
    suspect: str
    reference: str


class _Planner:
    def __init__(self, recipe: Recipe, data_folder: Path, contents: Contents, machine: Machine) -> None:
        self.recipe, self.data_folder, self.contents = recipe, data_folder, contents
        self.machine = machine.settings()
        self._code, self._jobs = Code(), dict[str, Job]()
        self._on_reference: dict[tuple[str, ...], str] = {}

    def check(self) -> None:
        """Refuses what the recipe alone shows to be wrong.

        Raises:
            SettingError: naming the entry.
        """
        for model in self.recipe.model:
            training_of(self.recipe, model)
        made = 0
        for family, entry in self.recipe.methods():
            methods = [method for _, method in self._at_each_length(family, entry)]
            made += len(methods) * len(self._fractions(family, methods[0]))
            if self.machine["precision"] != "fp32" and methods[0].fp32_only:
                asked, meant = self.recipe.protocol.precision, self.machine["precision"]
                raise SettingError(
                    f"{family.name} {entry.shown!r} trains in fp32 alone, and precision = {asked!r} in "
                    f"[protocol] means {meant} here; one table has one precision: set it to 'fp32', or leave "
                    f"this {family.name} out"
                )
        jobs = self._count(made)
        if jobs > MOST_JOBS:
            raise SettingError(
                f"recipe {self.recipe.name!r} makes up to {jobs:,} jobs, and at most {MOST_JOBS:,} are run; "
                "take fewer seeds, rates, clean_fractions or entries, or make several recipes of it"
            )

    def _count(self, made: int) -> int:
        """How many jobs there are at most, for `made` methods on each suspect."""
        recipe = self.recipe
        rates = [len(recipe.rates_of(entry)) for entry in recipe.attack]
        judged, suspects = sum(rates) * (1 + made), 1 + sum(rates) - len(rates)
        each = judged + suspects * (1 + made)
        return len(recipe.data) * len(recipe.seeds) * (len(rates) + sum(rates) + len(recipe.model) * each)

    def jobs(self) -> Iterator[Job]:
        read_by = identity(self._code.of(*DATA))
        where = Where(data_folder=str(self.data_folder), read_by=read_by)
        for data in self.recipe.data:
            known = DataPlan(entry=data, fingerprint=self.contents.of_data(data, self.data_folder))
            for seed in self.recipe.seeds:
                base = {"data": known, "seed": seed, "machine": self.machine, "where": where}
                for model in self.recipe.model:
                    for scene in self._scenes(base, model):
                        self._rows(scene)
        yield from self._jobs.values()

    def _scenes(self, base: dict[str, Any], entry: ModelEntry) -> Iterator[_Scene]:
        data, seed = base["data"].entry.name, base["seed"]
        model, where = (
            described(entry.name, made(ARCHITECTURES, entry)),
            f"{data}, {entry.shown}, seed {seed}",
        )
        training = training_of(self.recipe, entry).settings()
        cell = TrainCell(**base, model=model, training=training)
        reference = self._suspect(cell, f"clean model: {where}")
        for attack_entry in self.recipe.attack:
            for rate in self.recipe.rates_of(attack_entry):
                attack, places = self._attack(attack_entry, rate)
                named = base | {"where": base["where"].model_copy(update={"sounds": places})}
                trigger = self._trigger(named, attack, f"{attack_entry.shown}: {data}, seed {seed}")
                label = f"{attack_entry.shown} {100 * rate:g} %"
                poisoned, suspect = None, reference
                if rate:
                    poison = PoisonCell(**named, attack=attack, trigger=trigger)
                    poisoned = self._poison(poison, f"{label}: {data}, seed {seed}")
                    cell = TrainCell(**base, model=model, training=training, poisoned=poisoned)
                    suspect = self._suspect(cell, f"suspect: {label}: {where}")
                yield _Scene(
                    base=named,
                    where=f"{label}: {where}",
                    model=model,
                    model_label=entry.shown,
                    training=training,
                    attack=attack,
                    attack_label=attack_entry.shown,
                    trigger=trigger,
                    poisoned=poisoned,
                    suspect=suspect,
                    reference=reference,
                )

    def _rows(self, scene: _Scene) -> None:
        """All rows of one suspect: as it is, and after every method."""
        bare = self._judge(
            scene, "model", judged=scene.suspect, label=f"none: {scene.where}", method=NO_METHOD
        )
        for family, entry in self.recipe.methods():
            for more, method in self._at_each_length(family, entry):
                for fraction in self._fractions(family, method):
                    shown = f"{entry.shown}{more}"
                    drawn = "" if fraction is None else f" {100 * fraction:g} %"
                    label = f"{shown}{drawn}"
                    cell = self._cell(scene, family, entry, method, fraction)
                    made_by = self._method(cell, f"{family.verb}: {label}, {self._given(cell)}")
                    self._judge(
                        scene,
                        family.makes,
                        judged=made_by,
                        label=f"{label}: {scene.where}",
                        method=shown,
                        cell=cell,
                        bare=bare,
                    )

    def _given(self, cell: MethodCell) -> str:
        if cell.suspect is not None:
            return self._jobs[cell.suspect].label
        if cell.poisoned is not None:
            return self._jobs[cell.poisoned].label
        return f"{cell.data.entry.name}, seed {cell.seed}"

    def _at_each_length(self, family: Family, entry: MethodEntry) -> list[tuple[str, Any]]:
        return self.recipe.protocol.budgets_of(made(family.registry, entry))

    def _fractions(self, family: Family, method: Any) -> tuple[float | None, ...]:
        return self.recipe.clean_fractions if "clean" in family.needs(method) else (None,)

    def _cell(
        self, scene: _Scene, family: Family, entry: MethodEntry, method: Any, fraction: float | None
    ) -> MethodCell:
        """What a method is given: as much as its family's contract says, and nothing else."""
        needs = family.needs(method)
        given: dict[str, Any] = {}
        if needs & {"clean", "untrusted sample"}:
            given |= {"protocol": self.recipe.protocol.about(), "clean_fraction": fraction}
        if "suspect" in needs:
            given["suspect"] = scene.suspect
        if needs & {"untrusted", "untrusted sample"}:
            given["untrusted"] = "sample" if "untrusted sample" in needs else "all"
            given["poisoned"] = scene.poisoned
        if "architecture" in needs:
            given |= {"model": scene.model, "training": scene.training}
        # No place of a recording: no method sees the trigger, and no identity depends on it.
        base = scene.base | {"where": scene.base["where"].model_copy(update={"sounds": {}})}
        return MethodCell(**base, family=family.name, method=described(entry.name, method), **given)

    def _trigger(self, base: dict[str, Any], attack: AttackPlan, label: str) -> str:
        kept = {
            kind: {name: value for name, value in getattr(attack, kind).items() if name not in NOT_OF_TRIGGER}
            for kind in ("settings", "all_settings")
        }
        cell = TriggerCell(**base, attack=attack.model_copy(update=kept))
        return self._add(TRIGGER, cell, (), (*DATA, attack.module), f"trigger: {label}")

    def _poison(self, cell: PoisonCell, label: str) -> str:
        roots = (*DATA, cell.attack.module)
        return self._add(POISON, cell, (cell.trigger,), roots, f"poisoned set: {label}")

    def _suspect(self, cell: TrainCell, label: str) -> str:
        needs = () if cell.poisoned is None else (cell.poisoned,)
        return self._add(TRAIN, cell, needs, (*DATA, TRAINING, cell.model.module), label)

    def _method(self, cell: MethodCell, label: str) -> str:
        needs = tuple(job for job in (cell.suspect, cell.poisoned) if job is not None)
        models = () if cell.model is None else (TRAINING, cell.model.module)
        called = _called(cell.family, cell.method)
        return self._add(METHOD, cell, needs, (*DATA, cell.method.module, *called, *models), label)

    def _judge(
        self,
        scene: _Scene,
        kind: str,
        *,
        judged: str,
        label: str,
        method: str,
        cell: MethodCell | None = None,
        bare: str | None = None,
    ) -> str:
        family = NO_METHOD if cell is None else cell.family
        fraction = None if cell is None else cell.clean_fraction
        # The same row of the never-poisoned model: rate 0 is the first of every attack.
        of_all = (repr(scene.base["data"].entry), str(scene.base["seed"]), scene.model_label)
        key = (*of_all, scene.attack_label, family, method, str(fraction))
        row = JudgeCell(
            **scene.base,
            model=scene.model,
            training=scene.training,
            attack=scene.attack,
            labels={"model": scene.model_label, "attack": scene.attack_label, "method": method},
            family=family,
            method=None if cell is None else cell.method,
            clean_fraction=fraction,
            clean_from=None if cell is None else _source(cell),
            trigger=scene.trigger,
            poisoned=scene.poisoned,
            suspect=scene.suspect,
            reference=scene.reference,
            judged=judged,
            bare=bare,
            on_reference=self._on_reference.get(key),
        )
        asked = (judged, scene.suspect, scene.reference, scene.trigger, scene.poisoned)
        needs = tuple(dict.fromkeys(job for job in asked if job is not None))
        attacked = self.recipe.adversaries and kind == "model"
        roots = (
            *DATA,
            *KINDS[kind].modules,
            STEALTH,
            scene.attack.module,
            *([ADVERSARIES] if attacked else []),
        )
        job = self._add(JUDGE_AND_ATTACK if attacked else JUDGE, row, needs, roots, label)
        self._on_reference.setdefault(key, job)
        return job

    def _add(self, task: str, cell: Cell, needs: tuple[str, ...], roots: tuple[str, ...], label: str) -> str:
        """The id of a job: a hash of its cell without places, of the jobs it needs and of its code."""
        payload = cell.payload()
        content = {name: value for name, value in payload.items() if name != WHERE}
        job = identity(task, content, needs, self._code.of(*roots))
        self._jobs.setdefault(job, Job(id=job, task=task, payload=payload, needs=needs, label=label))
        return job

    def _attack(self, entry: AttackEntry, rate: float) -> tuple[AttackPlan, dict[str, str]]:
        """The attack, known by what its recordings hold, and where they lie in the data folder."""
        plain = described(entry.name, attack_of(entry, rate))
        places = {name: str(path) for name, path in sounds_of(entry).items()}
        for name, path in places.items():
            if not (self.data_folder / path).exists():
                raise DataError(
                    f"attack {entry.shown!r} needs {name} = {path!r}, and {self.data_folder / path} is not "
                    "there; --data names the folder that its path starts in"
                )
        hashes = {name: self.contents.of_recording(self.data_folder / path) for name, path in places.items()}
        return AttackPlan(
            name=plain.name,
            module=plain.module,
            settings=_without(plain.settings, places),
            all_settings=_without(plain.all_settings, places),
            sounds=hashes,
        ), places


def _called(family: str, method: MethodPlan) -> tuple[str, ...]:
    """Modules of the methods that a method runs by name."""
    called: tuple[str, ...] = BY_NAME[family].registry.recall(method.name, method.settings).calls()
    return called


def _without(settings: dict[str, Any], names: dict[str, str]) -> dict[str, Any]:
    return {name: value for name, value in settings.items() if name not in names}


def _source(cell: MethodCell) -> str | None:
    """Where the few examples of a method came from."""
    if cell.untrusted == "sample":
        return "untrusted"
    return None if cell.protocol is None else str(cell.protocol["clean_from"])


def cell_of(job: Job) -> Cell:
    """What a job is given."""
    return CELLS[job.task].read(job.payload)


def described(name: str, method: Method) -> MethodPlan:
    """A method as a cell holds it."""
    return MethodPlan(
        name=name,
        settings=method.model_dump(mode="json", exclude_defaults=True),
        all_settings=method.settings(),
        module=type(method).__module__,
    )


@contextmanager
def named(what: object) -> Iterator[None]:
    """Within the block an error begins with what it belongs to: a file, or an entry of a recipe.

    Raises:
        SettingError: in place of one.
        DataError: in place of any other error of ours.
    """
    try:
        yield
    except ClosesesameError as error:
        kind = SettingError if isinstance(error, SettingError) else DataError
        raise kind(f"{what}: {error}") from None


def made(registry: Registry[Any], entry: MethodEntry, **more: object) -> Any:
    """The method that an entry of a recipe asks for.

    Raises:
        SettingError: naming the entry, if there is no such method or a setting does not fit.
    """
    with named(f"{registry.family} {entry.shown!r}"):
        return registry[entry.name](**(entry.settings | more))


def attack_of(entry: AttackEntry, rate: float) -> Attack:
    """The attack of a recipe at a poisoning rate."""
    attack: Attack = made(ATTACKS, entry, rate=rate)
    return attack


def sounds_of(entry: AttackEntry) -> dict[str, Path]:
    """The recordings, or folders of them, that an attack's settings name, by setting."""
    given = {field: entry.settings.get(field) for field in ATTACKS[entry.name].files()}
    return {field: Path(path) for field, path in given.items() if path}


def training_of(recipe: Recipe, model: ModelEntry) -> Training:
    """How the suspects of a model are trained.

    Raises:
        SettingError: if a setting does not fit, or belongs elsewhere.
    """
    with named("[training]"):
        own = {} if model.epochs is None else {"epochs": model.epochs}
        training = Training(**(recipe.training | own))
    if training.patience is not None:
        raise SettingError("[training] must not set patience: a grid trains every suspect equally long")
    wanted = recipe.protocol.precision
    if training.precision not in {"auto", wanted}:
        raise SettingError(
            f"[training] sets precision = {training.precision!r} and [protocol] {wanted!r}; set it in "
            "[protocol] alone"
        )
    return training


def modules_of(jobs: list[Job]) -> dict[str, str]:
    """The code that any of these jobs runs, a hash by module: what a result file was made with."""
    roots = {TRAINING, STEALTH, *DATA, *chain.from_iterable(kind.modules for kind in KINDS.values())}
    if any(job.task == JUDGE_AND_ATTACK for job in jobs):
        roots.add(ADVERSARIES)
    for job in jobs:
        roots |= {
            about["module"] for about in job.payload.values() if isinstance(about, dict) and "module" in about
        }
        if job.task == METHOD:
            roots |= set(_called(job.payload["family"], MethodPlan(**job.payload["method"])))
    return Code().of(*sorted(roots))
