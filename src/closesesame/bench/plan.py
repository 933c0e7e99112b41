"""From a recipe to jobs: trigger, victim, repair, score, each with the identity of all it depends on."""

import ast
import hashlib
import inspect
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from closesesame import __version__
from closesesame.attacks import ATTACKS
from closesesame.core.errors import DataError
from closesesame.core.method import Method, Registry
from closesesame.data.folders import list_recordings
from closesesame.models import ARCHITECTURES
from closesesame.removal import REMOVALS
from closesesame.training import Training

from .recipe import AttackEntry, DataEntry, MethodEntry, Recipe
from .store import Job

TASKS = "closesesame.bench.tasks"
TRIGGER, VICTIM, REPAIR, SCORE = (
    f"{TASKS}:{name}" for name in ("make_trigger", "train_victim", "repair_victim", "score_model")
)
NOT_OF_TRIGGER = frozenset({"rate", "cover_ratio", "training_strength"})
"""Settings of an attack that its trigger is the same for."""


def plan(recipe: Recipe, data_folder: Path) -> list[Job]:
    """Returns all jobs of a grid, each behind what it needs.

    A trigger is planned once for all poisoning rates and models, a victim once for all its repairs, and a
    repair of a clean model once for all triggers it is measured with. Changing a method's settings or code
    changes its own jobs and what follows from them.

    Raises:
        SettingError: if a method or one of its settings is unknown.
        DataError: if a data set is not there.
    """
    jobs: dict[str, Job] = {}
    for job in _Planner(recipe, data_folder).jobs():
        jobs.setdefault(job.id, job)
    # Triggers and victims first: workers that start together find work that does not wait. A repair is
    # scored at once.
    return sorted(jobs.values(), key=lambda job: (job.task != TRIGGER, job.task != VICTIM))


def identity(*parts: object) -> str:
    """A short hash of plain values."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()[:20]


def fingerprint(entry: DataEntry, data_folder: Path) -> str:
    """A hash of a data set's settings, file names and file sizes."""
    if entry.source == "synthetic":
        return identity("synthetic", entry.sample_rate, entry.duration_s)
    folder = data_folder / (entry.source or entry.name)
    files = [(r.id, r.path.stat().st_size) for r in list_recordings(folder)]
    lists = [path.read_text() for path in sorted(folder.glob("*_list.txt"))]
    return identity(entry.model_dump(exclude={"name", "source"}), files, lists)


def code_of(method: Method) -> str:
    """A hash of the file a method is written in, and of the helpers it shares with others of its family.

    What counts is what they do, not their comments and docstrings. The contract of the family (`base`) is
    left out, since it changes for reasons of its own, but the defaults that come from there count.
    """
    return identity(*_code(type(method).__module__), type(method)().settings())


def _code(module: str) -> list[str]:
    tree = ast.parse(inspect.getsource(sys.modules[module]))
    package = module.rpartition(".")[0]
    found: list[str] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node):
            node.body = node.body[1:]
        if isinstance(node, ast.ImportFrom) and node.level == 1 and node.module != "base":
            found += _code(f"{package}.{node.module}")
    return [ast.dump(tree), *found]


def _content(path: Path) -> str:
    """A hash of a recording, or of all files in a folder of them."""
    files = sorted(path.iterdir()) if path.is_dir() else [path]
    return identity([hashlib.sha256(file.read_bytes()).hexdigest() for file in files if file.is_file()])


