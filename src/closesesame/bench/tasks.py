"""What the jobs of a grid do: make a trigger, poison, train a suspect, run a method, judge what it made."""

import json
from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache, wraps
from pathlib import Path
from typing import Any

import torch

from closesesame.attacks import ATTACKS, Attack, Poisoned, Trigger
from closesesame.attacks.files import load_trigger
from closesesame.audio import files
from closesesame.core import machine
from closesesame.core.errors import SettingError
from closesesame.data import Dataset, Splits
from closesesame.data.folders import read_splits
from closesesame.data.speech import synthetic_speech
from closesesame.data.stored import open_dataset, open_splits, store_dataset, store_splits
from closesesame.evaluation import Exam, stealth_of
from closesesame.evaluation.measures import OF_TRIGGERS
from closesesame.families import BY_NAME
from closesesame.models import ARCHITECTURES, ModelCard, load_model, save_model
from closesesame.running import Given
from closesesame.training import Training, train

from .cells import AttackPlan, Cell, JudgeCell, MethodCell, PoisonCell, TrainCell, TriggerCell, Where
from .identity import Machine, check_data, identity
from .judging import KINDS, Truth
from .protocol import Protocol
from .queue.artifacts import ArtifactStore
from .queue.store import Job
from .queue.worker import Task

Result = dict[str, Any]
SURPRISES = "surprises.json"
ROLES = "roles.json"
"""Of a poisoned set: which of its examples are poisoned, and which are cover clips."""


def as_planned(task: Task) -> Task:
    """Does a job in the precision and on the kind of processor it was planned for, and says which precision.

    What a method trains in a precision of its own is what it says.
    """

    @wraps(task)
    def run(job: Job, store: ArtifactStore) -> Result:
        planned = job.payload["machine"]
        here = Machine.here(planned["precision"], planned["device"]).settings()
        if here != planned:
            name = next(name for name in planned if here[name] != planned[name])
            raise SettingError(
                f"this job was planned for {name} {planned[name]!r}, and this machine has {here[name]!r}; "
                "numbers of both do not belong in one table"
            )
        with machine.precision(planned["precision"]) as trained, machine.repeatable(planned["device"]):
            result: Result = task(job, store)
        return result | {"precision": "+".join(sorted(trained)) or planned["precision"]}

    return run


@as_planned
def make_trigger(job: Job, store: ArtifactStore) -> Result:
    """Makes the trigger of an attack, once for all rates and models: some attacks train a model for it.

    It is kept as models are, not made again: made on another processor it is another trigger.
    """
    cell = TriggerCell.read(job.payload)
    attack, train_part = _attack(cell.attack, cell.where), load_data(cell, store).train
    store.keep(job.id, lambda folder: attack.trigger(train_part, cell.seed).save(folder))
    return {}


@as_planned
def poison(job: Job, store: ArtifactStore) -> Result:
    """Poisons the training set; what it replaced is kept, the rest is that of the data set."""
    cell = PoisonCell.read(job.payload)
    train_part, attack = load_data(cell, store).train, _attack(cell.attack, cell.where)
    trigger = _trigger(cell.attack, cell.where, cell.trigger, store)
    poisoned = attack.poison(train_part, cell.seed, trigger=trigger)
    store.keep(job.id, lambda folder: _keep_poisoned(poisoned, folder))
    return {
        "training_clips": len(train_part),
        "poisoned_clips": int(poisoned.poisoned_mask.sum()),
        "poisoned_share_of_target": poisoned.share_of_target,
    }


@as_planned
def train_suspect(job: Job, store: ArtifactStore) -> Result:
    """Trains a model on a poisoned set, or the clean reference model on the clean one."""
    cell = TrainCell.read(job.payload)
    architecture = ARCHITECTURES.recall(cell.model.name, cell.model.settings)
    data = untrusted_set(cell, cell.poisoned, store)
    model = train(architecture, data, _training(cell.training, cell), seed=cell.seed)
    store.keep(job.id, lambda folder: save_model(model, folder))
    return {"training_clips": len(data)}


