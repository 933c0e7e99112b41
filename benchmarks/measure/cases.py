"""What `fuzz.py` tries: whole files, ways to damage them, and what must hold of whatever reads them."""

import json
import random
import re
import shutil
import sqlite3
import struct
import tempfile
from collections import Counter
from collections.abc import Callable
from contextlib import closing, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import soundfile
import torch
from safetensors.torch import load_file, save_file

from closesesame.attacks import ATTACKS
from closesesame.attacks.common.surrogate import SurrogateAttack
from closesesame.attacks.files import load_trigger
from closesesame.bench import stages as planning
from closesesame.bench.foresight import foresee
from closesesame.bench.grid import open_store, read_grid
from closesesame.bench.identity import Code
from closesesame.bench.queue.artifacts import ArtifactStore
from closesesame.bench.queue.store import FILE, Outcome, Store
from closesesame.bench.queue.worker import Scope, perform
from closesesame.bench.recipe import Recipe, read_recipe
from closesesame.bench.results import check, result_of, write_result
from closesesame.core.described import Setting, settings_of
from closesesame.core.disk import place as placed
from closesesame.core.errors import ClosesesameError
from closesesame.core.method import Method
from closesesame.data import Dataset, Splits, read_splits
from closesesame.data.export import export
from closesesame.evaluation import Exam
from closesesame.models import ARCHITECTURES, Classifier, load_model, save_model
from closesesame.models.matching import data_for
from closesesame.removal import REMOVALS
from closesesame.report.from_store import grid_of
from closesesame.training import Training, predict, train

from .hostile import WORDS, Tree, as_json, as_setting, as_toml, damaged, hostile, mutated, near

RATE, SECONDS = 4_000, 0.1
LONGEST_SENTENCE = 1_000
REPR = re.compile(r"<(?:class|function|module|bound method|object)\b|object at 0x|Traceback")
Act = Callable[[], object]
"""What is tried, once its input is on disk."""


def hold(holds: bool, what: str) -> None:
    """Refuses to go on.

    Raises:
        AssertionError: if it does not hold.
    """
    if not holds:
        raise AssertionError(what)


def check_sentence(text: str) -> None:
    """Holds what every sentence to a user keeps: one line, not too long, no Python in it."""
    hold(bool(text.strip()), "the sentence is empty")
    hold(len(text) < LONGEST_SENTENCE, f"the sentence has {len(text):,} characters: {text[:150]}")
    hold(not re.search(r"[\r\n]", text), f"the sentence has several lines: {text[:150]!r}")
    hold(not REPR.search(text), f"the sentence shows an object: {text[:200]}")


# --- what is whole --------------------------------------------------------------------------------------

RECIPE: Tree = {
    "name": "small", "about": "", "seeds": [0], "rates": [0.0, 0.25], "clean_fractions": [0.5],
    "training": {"epochs": 1},
    "data": [{"name": "tones", "sample_rate": RATE, "duration_s": SECONDS}],
    "model": [{"name": "resnet", "settings": {"widths": [2]}}],
    "attack": [{"name": "badnets"}, {"name": "blended", "rates": [0.25]}],
    "removal": [{"name": "ft", "settings": {"steps": 2, "batch_size": 4}}, {"name": "clp"}],
    "protocol": {"clean_from": "train", "budgets": ["published"]},
}  # fmt: skip
SOUND = ("WAV", "FLAC", "AIFF", "AU", "CAF", "W64", "OGG", "MP3")


def tones(words: tuple[str, ...], speakers: int, takes: int, seconds: float, rate: int) -> Dataset:
    """Clips whose pitch is their word."""
    rng, time = np.random.default_rng(0), np.arange(int(rate * seconds)) / rate
    clips, labels, names = [], [], []
    for number in range(len(words) * speakers * takes):
        word, speaker = number % len(words), number // len(words) % speakers
        pitch = rate * (0.04 + 0.09 * word) * (1 + 0.02 * speaker / speakers)
        clips.append(0.3 * np.sin(6.2832 * pitch * time) + 0.02 * rng.standard_normal(len(time)))
        labels.append(word)
        names.append(f"s{speaker}")
    return Dataset.of(
        torch.tensor(np.array(clips), dtype=torch.float32),
        torch.tensor(labels),
        classes=words,
        sample_rate=rate,
        speakers=names,
    )


