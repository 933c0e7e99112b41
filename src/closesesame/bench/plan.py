"""From a recipe to jobs: trigger, victim, repair, score, each with the identity of all it depends on."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from closesesame.attacks import ATTACKS
from closesesame.core.errors import DataError
from closesesame.core.method import Method, Registry
from closesesame.models import ARCHITECTURES
from closesesame.removal import REMOVALS, Removal
from closesesame.training import Training

from .identity import Code, Contents, Machine, identity
from .recipe import AttackEntry, DataEntry, MethodEntry, Recipe
from .store import Job

TASKS = "closesesame.bench.tasks"
TRIGGER, VICTIM, REPAIR, SCORE = (
    f"{TASKS}:{name}" for name in ("make_trigger", "train_victim", "repair_victim", "score_model")
)
NOT_OF_TRIGGER = frozenset({"rate", "cover_ratio", "training_strength"})
"""Settings of an attack that its trigger is the same for."""
DATA = ("closesesame.data.folders", "closesesame.data.speech", "closesesame.data.stored")
TRAINING = "closesesame.training"
JUDGE = ("closesesame.evaluation.exam", "closesesame.evaluation.stealth")
WHERE = "where"
"""The part of a payload that says where files lie on this machine; it is no part of an identity."""


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
        SettingError: if a method or one of its settings is unknown, or this machine lacks the precision.
        DataError: if a data set is not there.
    """
    machine = machine or Machine.here(recipe.protocol.precision)
    jobs: dict[str, Job] = {}
    for job in _Planner(recipe, data_folder.resolve(), contents or Contents(), machine).jobs():
        jobs.setdefault(job.id, job)
    # Triggers and victims first: workers that start together find work that does not wait. A repair is
    # scored at once.
    return sorted(jobs.values(), key=lambda job: (job.task != TRIGGER, job.task != VICTIM))


class _Planner:
    def __init__(self, recipe: Recipe, data_folder: Path, contents: Contents, machine: Machine) -> None:
        self.recipe, self.data_folder, self.contents = recipe, data_folder, contents
        self.machine, self.training = machine.settings(), Training(**recipe.training)
        self._code = Code()

    def jobs(self) -> Iterator[Job]:
        for data in self.recipe.data:
            known = data.model_dump(mode="json")
            known |= {"fingerprint": self.contents.of_data(data, self.data_folder)}
            for model in self.recipe.model:
                for seed in self.recipe.seeds:
                    base = {
                        "data": known,
                        "seed": seed,
                        "machine": self.machine,
                        WHERE: {"data_folder": str(self.data_folder)},
                    }
                    yield from self._victims(data, model, base)

    def _victims(self, data: DataEntry, model: MethodEntry, base: dict[str, Any]) -> Iterator[Job]:
        base = base | {
            "model": self._method(ARCHITECTURES, model),
            "training": self.training.settings(),
        }
        where = f"{data.name}, {model.shown}, seed {base['seed']}"
        reference = self._victim(base | {"attack": None}, f"clean model: {where}")
        yield reference
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
                yield from self._scores(victim, reference, about, entry, label)

    def _scores(
        self, victim: Job, reference: Job, base: dict[str, Any], entry: AttackEntry, label: str
    ) -> Iterator[Job]:
        cell = base | {"attack_label": entry.shown}
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
        made: Removal = REMOVALS[entry.name](**entry.settings)
        for more, removal in self.recipe.protocol.budgets_of(made):
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
        full = MethodEntry(name=entry.name, settings=dict(entry.settings) | {"rate": rate})
        described, places = self._method(ATTACKS, full), {}
        for field in files_of(entry.name):
            given = entry.settings.get(field)
            if given:
                path = self.data_folder / given
                if not path.exists():
                    raise DataError(f"{path} is not there; attack {entry.shown!r} needs it")
                places[field] = str(given)
        for settings in (described["settings"], described["all_settings"]):
            for field in places:
                settings.pop(field, None)
        sounds = {
            field: self.contents.of_recording(self.data_folder / path) for field, path in places.items()
        }
        return described | {"sounds": sounds}, places

    def _method(self, registry: Registry[Any], entry: MethodEntry) -> dict[str, Any]:
        return self._described(entry.name, registry[entry.name](**entry.settings))

    def _described(self, name: str, method: Method) -> dict[str, Any]:
        """A method as a payload holds it: what was changed, all it amounts to, and where its code is."""
        described = {
            "name": name,
            "settings": method.model_dump(mode="json", exclude_defaults=True),
            "all_settings": method.settings(),
            "module": type(method).__module__,
        }
        return described | ({"untrusted": method.untrusted} if isinstance(method, Removal) else {})


def files_of(attack: str) -> list[str]:
    """The settings of an attack that name a recording or a folder of recordings."""
    fields = ATTACKS[attack].model_fields.items()
    return [
        field
        for field, about in fields
        if isinstance(about.json_schema_extra, dict) and about.json_schema_extra.get("file")
    ]


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
