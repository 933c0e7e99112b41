"""What the jobs of a grid do: make a trigger, train a victim, repair it, score a model."""

import json
from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache, wraps
from pathlib import Path
from typing import Any

import torch

from closesesame.attacks import ATTACKS, Attack, Trigger
from closesesame.attacks.files import load_trigger
from closesesame.audio import files
from closesesame.core import machine
from closesesame.core.errors import SettingError
from closesesame.data import Dataset, Splits
from closesesame.data.folders import read_splits
from closesesame.data.speech import synthetic_speech
from closesesame.data.stored import open_dataset, open_splits, store_dataset, store_splits
from closesesame.evaluation import STEALTH, Exam, Scores, stealth_of
from closesesame.models import ARCHITECTURES, load_model, save_model
from closesesame.removal import REMOVALS
from closesesame.training import Training, train

from .identity import Machine, check_data, identity
from .plan import WHERE, settings_of
from .protocol import Protocol
from .queue.artifacts import Workplace
from .queue.store import Job
from .queue.worker import Task
from .recipe import DataEntry

Result = dict[str, Any]
SURPRISES = "surprises.json"


def as_planned(task: Task) -> Task:
    """Does a job in the precision and on the kind of processor it was planned for, and says which precision.

    What a method trains in a precision of its own is what it says.
    """

    @wraps(task)
    def run(job: Job, workplace: Workplace) -> Result:
        planned = job.payload["machine"]
        here = Machine.here(planned["precision"]).settings()
        if here != planned:
            name = next(name for name in planned if here[name] != planned[name])
            raise SettingError(
                f"this job was planned for {name} {planned[name]!r}, and this machine has {here[name]!r}; "
                "numbers of both do not belong in one table"
            )
        with machine.precision(planned["precision"]) as trained:
            result: Result = task(job, workplace)
        return result | {"precision": "+".join(sorted(trained)) or planned["precision"]}

    return run


@as_planned
def make_trigger(job: Job, workplace: Workplace) -> Result:
    """Makes the trigger of an attack, once for all victims and scores: some attacks train a model for it.

    It is kept as victims are, not made again: made on another processor it is another trigger.
    """
    about = job.payload
    splits, attack = load_data(about, workplace), _attack(about)
    assert attack is not None
    workplace.keep(job.id, lambda folder: attack.trigger(splits.train, about["seed"]).save(folder))
    return {}


@as_planned
def train_victim(job: Job, workplace: Workplace) -> Result:
    """Poisons the training set, if there is an attack, and trains a model on it."""
    about = job.payload
    splits, attack = load_data(about, workplace), _attack(about)
    dataset, poisoned_clips, share = splits.train, 0, 0.0
    if attack is not None:
        trigger = _trigger(attack, about, workplace)
        poisoned = attack.poison(splits.train, about["seed"], trigger=trigger)
        dataset, share = poisoned.dataset, poisoned.share_of_target
        poisoned_clips = int(poisoned.poisoned_mask.sum())
    architecture = ARCHITECTURES.recall(about["model"]["name"], about["model"]["settings"])
    model = train(architecture, dataset, Training(**about["training"]), seed=about["seed"])
    workplace.keep(job.id, lambda folder: save_model(model, folder))
    return {
        "training_clips": len(dataset),
        "poisoned_clips": poisoned_clips,
        "poisoned_share_of_target": share,
    }


@as_planned
def repair_victim(job: Job, workplace: Workplace) -> Result:
    """Repairs a victim with the examples that the protocol gives to its removal."""
    about = job.payload
    model = load_model(workplace.artifact(about["victim"]))
    removal = REMOVALS.recall(about["defence"]["name"], about["defence"]["settings"])
    repair = removal.remove(model, examples_for(about, workplace), about["seed"])
    workplace.keep(job.id, lambda folder: save_model(repair.model, folder))
    return {
        "tuned_on": repair.tuned_on,
        "held_out": repair.held_out,
        "acc_before": repair.acc_before,
        "acc_after": repair.acc_after,
        "seconds": repair.seconds,
        "chosen": repair.chosen,
    }


def examples_for(about: Mapping[str, Any], workplace: Workplace) -> Dataset:
    """Clean examples, or for a removal that asks for such, examples of what the victim was trained on."""
    splits, seed = load_data(about, workplace), about["seed"]
    given = {name: value for name, value in about["protocol"].items() if name != "version"}
    protocol = Protocol(**given)
    if not about["defence"]["untrusted"]:
        return protocol.clean_examples(splits, about["clean_fraction"], seed)
    attack, untrusted = _attack(about), splits.train
    if attack is not None:
        untrusted = attack.poison(splits.train, seed, trigger=_trigger(attack, about, workplace)).dataset
    return untrusted.sample(min(1.0, protocol.untrusted_examples / len(untrusted)), seed)