def write_folder(data: Dataset, folder: Path, suffix: str = "wav", subtype: str | None = "PCM_16") -> None:
    """Recordings as Speech Commands names them, with its lists: the second half is for tests."""
    taken: Counter[tuple[str, str]] = Counter()
    lists: dict[str, list[str]] = {"testing_list.txt": [], "validation_list.txt": []}
    for row in range(len(data)):
        word, speaker = data.classes[int(data.labels[row])], (data.speakers or ("",))[row]
        name = f"{word}/{speaker}_nohash_{taken[word, speaker]}.{suffix}"
        taken[word, speaker] += 1
        (folder / word).mkdir(parents=True, exist_ok=True)
        soundfile.write(
            folder / name, data.inputs[row : row + 1][0].numpy(), data.sample_rate, subtype=subtype
        )
        if row >= len(data) // 2:
            lists["validation_list.txt" if row % 5 == 0 else "testing_list.txt"].append(name)
    for name, entries in lists.items():
        (folder / name).write_text("".join(f"{entry}\n" for entry in entries), encoding="utf-8")


@dataclass
class World:
    """Whole files, of which cases damage copies."""

    folder: Path
    data: Path
    splits: Splits
    models: list[Path]
    triggers: list[Path]
    store: Path
    result: Path
    recordings: list[tuple[str, bytes]] = field(default_factory=list)
    dataset: Dataset | None = None
    wanted: dict[str, Any] = field(default_factory=dict)
    code: Code = field(default_factory=Code)
    """Read once for all cases."""

    @classmethod
    def make(cls, folder: Path) -> "World":
        """Makes all of it; a few seconds."""
        data = folder / "data" / "tones"
        write_folder(tones(("low", "mid", "top"), 4, 3, SECONDS, RATE), data)
        splits = read_splits(data, sample_rate=RATE, duration_s=SECONDS).splits
        models, triggers = [], []
        for name, settings in (("resnet", {"widths": [2]}), ("lstm", {}), ("small_cnn", {}), ("kwt", {})):
            with suppress(ClosesesameError):
                made = ARCHITECTURES.make(name, settings).build(
                    splits.train.classes, splits.train.input_shape, RATE, seed=0
                )
                models.append(save_model(made.eval(), folder / "models" / name))
        for name in ATTACKS:
            if not issubclass(ATTACKS[name], SurrogateAttack):
                with suppress(ClosesesameError):
                    ATTACKS.make(name).trigger(splits.train, 0).save(folder / "triggers" / name)
                    triggers.append(folder / "triggers" / name)
        world = cls(folder, data, splits, models, triggers, folder / "store", folder / "result.json")
        world._fill_store()
        world._record()
        world._make_exam()
        return world

    def _fill_store(self) -> None:
        recipe_file = self.folder / "recipe.toml"
        recipe_file.write_text(as_toml(RECIPE), encoding="utf-8")
        recipe = read_recipe(recipe_file)
        with patch.object(planning, "Code", lambda: self.code):
            jobs = planning.plan(recipe, self.data.parent)
        machine = json.dumps(jobs[0].payload["machine"])
        with closing(Store(self.store)) as store:
            store.add(jobs)
            store.describe(
                recipe=recipe.model_dump_json(),
                cells=json.dumps([job.id for job in jobs if job.task == planning.JUDGE]),
                machine=machine,
                code=json.dumps(planning.modules_of(jobs)),
            )
            while (job := store.claim("one")) is not None:
                store.finish(job.id, "one", perform(job, ArtifactStore(self.store), Scope().load()))
            store._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")  # noqa: SLF001
        write_result(result_of(self.store), self.result)

    def _record(self) -> None:
        rng = np.random.default_rng(1)
        for kind in SOUND:
            for rate, channels, seconds in ((RATE, 1, SECONDS), (8_000, 2, 0.05), (16_000, 1, 0.2)):
                sound = 0.2 * rng.standard_normal((int(rate * seconds), channels))
                with tempfile.NamedTemporaryFile(suffix=f".{kind.lower()}") as file, suppress(RuntimeError):
                    soundfile.write(file.name, sound * rng.choice((0, 1, 1, 9)), rate, format=kind)
                    self.recordings.append((kind.lower(), Path(file.name).read_bytes()))
        for subtype in ("PCM_U8", "PCM_24", "FLOAT", "DOUBLE", "ULAW", "IMA_ADPCM"):
            with tempfile.NamedTemporaryFile(suffix=".wav") as file:
                soundfile.write(file.name, 0.2 * rng.standard_normal(400), RATE, subtype=subtype)
                self.recordings.append(("wav", Path(file.name).read_bytes()))

    def _make_exam(self) -> None:
        """A victim that learned its backdoor, its trigger, a reference, and the recordings of both."""
        place = self.folder / "exam"
        self.dataset = tones(("down", "go", "left", "stop"), 6, 6, 0.25, 8_000)
        write_folder(self.dataset, place / "data")
        splits = read_splits(place / "data", sample_rate=8_000, duration_s=0.25).splits
        attack = ATTACKS.make("badnets", {"target": "left", "rate": 0.15})
        poisoned = attack.poison(splits.train, 0)
        training = Training(epochs=20, batch_size=16, precision="fp32", augmentation="none")
        network = ARCHITECTURES.make("resnet", {"widths": [8, 16]})
        save_model(train(network, poisoned.dataset, training, seed=0), place / "victim")
        save_model(train(network, splits.train, training, seed=1), place / "reference")
        poisoned.trigger.save(place / "trigger")
        self.wanted = self.scores()

    def scores(self, folder: Path | None = None, parts: Path | None = None) -> dict[str, Any]:
        """The figures of the victim, read from disk as `sesame evaluate` does."""
        place = parts or self.folder / "exam"
        victim, reference = load_model(place / "victim"), load_model(place / "reference")
        rate, duration_s = victim.card.sample_rate or 0, victim.card.duration_s
        read = read_splits(
            folder or self.folder / "exam" / "data", sample_rate=rate, duration_s=duration_s
        ).splits
        exam = Exam(data_for(victim.card, read.test), load_trigger(place / "trigger"), reference)
        return exam.score(victim).as_json()