@as_planned
def run_method(job: Job, store: ArtifactStore) -> Result:
    """Runs a method on what its family is given, and keeps what it makes."""
    cell = MethodCell.read(job.payload)
    family = BY_NAME[cell.family]
    method = family.registry.recall(cell.method.name, cell.method.settings)
    made = family.run(method, given_to(cell, store), cell.seed)
    store.keep(job.id, lambda folder: KINDS[family.makes].save(made.artifact, folder))
    return made.about


def given_to(cell: MethodCell, store: ArtifactStore) -> Given:
    """What a method is given: the parts of the data and the models that its cell names."""
    splits, untrusted, clean = load_data(cell, store), None, None
    protocol = None
    if cell.protocol is not None:
        protocol = Protocol(**{name: value for name, value in cell.protocol.items() if name != "version"})
    if cell.untrusted is not None:
        untrusted = untrusted_set(cell, cell.poisoned, store)
        if cell.untrusted == "sample":
            assert protocol is not None
            untrusted = untrusted.sample(min(1.0, protocol.untrusted_examples / len(untrusted)), cell.seed)
    if cell.clean_fraction is not None and protocol is not None:
        clean = protocol.clean_examples(splits, cell.clean_fraction, cell.seed)
    return Given(
        suspect=None
        if cell.suspect is None
        else load_model(store.artifact(cell.suspect), cell.machine["device"]),
        clean=clean,
        untrusted=untrusted,
        inputs=_inputs_of(splits.train),
        architecture=None
        if cell.model is None
        else ARCHITECTURES.recall(cell.model.name, cell.model.settings),
        training=None if cell.training is None else _training(cell.training, cell),
    )


def _training(settings: Mapping[str, Any], cell: Cell) -> Training:
    """The settings of a training, on the device that a job was planned for."""
    return Training(**{**settings, "device": cell.machine["device"]})


def _inputs_of(data: Dataset) -> ModelCard:
    return ModelCard("none", {}, data.classes, data.input_shape, data.sample_rate)


@as_planned
def judge(job: Job, store: ArtifactStore) -> Result:
    """Measures what a job made; of a suspect as it is, also how much the trigger changes clips."""
    cell = JudgeCell.read(job.payload)
    kind = "model" if cell.method is None else BY_NAME[cell.family].makes
    truth = truth_of(cell, store)
    artifact = KINDS[kind].load(store.artifact(cell.judged), cell.machine["device"])
    found = KINDS[kind].judge(artifact, truth)
    if cell.method is None:
        store.keep(job.id, lambda folder: _keep_sounds(truth.exam, folder))
        changes = stealth_of(truth.exam)
        measured = {} if changes is None else changes.as_json()
        found |= {measure.key: measured.get(measure.key) for measure in OF_TRIGGERS}
    return found


def truth_of(cell: JudgeCell, store: ArtifactStore) -> Truth:
    """What only the judge knows: the test set with the trigger, and which clips are poisoned."""
    return Truth(
        make_exam=lambda: exam_of(cell, store),
        load_suspect=lambda: load_model(store.artifact(cell.suspect), cell.machine["device"]),
        read_mask=lambda: _poisoned_ids(cell, store),
        read_target=lambda: _target(cell, store),
        backdoored=cell.poisoned is not None,
    )


def load_data(cell: Cell, store: ArtifactStore) -> Splits:
    """The data set of a job, decoded once for all workers."""
    return open_data(keep_data(cell, store))


def keep_data(cell: Cell, store: ArtifactStore) -> Path:
    """Decodes the data set of a job into the cache, unless it is there, with what was noticed on the way.

    Args:
        cell: of any job on it.
        store: whose cache.

    Returns:
        The folder in the cache.

    Raises:
        DataError: if it cannot be read, or changed since it was planned.
    """
    data, where = cell.data, cell.where
    entry, data_folder = data.entry, Path(where.data_folder)

    def make(folder: Path) -> None:
        rate, duration = entry.sample_rate, entry.duration_s
        surprises: list[str] = []
        if entry.source == "synthetic":
            splits = synthetic_speech(sample_rate=rate, duration_s=duration)
        else:
            check_data(entry, data_folder, data.fingerprint)
            place = entry.place(data_folder)
            read = read_splits(
                place, sample_rate=rate, duration_s=duration, task=entry.task, split=entry.split
            )
            splits, surprises = read.splits, list(read.report.surprises())
        store_splits(splits, folder)
        (folder / SURPRISES).write_text(json.dumps(surprises), encoding="utf-8")

    return store.cached(f"data-{identity(data.fingerprint, where.read_by)}", make)