@as_planned
def score_model(job: Job, workplace: Workplace) -> Result:
    """Measures a model with the trigger of an attack on the test set; and the trigger, at its victim."""
    about = job.payload
    exam = exam_of(about, workplace)
    found = _flat(exam.score(load_model(workplace.artifact(about["judged"]))))
    if about["defence"] is None:
        workplace.keep(job.id, lambda folder: _keep_sounds(exam, folder))
        changes = stealth_of(exam)
        measured = {} if changes is None else changes.as_json()
        found |= {name: measured.get(name) for name in STEALTH}
    return found


def load_data(about: Mapping[str, Any], workplace: Workplace) -> Splits:
    """The data set of a job, decoded once for all workers."""
    return open_data(keep_data(about, workplace))


def keep_data(about: Mapping[str, Any], workplace: Workplace) -> Path:
    """Decodes the data set of a job into the cache, unless it is there, with what was noticed on the way.

    Args:
        about: the payload of any job on it.
        workplace: whose cache.

    Returns:
        The folder in the cache.

    Raises:
        DataError: if it cannot be read, or changed since it was planned.
    """
    data, where = about["data"], about[WHERE]
    entry = DataEntry(**{name: data[name] for name in DataEntry.model_fields})

    def make(folder: Path) -> None:
        rate, duration = entry.sample_rate, entry.duration_s
        surprises: list[str] = []
        if entry.source == "synthetic":
            splits = synthetic_speech(sample_rate=rate, duration_s=duration)
        else:
            check_data(entry, Path(where["data_folder"]), data["fingerprint"])
            place = entry.place(Path(where["data_folder"]))
            read = read_splits(
                place, sample_rate=rate, duration_s=duration, task=entry.task, split=entry.split
            )
            splits, surprises = read.splits, list(read.report.surprises())
        store_splits(splits, folder)
        (folder / SURPRISES).write_text(json.dumps(surprises), encoding="utf-8")

    return workplace.cached(f"data-{identity(data['fingerprint'], where['read_by'])}", make)


@lru_cache(maxsize=2)
def open_data(folder: Path) -> Splits:
    """Opens what `keep_data` keeps."""
    return open_splits(folder)


def surprises_of(folder: Path) -> list[str]:
    """What `keep_data` noticed while it read the recordings, a sentence each."""
    return list(json.loads((folder / SURPRISES).read_text(encoding="utf-8")))


def _attack(about: Mapping[str, Any]) -> Attack | None:
    attack = about.get("attack")
    return None if attack is None else ATTACKS.recall(attack["name"], settings_of(attack, about[WHERE]))


def exam_of(about: Mapping[str, Any], workplace: Workplace) -> Exam:
    """The test set with its triggered clips, which are stamped once for all models."""
    splits, attack = load_data(about, workplace), _attack(about)
    reference = load_model(workplace.artifact(about["reference"]))
    if attack is None:
        return Exam(splits.test)
    trigger = _trigger(attack, about, workplace)

    def make(folder: Path) -> None:
        store_dataset(trigger.stamp_dataset(splits.test), folder)

    triggered = open_dataset(workplace.cached(f"triggered-{about['trigger']}", make))
    return Exam(splits.test, trigger, reference, triggered=triggered)


def _trigger(attack: Attack, about: Mapping[str, Any], workplace: Workplace) -> Trigger:
    """The trigger that was made, with the settings that differ between those who use it."""
    return replace(load_trigger(workplace.artifact(about["trigger"])), attack=attack)


def _keep_sounds(exam: Exam, folder: Path) -> None:
    """One clip, clean and triggered, to listen to."""
    if exam.triggered is None or exam.triggered.sample_rate is None:
        return
    row = int(torch.randint(len(exam.triggered), (), generator=torch.Generator().manual_seed(0)))
    clean = exam.test.named([exam.triggered.ids[row]])
    files.write(folder / "clean.wav", clean.inputs[:][0], exam.triggered.sample_rate)
    files.write(folder / "triggered.wav", exam.triggered.inputs[[row]][0], exam.triggered.sample_rate)


def _flat(scores: Scores) -> Result:
    """Scores as the fields of a result row."""
    rates = {"acc": scores.acc, "asr": scores.asr, "ra": scores.ra, "ra_reference": scores.ra_reference}
    found: Result = {name: None if rate is None else rate.value for name, rate in rates.items()}
    return found | {
        "test_clips": scores.acc.of,
        "triggered_clips": None if scores.asr is None else scores.asr.of,
    }


TABLE: dict[str, Task] = {
    task.__name__: task for task in (make_trigger, train_victim, repair_victim, score_model)
}
"""All that a worker does; a store can ask for nothing else."""