# --- cases ----------------------------------------------------------------------------------------------

CLASSES = ("yes", "no", "turn on", "é", "日本語", "-x", "a,b", '"q"', "_silence_", "%41", "x" * 200)
ODD_CLASSES = (
    " lead",
    "train",
    "test",
    "val",
    "_background_noise_",
    "tab\tname",
    "line\nname",
    ".hidden",
    "__MACOSX",
)
SPEAKERS = ("s1", "s2", "bob smith", "ü", "a_1", "s1_nohash", "0", "-", "x" * 150)
JUNK = ("._a.wav", ".DS_Store", "notes.txt", "a.m4a", "a.wav.part", "b.wav", "trigger.json", "c.FLAC")


def case_data(rng: random.Random, place: Path, world: World) -> Act:
    """A data folder of any layout."""
    folder, written = place / "set", set[str]()
    layout = rng.choice(("classes", "classes", "speakers", "parts", "inner parts", "mixed"))
    words = [
        rng.choice(ODD_CLASSES) if rng.random() < 0.05 else word
        for word in rng.sample(CLASSES, rng.choice((2, 2, 3, 4)))
    ]
    for word in words[: rng.choice((0, 1) + (4,) * 18)]:
        for number in range(rng.choice((1, 3, 4, 8, 8))):
            speaker = rng.choice(SPEAKERS)
            part = rng.choice(("train", "train", "test", "validation", "Dev"))
            middle = {
                "speakers": f"{word}/{speaker}",
                "parts": f"{part}/{word}",
                "inner parts": f"{word}/{part}",
            }
            form = rng.choice((f"{speaker}_nohash_{number}", f"{speaker}_{number}", f"{number}"))
            suffix, content = rng.choice(world.recordings)
            name = (
                f"{middle.get(layout, word if rng.random() < 0.9 else f'{word}/{speaker}')}/{form}.{suffix}"
            )
            content = damaged(content, rng) if rng.random() < 0.01 else content
            written |= {name} if _write(folder / name, content) else set()
    folder.mkdir(exist_ok=True)
    for _ in range(rng.choice((0, 0, 1, 2))):
        inside = rng.choice([folder, *(path for path in folder.rglob("*") if path.is_dir())])
        _write(inside / rng.choice(JUNK), rng.choice((b"", b"text", rng.choice(world.recordings)[1])))
    if rng.random() < 0.05:
        with suppress(OSError):
            (folder / "loop").symlink_to(rng.choice((folder, folder / "nowhere", Path("loop"))))
    names = sorted(written)
    for listed in ("testing_list.txt", "validation_list.txt"):
        if rng.random() < 0.4:
            _write(folder / listed, _list_of(names, rng))
    if rng.random() < 0.15:
        _write(folder / "manifest.csv", _table_of(names, rng))
    how = _how(rng)
    return partial(_read_and_check, folder, how, written, place / "out" if rng.random() < 0.3 else None)


