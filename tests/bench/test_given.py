"""One grid of tiny methods: what each is given, how it is judged, and what code takes part."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple

import numpy as np
import pytest
import soundfile
import torch

from closesesame.bench import stages, tasks
from closesesame.bench.cells import Cell, JudgeCell
from closesesame.bench.identity import Code, Machine
from closesesame.bench.protocol import Protocol
from closesesame.bench.queue.artifacts import ArtifactStore
from closesesame.bench.queue.store import Outcome, Store
from closesesame.bench.recipe import Recipe
from closesesame.bench.stages import TRAIN, plan
from closesesame.bench.table import rows_of
from closesesame.core import machine
from closesesame.data import Dataset, Splits
from closesesame.models import ResNet, load_model
from closesesame.training import Training, train

from . import recording
from .recording import Shift, weight

SEED, SHARE, SAMPLE = 7, 0.2, 12
MODULE = recording.__name__
SHIFT: dict[str, Any] = {"target": 1, "cover_ratio": 0.5}
RATE, EPOCHS = 0.25, {"epochs": 1, "batch_size": 16}


def method(name: str, **more: Any) -> dict[str, Any]:
    return {"name": f"{MODULE}:{name}", "label": name} | more


RECIPE = Recipe(
    name="given",
    seeds=[SEED],
    rates=[RATE],
    clean_fractions=[SHARE],
    training=EPOCHS,
    protocol=Protocol(clean_from="train", untrusted_examples=SAMPLE),
    data=[{"name": "words", "source": "set", "sample_rate": 8000, "duration_s": 0.5}],
    model=[{"name": "resnet", "settings": {"widths": [4]}}],
    attack=[
        method("Shift", settings=SHIFT),
        method("Shift", label="next", settings=SHIFT | {"label_mode": "all_to_all"}),
    ],
    removal=[method("Remove"), method("RemoveUntrusted")],
    robust_training=[
        method("TrainNothing"),
        method("TrainNothing", label="own", settings={"training": {"epochs": 3}}),
    ],
    detection=[method("Level")],
    inspection=[method("Accuse"), method("Acquit")],
    purification=[method("Pass")],
)


class Ran(NamedTuple):
    """A grid that was done in this process.

    Attributes:
        splits: its data.
        rows: its table.
        seen: what its methods were given, by label of the job.
        models: `weight` of the suspects, by label.
        stray: functions that ran in a job and are no part of its identity.
    """

    splits: Splits
    rows: dict[tuple[str, float, str], dict[str, Any]]
    seen: dict[str, dict[str, Any]]
    models: dict[str, float]
    stray: set[tuple[str, str]]


@contextmanager
def watched(called: set[tuple[str, str]]) -> Iterator[None]:
    """Within the block all functions of closesesame that are called are written down."""

    def look(frame: FrameType, event: str, _: object) -> None:
        if event == "call" and frame.f_globals.get("__name__", "").startswith("closesesame."):
            called.add((frame.f_globals["__name__"], frame.f_code.co_qualname))

    sys.setprofile(look)
    try:
        yield
    finally:
        sys.setprofile(None)


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Ran:
    place = tmp_path_factory.mktemp("given")
    write_words(place / "set")
    roots: dict[str, tuple[str, ...]] = {}
    add = stages._Planner._add

    def note(self: Any, task: str, cell: Cell, needs: Any, code: tuple[str, ...], label: str) -> str:
        job = add(self, task, cell, needs, code, label)
        roots[job] = code
        return job

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(stages._Planner, "_add", note)
        jobs = plan(RECIPE, place, machine=Machine.here("fp32"))
    store, artifacts, code = Store(place / "store"), ArtifactStore(place / "store"), Code()
    # The id of a job hashes the ids of those that it needs.
    reached: dict[str, set[str]] = {}
    for job in jobs:
        reached[job.id] = set(code.of(*roots[job.id])).union(*(reached[need] for need in job.needs))
    store.add(jobs)
    seen, stray, recorded = dict[str, dict[str, Any]](), set[tuple[str, str]](), recording.SEEN
    kinds: set[tuple[str, str, bool]] = set()
    with pytest.MonkeyPatch.context() as patched:
        # A machine that computes in bf16 where it is left to it.
        patched.setattr(machine, "has_bf16", lambda device: True)
        while (claimed := store.claim("me")) is not None:
            recorded.clear()
            called: set[tuple[str, str]] = set()
            about = claimed.payload
            kind = (claimed.task, str(about.get("method")), about.get("poisoned") is None)
            # Watching makes a job slow, and jobs of one kind run the same code.
            with nullcontext() if kind in kinds else watched(called):
                result = tasks.TABLE[claimed.task.partition(":")[2]](claimed, artifacts)
            kinds.add(kind)
            store.finish(claimed.id, "me", Outcome(result=result))
            stray |= {(module, name) for module, name in called if module not in reached[claimed.id]}
            for given in recorded:
                seen[claimed.label] = given
    rows = {(row["attack"], row["poisoning_rate"], row["method"]): row for row in rows_of(store)}
    suspects = {job.label: load_model(artifacts.artifact(job.id)) for job in jobs if job.task == TRAIN}
    splits = tasks.load_data(stages.cell_of(jobs[0]), artifacts)
    return Ran(splits, rows, seen, {label: weight(model) for label, model in suspects.items()}, stray)


def write_words(folder: Path) -> None:
    rng, time = np.random.default_rng(0), np.arange(4000) / 8000
    for number, word in enumerate(("yes", "no", "up", "down")):
        (folder / word).mkdir(parents=True)
        for take in range(48):
            wav = 0.2 * np.sin(6.2832 * 400 * (number + 1) * time) + 0.01 * rng.standard_normal(len(time))
            soundfile.write(folder / word / f"s{take % 12}_nohash_{take // 12}.wav", wav, 8000)


def of(ran: Ran, start: str) -> dict[str, dict[str, Any]]:
    found = {label: given for label, given in ran.seen.items() if label.partition(": ")[2].startswith(start)}
    assert found
    return found


def test_every_method_is_given_the_seed_of_the_cell(ran: Ran) -> None:
    assert {given["seed"] for given in ran.seen.values()} == {SEED}
    methods = {given["method"] for given in ran.seen.values()}
    assert methods == {"remove", "remove_untrusted", "train", "level", "accuse", "pass"}


def test_every_method_that_needs_clean_clips_is_given_those_that_the_protocol_draws(ran: Ran) -> None:
    drawn = {seed: set(RECIPE.protocol.clean_examples(ran.splits, SHARE, seed).ids) for seed in (0, SEED)}
    assert drawn[0] != drawn[SEED]
    for start in ("Remove 20 %", "TrainNothing", "own", "Level", "Accuse", "Pass"):
        assert all(given["clean"] == drawn[SEED] for given in of(ran, start).values())


def test_every_method_that_needs_a_suspect_is_given_that_of_its_job(ran: Ran) -> None:
    assert len(set(ran.models.values())) == len(ran.models) == 3
    for start in ("Remove", "Level", "Accuse"):
        for label, given in of(ran, start).items():
            assert given["model"] == ran.models[label.partition(", ")[2]]


def test_a_suspect_is_trained_with_the_seed_of_the_cell(ran: Ran) -> None:
    (clean,) = [value for label, value in ran.models.items() if label.startswith("clean model")]
    how = Training(**EPOCHS, precision="fp32")
    again, other = (
        weight(train(ResNet(widths=(4,)), ran.splits.train, how, seed=seed)) for seed in (SEED, 0)
    )
    assert clean == pytest.approx(again, rel=1e-6)
    assert clean != pytest.approx(other, rel=1e-4)


def untrusted_of(ran: Ran, label: str) -> Dataset:
    """What the attack of a job makes of the training part, from its settings and the seed alone."""
    train = ran.splits.train
    if "clean model" in label or "words, seed" in label.partition(", ")[2][:12]:
        return train
    mode: Any = "all_to_all" if "next" in label else "all_to_one"
    return Shift(rate=RATE, label_mode=mode, **SHIFT).poison(train, SEED).dataset


def test_untrusted_data_are_the_training_part_as_the_attack_left_it_cover_clips_among_it(ran: Ran) -> None:
    found = [*of(ran, "TrainNothing").items(), *of(ran, "Level").items()]
    assert len(found) == 2 * 3
    changes = set()
    for label, given in found:
        expected, got = untrusted_of(ran, label), given["untrusted"]
        got = got.take(torch.tensor([got.ids.index(name) for name in expected.ids]))
        assert torch.equal(got.labels, expected.labels)
        assert torch.allclose(got.inputs[:], expected.inputs[:], atol=2 / 2**15)
        changed = (got.inputs[:] - ran.splits.train.inputs[:]).abs().amax(1) > 0.1
        changes.add(int(changed.sum()))
    poisoned = round(RATE * len(ran.splits.train))
    assert changes == {0, poisoned + round(0.5 * poisoned)}


def test_a_sample_of_untrusted_data_is_drawn_with_the_seed_of_the_cell(ran: Ran) -> None:
    for label, given in of(ran, "RemoveUntrusted").items():
        whole = untrusted_of(ran, label)
        first, drawn = (set(whole.sample(SAMPLE / len(whole), seed).ids) for seed in (0, SEED))
        assert given["clean"] == drawn != first


def test_a_robust_training_trains_as_suspects_do_unless_it_says_how(ran: Ran) -> None:
    assert {given["how"] for given in of(ran, "TrainNothing").values()} == {Training(**EPOCHS, device="cpu")}
    assert {given["how"] for given in of(ran, "own").values()} == {Training(epochs=3)}


def test_what_is_left_to_the_machine_is_computed_in_the_precision_of_the_plan(ran: Ran) -> None:
    assert {given["precision"] for given in of(ran, "Remove 20 %").values()} == {"fp32"}
    assert {row["precision_train"] for row in ran.rows.values()} == {"fp32"}


def test_cover_clips_are_not_poisoned(ran: Ran) -> None:
    """The detection puts poisoned clips first and cover clips last."""
    for attack in ("Shift", "next"):
        assert ran.rows[attack, RATE, "Level"]["auroc"] == 1.0
        assert ran.rows[attack, 0.0, "Level"]["auroc"] is None
        assert ran.rows[attack, RATE, "none"]["poisoned_clips"] == round(RATE * len(ran.splits.train))


def test_a_verdict_is_judged_by_whether_there_is_poison_and_by_the_target_if_there_is_one(ran: Ran) -> None:
    def judged(attack: str, rate: float, method: str) -> list[float | None]:
        return [ran.rows[attack, rate, method][key] for key in ("right", "flagged", "target_found")]

    assert judged("Shift", RATE, "Accuse") == [1, 1, 1]
    assert judged("next", RATE, "Accuse") == [1, 1, None]
    assert judged("Shift", RATE, "Acquit") == [0, 0, 0]
    for attack in ("Shift", "next"):
        assert judged(attack, 0.0, "Accuse") == [0, 1, None]
        assert judged(attack, 0.0, "Acquit") == [1, 0, None]


ENGINE = {"closesesame.bench.identity", "closesesame.bench.queue.artifacts", "closesesame.core.progress"}
READING = {"Cell.read", "DataEntry.place", "_printable", "read_json"}
"""What may run without being part of an identity: where files are kept, what reads a cell, and JSON."""


def test_code_that_runs_in_a_job_is_part_of_its_identity(ran: Ran) -> None:
    assert {name for module, name in ran.stray if module not in ENGINE} == READING


def everything(**more: Any) -> dict[str, JudgeCell]:
    """The rows of a plan with two of each kind of entry."""
    given: dict[str, Any] = {
        "name": "two of each",
        "seeds": [0, 1],
        "clean_fractions": [0.05, 0.02],
        "data": [
            {"name": "a", "source": "synthetic"},
            {"name": "b", "source": "synthetic", "duration_s": 0.5},
        ],
        "model": ["resnet", "small_cnn"],
        "attack": ["ultrasonic", "pitch"],
        "removal": ["ft", "clp"],
        "detection": ["training_loss"],
        "purification": ["lowpass"],
    }
    jobs = plan(Recipe(**(given | more)), Path(), machine=Machine("fp32", "some", "2.0"))
    cells = {job.id: stages.cell_of(job) for job in jobs}
    return {job: cell for job, cell in cells.items() if isinstance(cell, JudgeCell)}


def test_a_row_is_compared_with_its_own_suspect_and_with_its_own_method_on_the_clean_model() -> None:
    rows = everything()
    for row in rows.values():
        bare = row if row.bare is None else rows[row.bare]
        assert bare.method is None
        assert bare.judged == row.suspect
        assert (bare.trigger, bare.poisoned) == (row.trigger, row.poisoned)
        assert (row.method is None) == (row.bare is None)
        clean = row if row.on_reference is None else rows[row.on_reference]
        assert (clean.attack.rate, clean.suspect, clean.poisoned) == (0, row.reference, None)
        same: list[Callable[[JudgeCell], object]] = [
            lambda cell: (cell.data, cell.seed, cell.model, cell.labels, cell.family, cell.method),
            lambda cell: (cell.clean_fraction, cell.trigger, cell.reference),
        ]
        assert all(key(clean) == key(row) for key in same)
        assert (row.on_reference is None) == (row.attack.rate == 0)


def test_attacks_share_a_trigger_if_they_differ_in_rate_covers_and_training_strength_alone() -> None:
    same = {"cover_ratio": 0.5, "training_strength": 0.5}
    others: list[dict[str, Any]] = [{"label_mode": "all_to_all"}, {"strength": 0.5}, {"target": 1}]
    attack = [method("Shift", label=str(more), settings=more) for more in ({}, same, *others)]
    rows = everything(attack=attack, model=["resnet"], rates=[0.1, 0.2], removal=[], seeds=[0])
    made = {row.labels["attack"]: row.trigger for row in rows.values() if row.data.entry.name == "a"}
    assert made[str({})] == made[str(same)]
    assert len(set(made.values())) == 1 + len(others)
    assert len({row.trigger for row in rows.values()}) == 2 * len(set(made.values()))
