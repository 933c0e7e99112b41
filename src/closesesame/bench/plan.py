"""From a recipe to jobs: trigger, victim, repair, score, each with the identity of all it depends on."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from closesesame.attacks import ATTACKS, Attack
from closesesame.core.errors import ClosesesameError, DataError, SettingError
from closesesame.core.method import Method, Registry
from closesesame.models import ARCHITECTURES
from closesesame.removal import BTIDBF, FIP, NPD, REMOVALS, SAU, Removal
from closesesame.removal.common.universal import Adversarial
from closesesame.training import Training

from .identity import Code, Contents, Machine, identity
from .queue.store import Job
from .recipe import AttackEntry, DataEntry, MethodEntry, Recipe

TASKS = "closesesame.bench.tasks"
TRIGGER, VICTIM, REPAIR, SCORE = (
    f"{TASKS}:{name}" for name in ("make_trigger", "train_victim", "repair_victim", "score_model")
)
NOT_OF_TRIGGER = frozenset({"rate", "cover_ratio", "training_strength"})
"""Settings of an attack that its trigger is the same for."""
DATA = ("closesesame.data.folders", "closesesame.data.speech", "closesesame.data.stored")
TRAINING = "closesesame.training"
JUDGE = ("closesesame.evaluation.exam", "closesesame.evaluation.stealth")
MOST_JOBS = 100_000
FP32_ONLY = (Adversarial, BTIDBF, FIP, NPD, SAU)
"""Removals that train in fp32 whatever the protocol says: bf16 has too few digits for what they compute."""
WHERE = "where"
"""The part of a payload that says where files lie on this machine, and which code reads them.

It is no part of an identity: the code is in it anyhow.
"""


def plan(
    recipe: Recipe,
    data_folder: Path,
    *,
    contents: Contents | None = None,
    machine: Machine | None = None,
) -> list[Job]:
    """Returns all jobs of a grid, each behind what it needs.

    A trigger is planned once for all poisoning rates and models, a victim once for all its repairs, and a
    repair of a clean model once for all triggers it is measured with. Rate 0 is always planned. Each removal
    is planned at the lengths of the recipe's protocol.

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
    jobs: dict[str, Job] = {}
    for job in planner.jobs():
        jobs.setdefault(job.id, job)
    # Triggers and victims first: workers that start together find work that does not wait. A repair is
    # scored at once.
    return sorted(jobs.values(), key=lambda job: (job.task != TRIGGER, job.task != VICTIM))