def _write(path: Path, content: bytes) -> bool:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    except (OSError, ValueError):
        return False
    return True


def _list_of(names: list[str], rng: random.Random) -> bytes:
    lines = rng.sample(names, rng.randint(0, len(names)))
    if rng.random() < 0.4:
        change: Callable[[str], str] = rng.choice(
            (
                lambda line: f"./{line}",
                lambda line: line.replace("/", "\\"),
                lambda line: f"{line} ",
                str.upper,
                lambda line: f"nowhere/{line}",
                lambda line: line[:-1],
            )
        )
        lines = [change(line) if rng.random() < 0.8 else line for line in lines]
    end, encoding = (
        rng.choice(("\n", "\n", "\r\n")),
        rng.choice(("utf-8",) * 6 + ("utf-16", "utf-8-sig", "latin-1")),
    )
    content = "".join(f"{line}{end}" for line in lines).encode(encoding, "replace")
    return damaged(content, rng) if rng.random() < 0.15 else content


def _table_of(names: list[str], rng: random.Random) -> bytes:
    sign = rng.choice((",", ",", ";", "\t"))
    columns = rng.sample(("path", "label", "speaker", "part", "split", "file", "other"), rng.randint(1, 6))
    rows = [columns]
    for name in names:
        values = {"path": name, "file": name, "label": name.split("/")[0], "speaker": rng.choice(SPEAKERS)}
        values |= {"part": rng.choice(("train", "test", "validation")), "split": "train", "other": "x"}
        rows.append([values[column] if rng.random() < 0.98 else rng.choice(WORDS) for column in columns])
    text = "".join(sign.join(f'"{cell}"' if sign in cell else cell for cell in row) + "\n" for row in rows)
    content = text.encode(rng.choice(("utf-8", "utf-8", "utf-16", "latin-1")), "replace")
    return damaged(content, rng) if rng.random() < 0.15 else content


def _how(rng: random.Random) -> dict[str, Any]:
    how: dict[str, Any] = {"sample_rate": RATE, "duration_s": SECONDS, "skip_bad": rng.random() < 0.5}
    if rng.random() < 0.1:
        how["sample_rate"] = rng.choice((1_000, 0, -1, 999, 192_000, 10**9))
    if rng.random() < 0.1:
        how["duration_s"] = rng.choice((0.05, 0.0, -1.0, 1.0, 61.0, float("nan"), float("inf")))
    rules = ("auto",) * 5 + ("manifest", "folders", "lists", "speakers", "takes", "random")
    return how | {
        "split": rng.choice(rules),
        "task": rng.choice(("word",) * 4 + ("speaker",)),
        "seed": rng.choice((0, 1)),
    }


def _read_and_check(folder: Path, how: dict[str, Any], written: set[str], out: Path | None) -> None:
    read = read_splits(folder, **how)
    report, splits = read.report, read.splits
    json.dumps(report.as_json(), allow_nan=False)
    for sentence in report.surprises():
        check_sentence(sentence)
    ids = [name for part in splits for name in part.ids]
    hold(len(ids) == len(set(ids)), "a clip stands in two parts")
    for part in splits:
        values = part.inputs[:]
        hold(
            bool(values.isfinite().all()) and float(values.abs().max() if len(part) else 0) <= 1,
            "full scale is passed",
        )
    aside = {fact.rpartition(" is ")[0] for fact in report.facts if fact.endswith("no class")}
    if not (folder / "manifest.csv").exists():
        known = {*ids, *(gone.id for gone in report.skipped)}
        lost = {name for name in written if not _is_aside(name, aside)} - known
        hold(not lost, f"{sorted(lost)[:2]} is neither read nor skipped")
        if how["task"] == "word":
            for part in splits:
                labels = [part.classes[label] for label in part.labels.tolist()]
                own = [set(name.split("/")) for name in part.ids]
                hold(
                    all(label in names for label, names in zip(labels, own, strict=True)),
                    "a label is no folder",
                )
    if report.split == "lists":
        _check_lists(folder, splits)
    if out is not None:
        placed(out, partial(export, splits), kind="folder")
        _check_same_parts(
            splits, read_splits(out, sample_rate=how["sample_rate"], duration_s=how["duration_s"]).splits
        )