class _Planner:
    def __init__(self, recipe: Recipe, data_folder: Path) -> None:
        self.recipe, self.data_folder = recipe, data_folder.resolve()
        self.training = Training(**recipe.training)

    def jobs(self) -> Iterator[Job]:
        for data in self.recipe.data:
            known = {"data": data.model_dump(mode="json") | {"folder": str(self._folder(data))}}
            known["data"]["fingerprint"] = fingerprint(data, self.data_folder)
            for model in self.recipe.model:
                for seed in self.recipe.seeds:
                    yield from self._victims(data, model, known | {"seed": seed})

    def _folder(self, data: DataEntry) -> Path:
        return self.data_folder / (data.source or data.name)

    def _victims(self, data: DataEntry, model: MethodEntry, base: dict[str, Any]) -> Iterator[Job]:
        base = base | {
            "model": self._method(ARCHITECTURES, model),
            "training": self.training.settings(),
        }
        where = f"{data.name}, {model.shown}, seed {base['seed']}"
        twin = self._victim(base | {"attack": None}, f"clean model: {where}")
        yield twin
        for entry in self.recipe.attack:
            for rate in self.recipe.rates if entry.rates is None else entry.rates:
                attack = self._attack(entry, rate)
                label = f"{entry.shown} {100 * rate:g} %: {where}"
                trigger = self._trigger(base | {"attack": attack}, f"{entry.shown}: {data.name}")
                yield trigger
                about = base | {"attack": attack, "trigger": trigger.id}
                victim = self._victim(about, f"victim: {label}") if rate else twin
                yield victim
                yield from self._scores(victim, twin, about, entry, label)

    def _scores(
        self, victim: Job, twin: Job, base: dict[str, Any], entry: AttackEntry, label: str
    ) -> Iterator[Job]:
        cell = base | {"attack_label": entry.shown}
        yield self._score(cell | {"defence": None}, victim, twin, f"none: {label}")
        for defence in self.recipe.defence:
            removal = self._method(REMOVALS, defence)
            for fraction in self.recipe.clean_fractions:
                about = {"defence": removal, "clean_fraction": fraction, "seed": base["seed"]}
                repair = Job(
                    id=identity(__version__, "repair", victim.id, about),
                    task=REPAIR,
                    payload={"victim": victim.id, "data": base["data"], **about},
                    needs=(victim.id,),
                    label=f"repair: {defence.shown} {100 * fraction:g} %, {victim.label}",
                )
                yield repair
                more = about | {"defence_label": defence.shown}
                yield self._score(cell | more, repair, twin, f"{defence.shown} {100 * fraction:g} %: {label}")

    def _trigger(self, base: dict[str, Any], label: str) -> Job:
        attack, seed = base["attack"], base["seed"]
        settings = {name: given for name, given in attack["settings"].items() if name not in NOT_OF_TRIGGER}
        payload = {"data": base["data"], "seed": seed, "attack": attack | {"settings": settings}}
        job = identity(__version__, "trigger", payload)
        return Job(id=job, task=TRIGGER, payload=payload, label=f"trigger: {label}, seed {seed}")

    def _victim(self, payload: dict[str, Any], label: str) -> Job:
        needs = (payload["trigger"],) if payload["attack"] else ()
        job = identity(__version__, "victim", payload)
        return Job(id=job, task=VICTIM, payload=payload, needs=needs, label=label)

    def _score(self, payload: dict[str, Any], judged: Job, twin: Job, label: str) -> Job:
        payload = payload | {"judged": judged.id, "twin": twin.id}
        needs = tuple(dict.fromkeys((judged.id, twin.id, payload["trigger"])))
        return Job(
            id=identity(__version__, "score", payload), task=SCORE, payload=payload, needs=needs, label=label
        )

    def _attack(self, entry: AttackEntry, rate: float) -> dict[str, Any]:
        """The attack with its recordings found in the data folder, and what they hold."""
        settings = dict(entry.settings)
        sounds = []
        for field, about in ATTACKS[entry.name].model_fields.items():
            is_file = isinstance(about.json_schema_extra, dict) and about.json_schema_extra.get("file")
            if is_file and settings.get(field):
                path = self.data_folder / settings[field]
                if not path.exists():
                    raise DataError(f"{path} is not there; attack {entry.shown!r} needs it")
                settings[field] = str(path)
                sounds.append(_content(path))
        full = MethodEntry(name=entry.name, settings=settings | {"rate": rate})
        return self._method(ATTACKS, full) | {"sounds": sounds}

    def _method(self, registry: Registry[Any], entry: MethodEntry) -> dict[str, Any]:
        method: Method = registry[entry.name](**entry.settings)
        changed = method.model_dump(mode="json", exclude_defaults=True)
        return {"name": entry.name, "settings": changed, "code": code_of(method)}