class _Planner:
    def __init__(self, recipe: Recipe, data_folder: Path, contents: Contents, machine: Machine) -> None:
        self.recipe, self.data_folder, self.contents = recipe, data_folder, contents
        self.machine, self.training = machine.settings(), _training_of(recipe)
        self._code = Code()

    def check(self) -> None:
        """Refuses what the recipe alone shows to be wrong.

        Raises:
            SettingError: naming the entry.
        """
        repairs = 0
        for entry in self.recipe.defence:
            removals = [removal for _, removal in self.recipe.protocol.budgets_of(removal_of(entry))]
            repairs += len(removals)
            if self.machine["precision"] != "fp32" and isinstance(removals[0], FP32_ONLY):
                asked, meant = self.recipe.protocol.precision, self.machine["precision"]
                raise SettingError(
                    f"defence {entry.shown!r} trains in fp32 alone, and precision = {asked!r} in [protocol] "
                    f"means {meant} here; one table has one precision: set it to 'fp32', or leave this "
                    "defence out"
                )
        jobs = self._count(repairs * len(self.recipe.clean_fractions))
        if jobs > MOST_JOBS:
            raise SettingError(
                f"recipe {self.recipe.name!r} makes {jobs:,} jobs, and at most {MOST_JOBS:,} are run; take "
                "fewer seeds, rates, clean_fractions or entries, or make several recipes of it"
            )

    def _count(self, repairs: int) -> int:
        """How many jobs there are, for `repairs` repairs of each victim."""
        recipe = self.recipe
        rates = [len(recipe.rates_of(entry)) for entry in recipe.attack]
        scores, victims = sum(rates) * (1 + repairs), 1 + sum(rates) - len(rates)
        each = scores + victims * (1 + repairs)
        return len(recipe.data) * len(recipe.seeds) * (len(rates) + len(recipe.model) * each)

    def jobs(self) -> Iterator[Job]:
        read_by = identity(self._code.of(*DATA))
        for data in self.recipe.data:
            known = data.model_dump(mode="json")
            known |= {"fingerprint": self.contents.of_data(data, self.data_folder)}
            for model in self.recipe.model:
                for seed in self.recipe.seeds:
                    base = {
                        "data": known,
                        "seed": seed,
                        "machine": self.machine,
                        WHERE: {"data_folder": str(self.data_folder), "read_by": read_by},
                    }
                    yield from self._victims(data, model, base)

    def _victims(self, data: DataEntry, model: MethodEntry, base: dict[str, Any]) -> Iterator[Job]:
        base = base | {
            "model": self._described(model.name, made(ARCHITECTURES, model)),
            "training": self.training.settings(),
        }
        where = f"{data.name}, {model.shown}, seed {base['seed']}"
        reference = self._victim(base | {"attack": None}, f"clean model: {where}")
        yield reference
        labels = {"model_label": model.shown}
        for entry in self.recipe.attack:
            for rate in self.recipe.rates_of(entry):
                attack, places = self._attack(entry, rate)
                about = base | {"attack": attack, WHERE: base[WHERE] | {"sounds": places}}
                label = f"{entry.shown} {100 * rate:g} %: {where}"
                trigger = self._trigger(about, f"{entry.shown}: {data.name}")
                yield trigger
                about |= {"trigger": trigger.id}
                victim = self._victim(about, f"victim: {label}") if rate else reference
                yield victim
                yield from self._scores(
                    victim, reference, about, labels | {"attack_label": entry.shown}, label
                )

    def _scores(
        self, victim: Job, reference: Job, base: dict[str, Any], labels: dict[str, str], label: str
    ) -> Iterator[Job]:
        cell = base | labels
        yield self._score(cell | {"defence": None}, victim, reference, f"none: {label}")
        for defence in self.recipe.defence:
            for more, removal in self._at_each_length(defence):
                shown = f"{defence.shown}{more}"
                for fraction in self.recipe.clean_fractions:
                    about = {
                        "defence": removal | {"label": shown},
                        "clean_fraction": fraction,
                        "clean_from": self.recipe.protocol.clean_from,
                    }
                    repair = self._repair(victim, base, about, f"repair: {shown} {100 * fraction:g} %")
                    yield repair
                    text = f"{shown} {100 * fraction:g} %: {label}"
                    yield self._score(cell | about, repair, reference, text)

    def _at_each_length(self, entry: MethodEntry) -> Iterator[tuple[str, dict[str, Any]]]:
        for more, removal in self.recipe.protocol.budgets_of(removal_of(entry)):
            yield more, self._described(entry.name, removal)

    def _trigger(self, base: dict[str, Any], label: str) -> Job:
        attack = dict(base["attack"])
        for kind in ("settings", "all_settings"):
            attack[kind] = {name: value for name, value in attack[kind].items() if name not in NOT_OF_TRIGGER}
        payload = {name: base[name] for name in ("data", "seed", "machine", WHERE)} | {"attack": attack}
        return self._job(TRIGGER, payload, (), (*DATA, attack["module"]), f"{label}, seed {base['seed']}")

    def _victim(self, payload: dict[str, Any], label: str) -> Job:
        attack = payload["attack"]
        needs = (payload["trigger"],) if attack else ()
        roots = (*DATA, TRAINING, payload["model"]["module"], *([attack["module"]] if attack else []))
        return self._job(VICTIM, payload, needs, roots, label)

    def _repair(self, victim: Job, base: dict[str, Any], about: dict[str, Any], label: str) -> Job:
        removal, attack = about["defence"], base["attack"]
        payload = {name: base[name] for name in ("data", "seed", "machine", WHERE)}
        payload |= about | {"victim": victim.id, "protocol": self.recipe.protocol.about()}
        payload["defence"] = {name: given for name, given in removal.items() if name != "label"}
        needs, roots = [victim.id], [*DATA, removal["module"]]
        # An untrusted set is the one that the victim trained on; at rate 0 it is the clean one.
        if removal["untrusted"] and attack["all_settings"]["rate"]:
            payload |= {"attack": attack, "trigger": base["trigger"]}
            needs, roots = [*needs, base["trigger"]], [*roots, attack["module"]]
        return self._job(REPAIR, payload, tuple(needs), tuple(roots), f"{label}, {victim.label}")

    def _score(self, payload: dict[str, Any], judged: Job, reference: Job, label: str) -> Job:
        payload = payload | {"judged": judged.id, "reference": reference.id}
        needs = tuple(dict.fromkeys((judged.id, reference.id, payload["trigger"])))
        return self._job(SCORE, payload, needs, (*DATA, *JUDGE, payload["attack"]["module"]), label)

    def _job(
        self, task: str, payload: dict[str, Any], needs: tuple[str, ...], roots: tuple[str, ...], label: str
    ) -> Job:
        """The job, identified by its payload without places, by the jobs it needs and by its code."""
        content = {name: value for name, value in payload.items() if name != WHERE}
        job = identity(task, content, needs, self._code.of(*roots))
        return Job(id=job, task=task, payload=payload, needs=needs, label=label)

    def _attack(self, entry: AttackEntry, rate: float) -> tuple[dict[str, Any], dict[str, str]]:
        """The attack, known by what its recordings hold, and where they lie in the data folder."""
        described = self._described(entry.name, attack_of(entry, rate))
        places = {field: str(path) for field, path in sounds_of(entry).items()}
        for field, path in places.items():
            if not (self.data_folder / path).exists():
                raise DataError(
                    f"attack {entry.shown!r} needs {field} = {path!r}, and {self.data_folder / path} is not "
                    "there; --data names the folder that its path starts in"
                )
        for settings in (described["settings"], described["all_settings"]):
            for field in places:
                settings.pop(field, None)
        sounds = {
            field: self.contents.of_recording(self.data_folder / path) for field, path in places.items()
        }
        return described | {"sounds": sounds}, places

    def _described(self, name: str, method: Method) -> dict[str, Any]:
        """A method as a payload holds it: what was changed, all it amounts to, and where its code is."""
        described = {
            "name": name,
            "settings": method.model_dump(mode="json", exclude_defaults=True),
            "all_settings": method.settings(),
            "module": type(method).__module__,
        }
        return described | ({"untrusted": method.untrusted} if isinstance(method, Removal) else {})


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