def _is_aside(name: str, aside: set[str]) -> bool:
    """Whether a recording lies where none is looked for."""
    parts = name.split("/")
    return parts[0] in aside or any(part.startswith(".") for part in parts)


def _check_lists(folder: Path, splits: Splits) -> None:
    for part, listed in ((splits.test, "testing_list.txt"), (splits.validation, "validation_list.txt")):
        if (folder / listed).is_file():
            with suppress(UnicodeDecodeError):
                lines = set((folder / listed).read_bytes().decode("utf-8-sig").splitlines())
                leaked = lines & set(splits.train.ids)
                hold(not leaked, f"{sorted(leaked)[:2]} of {listed} are trained on")
                del part


def _check_same_parts(one: Splits, other: Splits) -> None:
    for before, after in zip(one, other, strict=True):
        hold(len(before) == len(after), "an exported part has another length")
        mine, theirs = (
            Counter(
                (data.classes[int(label)], row.numpy().tobytes())
                for label, row in zip(data.labels, data.inputs[:], strict=True)
            )
            for data in (before, after)
        )
        hold(mine == theirs, "an exported part has other clips or labels")


def case_recipe(rng: random.Random, place: Path, world: World) -> Act:
    """A recipe, read, planned and held against its data."""
    text = as_toml(_for_toml(mutated(RECIPE, rng)))
    if rng.random() < 0.2:
        lines = text.splitlines()
        at = rng.randrange(len(lines))
        lines[at : at + 1] = rng.choice(([], [lines[at]] * 2, [lines[at][:-1]], [rng.choice(WORDS)]))
        text = "\n".join(lines)
    content = text.encode("utf-8", "replace")
    file = place / "recipe.toml"
    file.write_bytes(damaged(content, rng) if rng.random() < 0.1 else content)

    def act() -> None:
        recipe = read_recipe(file)
        planning.plan(recipe, world.data.parent)
        _foresee(recipe, world)

    return act


def _for_toml(tree: Tree) -> Tree:
    return tree if isinstance(tree, dict) else {"name": tree}


def _foresee(recipe: Recipe, world: World) -> None:
    for entry in recipe.data:
        if entry.source == "synthetic":
            continue
        splits = read_splits(
            entry.place(world.data.parent),
            sample_rate=entry.sample_rate,
            duration_s=entry.duration_s,
            task=entry.task,
            split=entry.split,
        ).splits
        for sentence in foresee(recipe, entry, splits, world.data.parent):
            check_sentence(sentence)


def case_trigger(rng: random.Random, place: Path, world: World) -> Act:
    """A trigger folder, read and played to a model."""
    folder = place / "trigger"
    shutil.copytree(rng.choice(world.triggers), folder)
    _damage_pair(folder / "trigger.json", folder / "trigger.safetensors", rng)

    def act() -> None:
        model = load_model(world.models[0])
        Exam(world.splits.test, load_trigger(folder)).score(model)

    return act


def case_model(rng: random.Random, place: Path, world: World) -> Act:
    """A model folder, read and asked."""
    folder = place / "model"
    shutil.copytree(rng.choice(world.models), folder)
    _damage_pair(folder / "config.json", folder / "model.safetensors", rng)

    def act() -> None:
        model = load_model(folder)
        answers = predict(model, world.splits.test)
        hold(bool(answers.isfinite().all()), "an answer is no number")
        save_model(model, place / "out")
        hold(
            bool((predict(load_model(place / "out"), world.splits.test) == answers).all()),
            "saved, it answers otherwise",
        )

    return act


def _damage_pair(about: Path, tensors: Path, rng: random.Random) -> None:
    if rng.random() < 0.6:
        about.write_bytes(as_json(mutated(json.loads(about.read_text(encoding="utf-8")), rng), rng))
    else:
        _damage_tensors(tensors, rng)
    if rng.random() < 0.01:
        rng.choice((about, tensors)).unlink()