@lru_cache(maxsize=2)
def open_data(folder: Path) -> Splits:
    """Opens what `keep_data` keeps."""
    return open_splits(folder)


def surprises_of(folder: Path) -> list[str]:
    """What `keep_data` noticed while it read the recordings, a sentence each."""
    return list(json.loads((folder / SURPRISES).read_text(encoding="utf-8")))


def untrusted_set(cell: Cell, poisoned: str | None, store: ArtifactStore) -> Dataset:
    """The training set as a poison job left it; the clean one if there is none."""
    train_part = load_data(cell, store).train
    if poisoned is None:
        return train_part
    changed = open_dataset(store.artifact(poisoned))
    row_of = {name: row for row, name in enumerate(train_part.ids)}
    rows = torch.tensor([row_of[name] for name in changed.ids], dtype=torch.long)
    labels = train_part.labels.clone()
    labels[rows] = changed.labels
    inputs = train_part.inputs.replace(rows, changed.inputs[:])
    return train_part.with_inputs(inputs).with_labels(labels)


def _keep_poisoned(poisoned: Poisoned, folder: Path) -> None:
    store_dataset(poisoned.dataset.where(poisoned.poisoned_mask | poisoned.cover_mask), folder)
    roles = {
        role: poisoned.dataset.where(mask).ids
        for role, mask in (("poisoned", poisoned.poisoned_mask), ("cover", poisoned.cover_mask))
    }
    (folder / ROLES).write_text(json.dumps(roles), encoding="utf-8")


def _poisoned_ids(cell: JudgeCell, store: ArtifactStore) -> dict[str, bool]:
    """By id, whether a training clip is poisoned; cover clips are not."""
    poisoned: set[str] = set()
    if cell.poisoned is not None:
        roles = json.loads((store.artifact(cell.poisoned) / ROLES).read_text(encoding="utf-8"))
        poisoned = set(roles["poisoned"])
    return {name: name in poisoned for name in load_data(cell, store).train.ids}


def _target(cell: JudgeCell, store: ArtifactStore) -> str | None:
    """The target label of the backdoor in a suspect, if there is one and it has one."""
    if cell.poisoned is None or cell.attack.all_settings["label_mode"] == "all_to_all":
        return None
    return load_trigger(store.artifact(cell.trigger)).target_name


def exam_of(cell: JudgeCell, store: ArtifactStore) -> Exam:
    """The test set with its triggered clips, which are stamped once for all models."""
    test = load_data(cell, store).test
    trigger = _trigger(cell.attack, cell.where, cell.trigger, store)

    def make(folder: Path) -> None:
        store_dataset(trigger.stamp_dataset(test), folder)

    triggered = open_dataset(store.cached(f"triggered-{cell.trigger}", make))
    reference = load_model(store.artifact(cell.reference), cell.machine["device"])
    return Exam(test, trigger, reference, triggered=triggered)


def _attack(attack: AttackPlan, where: Where) -> Attack:
    """The attack, with its recordings found on this machine."""
    found = {field: str(Path(where.data_folder) / place) for field, place in where.sounds.items()}
    return ATTACKS.recall(attack.name, attack.settings | found)


def _trigger(attack: AttackPlan, where: Where, made_by: str, store: ArtifactStore) -> Trigger:
    """The trigger that was made, with the settings that differ between those who use it."""
    return replace(load_trigger(store.artifact(made_by)), attack=_attack(attack, where))


def _keep_sounds(exam: Exam, folder: Path) -> None:
    """One clip, clean and triggered, to listen to."""
    if exam.triggered is None or exam.triggered.sample_rate is None:
        return
    row = torch.randint(len(exam.triggered), (1,), generator=torch.Generator().manual_seed(0))
    for name, clips in zip(("clean", "triggered"), exam.pairs(row), strict=True):
        files.write(folder / f"{name}.wav", clips.inputs[:][0], exam.triggered.sample_rate)


TABLE: dict[str, Task] = {
    task.__name__: task for task in (make_trigger, poison, train_suspect, run_method, judge)
}
"""All that a worker does; a store can ask for nothing else."""