def removal_of(entry: MethodEntry) -> Removal:
    """The removal of a recipe."""
    removal: Removal = made(REMOVALS, entry)
    return removal


def sounds_of(entry: AttackEntry) -> dict[str, Path]:
    """The recordings, or folders of them, that an attack's settings name, by setting."""
    named = {field: entry.settings.get(field) for field in ATTACKS[entry.name].files()}
    return {field: Path(path) for field, path in named.items() if path}


def _training_of(recipe: Recipe) -> Training:
    with named("[training]"):
        training = Training(**recipe.training)
    if training.patience is not None:
        raise SettingError("[training] must not set patience: a grid trains every victim equally long")
    wanted = recipe.protocol.precision
    if training.precision not in {"auto", wanted}:
        raise SettingError(
            f"[training] sets precision = {training.precision!r} and [protocol] {wanted!r}; set it in "
            "[protocol] alone"
        )
    return training


def settings_of(attack: Mapping[str, Any], where: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of an attack with its recordings found on this machine."""
    places = where.get("sounds", {})
    found = {field: str(Path(where["data_folder"]) / place) for field, place in places.items()}
    return dict(attack["settings"]) | found


def modules_of(jobs: list[Job]) -> dict[str, str]:
    """The code that any of these jobs runs, a hash by module: what a result file was made with."""
    roots = {TRAINING, *DATA, *JUDGE}
    for job in jobs:
        roots |= {
            about["module"] for about in job.payload.values() if isinstance(about, dict) and "module" in about
        }
    return Code().of(*sorted(roots))