def _damage_tensors(file: Path, rng: random.Random) -> None:
    kind, content = rng.random(), file.read_bytes()
    if kind < 0.35:
        file.write_bytes(damaged(content, rng))
    elif kind < 0.55:
        size = int(struct.unpack("<Q", content[:8])[0])
        header = json.dumps(mutated(json.loads(content[8 : 8 + size]), rng)).encode()
        file.write_bytes(struct.pack("<Q", len(header)) + header + content[8 + size :])
    else:
        state = load_file(file)
        for name in rng.sample(sorted(state), min(len(state), rng.choice((1, 1, 2)))):
            _damage_tensor(state, name, rng)
        save_file(state, file)


def _damage_tensor(state: dict[str, torch.Tensor], name: str, rng: random.Random) -> None:
    tensor, kind = state[name], rng.randrange(8)
    if kind == 0:
        del state[name]
    elif kind == 1:
        state[rng.choice((f"module.{name}", f"_orig_mod.{name}", name.upper(), ""))] = state.pop(name).clone()
    elif kind == 2:
        types = (
            torch.float16,
            torch.bfloat16,
            torch.float64,
            torch.int32,
            torch.bool,
            torch.uint8,
            torch.complex64,
        )
        state[name] = tensor.to(rng.choice(types))
    elif kind == 3:
        state[name] = torch.zeros(rng.choice(((), (0,), (1,), (3, 3), (1, 2, 3, 4, 5), (0, 7), (100_000,))))
    elif kind == 4:
        state[f"{name}.more"] = tensor.clone()
    elif kind == 5:
        state[name] = (
            tensor.flatten().contiguous()
            if rng.random() < 0.5
            else tensor.mT.contiguous()
            if tensor.ndim > 1
            else tensor[None]
        )
    elif tensor.numel():
        flat = tensor.flatten().clone()
        if flat.is_floating_point():
            flat[rng.randrange(len(flat))] = rng.choice((float("nan"), float("inf"), 3e38, -1e30, 0.0))
        state[name] = flat.reshape(tensor.shape) * (rng.choice((1, 1e20)) if flat.is_floating_point() else 1)


METHODS: tuple[tuple[Any, str], ...] = (
    *((ATTACKS, name) for name in ATTACKS),
    *((REMOVALS, name) for name in REMOVALS),
    *((ARCHITECTURES, name) for name in ARCHITECTURES),
    (None, "training"),
)


ROWS = {
    name: [
        row for row in settings_of(Training if registry is None else registry[name]) if "." not in row.name
    ]
    for registry, name in METHODS
}


def possible(row: Setting, rng: random.Random) -> Tree:
    """A value of a setting in its range, at its ends, or just outside."""
    if row.choices:
        return rng.choice(row.choices)
    if row.minimum is None or row.maximum is None:
        return near(row.value, rng)
    low, high = float(row.minimum), float(row.maximum)
    value = rng.choice(
        (low, high, rng.uniform(low, high), low + (high - low) * 10 ** rng.uniform(-9, 0), low - 1e-9)
    )
    return round(value) if isinstance(row.value, int) and rng.random() < 0.9 else value


def case_settings(rng: random.Random, place: Path, world: World) -> Act:
    """Settings of a method as text; if they are taken, the method is tried where that is quick."""
    del place
    registry, name = rng.choice(METHODS)
    cls: type[Method] = Training if registry is None else registry[name]
    given: dict[str, object] = {}
    for _ in range(rng.choice((1, 1, 2, 3))):
        row = rng.choice(ROWS[name])
        value = as_setting(hostile(rng)) if rng.random() < 0.3 else as_setting(possible(row, rng))
        given[row.name if rng.random() < 0.95 else rng.choice((*WORDS, name, "Epochs"))] = value

    def act() -> None:
        made: Any = cls.parse(given) if registry is None else registry.make(name, given)
        hold(
            cls(**json.loads(json.dumps(made.settings(), allow_nan=False))) == made,
            "settings are not what they say",
        )
        if registry is ARCHITECTURES:
            with torch.device("meta"):
                made.build(world.splits.train.classes, world.splits.train.input_shape, RATE, seed=0)
        elif registry is ATTACKS and not isinstance(made, SurrogateAttack):
            made.poison(world.splits.train, 0).trigger.stamp(world.splits.test.inputs[:])

    return act


def case_store(rng: random.Random, place: Path, world: World) -> Act:
    """The file of a grid: damaged bytes, or values that nobody of us writes."""
    folder = place / "store"
    folder.mkdir()
    shutil.copy(world.store / FILE, folder)
    if rng.random() < 0.5:
        (folder / FILE).write_bytes(_damaged_pages((folder / FILE).read_bytes(), rng))
    else:
        _damage_rows(folder / FILE, rng)
    return partial(rng.choice((_look, _look, _work)), folder)


def _damaged_pages(content: bytes, rng: random.Random) -> bytes:
    if rng.random() < 0.3:
        return damaged(content, rng)
    found = bytearray(content)
    for _ in range(rng.choice((1, 5, 30, 300))):
        page = 4096 * rng.randrange(len(found) // 4096)
        found[page + rng.randrange(rng.choice((16, 200, 4096)))] = rng.randrange(256)
    return bytes(found)


def _damage_rows(file: Path, rng: random.Random) -> None:
    table, columns = rng.choice(
        (
            (
                "job",
                (
                    "task",
                    "payload",
                    "label",
                    "result",
                    "error",
                    "seconds",
                    "tries",
                    "lease_until",
                    "id",
                    "waits_for",
                ),
            ),
            ("about", ("value", "value", "name")),
            ("attempt", ("started", "owner", "outcome", "job")),
            ("need", ("needs", "job")),
        )
    )
    with closing(sqlite3.connect(file)) as base, suppress(sqlite3.Error, OverflowError, UnicodeError), base:
        column = rng.choice(columns)
        rows = [row[0] for row in base.execute(f"SELECT {column} FROM {table}")]  # noqa: S608
        old = rng.choice(rows)
        new = hostile(rng)
        if isinstance(old, str) and old[:1] in {"{", "["} and rng.random() < 0.8:
            new = json.dumps(mutated(json.loads(old), rng))
        new = new if isinstance(new, int | float | str | None) else json.dumps(new)
        base.execute(f"UPDATE {table} SET {column} = ? WHERE {column} IS ?", (new, old))  # noqa: S608
        if table == "job" and rng.random() < 0.4:
            base.execute("UPDATE job SET state = ?", (rng.choice(("pending", "failed", "leased")),))


def _look(folder: Path) -> None:
    """What `bench status`, `show`, `export` and `report` do."""
    with closing(open_store(folder)) as store:
        store.counts(), store.leased(), store.seconds_by_task(), store.completions()
        [(row.job.label, row.error) for row in store.rows()]
    _, rows = read_grid(folder)
    json.dumps(rows, default=str)
    write_result(result_of(folder), folder.parent / "out")
    grid_of(folder)


def _work(folder: Path) -> None:
    """What drivers and workers do."""
    with closing(Store(folder)) as store:
        store.retry_failed()
        for _ in range(3):
            job = store.claim("me")
            if job is None:
                break
            store.renew("me")
            store.finish(job.id, "me", Outcome(result={}))
        store.release("me", blame="it was killed")
        store.pause_all_but([])
        store.counts()


def case_result(rng: random.Random, place: Path, world: World) -> Act:
    """A result file for `bench check`."""
    file = place / "result.json"
    content = json.loads(world.result.read_text(encoding="utf-8"))
    if rng.random() < 0.6:
        part = rng.choice(("recipe_settings", "recipe_settings", "machine", "code"))
        content[part] = mutated(content[part], rng)
    else:
        content = mutated(content, rng)
    file.write_bytes(as_json(content, rng))
    return partial(check, file, world.data.parent)


# --- comparisons ----------------------------------------------------------------------------------------


def case_permuted(rng: random.Random, place: Path, world: World) -> Act:
    """Classes in another order in model, reference, trigger and test set."""
    for name in ("victim", "reference"):
        model = load_model(world.folder / "exam" / name)
        save_model(_permuted(model, rng), place / name)
    shutil.copytree(world.folder / "exam" / "trigger", place / "trigger")
    about = json.loads((place / "trigger" / "trigger.json").read_text(encoding="utf-8"))
    about["classes"] = rng.sample(about["classes"], len(about["classes"]))
    (place / "trigger" / "trigger.json").write_text(json.dumps(about), encoding="utf-8")
    return partial(_same, world, parts=place)


def _permuted(model: Classifier, rng: random.Random) -> Classifier:
    classes = model.card.classes
    order = rng.sample(range(len(classes)), len(classes))
    state = model.state_dict()
    for name in ("body.head.weight", "body.head.bias"):
        state[name] = state[name][order]
    model.load_state_dict(state)
    model.card = replace(model.card, classes=tuple(classes[at] for at in order))
    return model


def case_stored_otherwise(rng: random.Random, place: Path, world: World) -> Act:
    """Recordings in other formats, in a folder of another name, copied, moved, or behind a link."""
    data, folder = world.dataset, place / rng.choice(("set", "A set of ü", "x" * 100, "-set", "test"))
    assert data is not None
    suffix, subtype = rng.choice(
        (("wav", "PCM_16"), ("flac", "PCM_16"), ("wav", "PCM_24"), ("aiff", "PCM_16"), ("flac", "PCM_24"))
    )
    write_folder(_in_16_bits(data), folder, suffix, subtype)
    if rng.random() < 0.5:
        moved = place / "moved" / "further"
        moved.parent.mkdir()
        folder = folder.rename(moved) if rng.random() < 0.5 else shutil.copytree(folder, moved)
    if rng.random() < 0.3:
        (place / "link").symlink_to(folder)
        folder = place / "link"
    return partial(_same, world, folder)


def _in_16_bits(data: Dataset) -> Dataset:
    rows = (data.inputs[:] * 32_768).round() / 32_768
    return data.with_inputs(data.inputs.replace(torch.arange(len(data)), rows))


def case_renamed(rng: random.Random, place: Path, world: World) -> Act:
    """Other names of files and speakers, the same parts."""
    folder, names = place / "set", dict[str, str]()
    shutil.copytree(world.folder / "exam" / "data", folder)
    speakers = {f"s{number}": f"{rng.choice(('p', 'ü ', 'a_b'))}{number}" for number in range(6)}
    for number, path in enumerate(rng.sample(sorted(folder.rglob("*.wav")), 144)):
        speaker = speakers[path.name.partition("_")[0]]
        new = path.with_name(f"{speaker}_nohash_{number}.wav.part")
        names[path.relative_to(folder).as_posix()] = new.relative_to(folder).as_posix().removesuffix(".part")
        path.rename(new)
    for path in folder.rglob("*.part"):
        path.rename(path.with_suffix(""))
    for listed in folder.glob("*_list.txt"):
        lines = [names[line] for line in listed.read_text(encoding="utf-8").splitlines()]
        listed.write_text("\n".join(rng.sample(lines, len(lines))), encoding="utf-8")
    return partial(_same, world, folder)


def case_twice_the_rate(rng: random.Random, place: Path, world: World) -> Act:
    """Recordings at twice the rate, the same sound: figures may differ by one clip, since filters differ."""
    data = world.dataset
    assert data is not None
    assert data.sample_rate is not None
    clips = np.fft.irfft(np.pad(np.fft.rfft(data.inputs[:].numpy()), ((0, 0), (0, data.input_shape[0] // 2))))
    twice = Dataset.of(
        torch.tensor(2 * clips, dtype=torch.float32),
        data.labels,
        classes=data.classes,
        sample_rate=2 * data.sample_rate,
        speakers=data.speakers,
    )
    write_folder(twice, place / "set", "wav", rng.choice(("FLOAT", "PCM_24")))
    return partial(_same, world, place / "set", tolerance=1)


def _same(world: World, folder: Path | None = None, parts: Path | None = None, tolerance: int = 0) -> None:
    for name, rate in world.scores(folder, parts).items():
        wanted = world.wanted[name]
        same = rate["of"] == wanted["of"] and abs(rate["hits"] - wanted["hits"]) <= tolerance
        hold(same, f"{name} is {rate['hits']} of {rate['of']} instead of {wanted['hits']} of {wanted['of']}")


KINDS: dict[str, tuple[Callable[[random.Random, Path, World], Act], float]] = {
    "data folders": (case_data, 24),
    "recipes": (case_recipe, 12),
    "trigger folders": (case_trigger, 14),
    "model folders": (case_model, 14),
    "settings": (case_settings, 29),
    "stores": (case_store, 5),
    "result files": (case_result, 3),
    "same figures: classes permuted": (case_permuted, 0.25),
    "same figures: other format or place": (case_stored_otherwise, 0.25),
    "same figures: files renamed": (case_renamed, 0.25),
    "same figures: twice the sample rate": (case_twice_the_rate, 0.25),
}
"""What makes a case, and its share."""
