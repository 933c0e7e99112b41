"""Grids that attack each model again: what is planned for it, what a row has, and what is refused."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from closesesame.attacks import BadNets
from closesesame.bench import adversaries
from closesesame.bench.grid import read_grid, run_grid
from closesesame.bench.identity import Machine
from closesesame.bench.queue.artifacts import ArtifactStore
from closesesame.bench.queue.store import Job
from closesesame.bench.recipe import Recipe
from closesesame.bench.stages import JUDGE, JUDGE_AND_ATTACK, JUDGES, modules_of, plan
from closesesame.bench.table import as_csv
from closesesame.core.errors import DataError
from closesesame.data import Splits
from closesesame.evaluation.attacker import Attacker
from closesesame.evaluation.measures import ADVERSARIES, RETUNE, RETUNE_ACC

Folder = Callable[..., Path]
HERE = Machine("fp32", "some", "2.0")
CODE = (
    "bench.adversaries",
    "evaluation.adversaries",
    "evaluation.attacker",
    "evaluation.reactivation",
    "evaluation.retuning",
    "optimisation.adversary",
)
"""What the attacks run."""
RECIPE = """
name = "adversaries"
adversaries = true
rates = [0.2]
clean_fractions = [0.2]
training = { epochs = 12, batch_size = 16 }
protocol = { clean_from = "train" }
data = [{ name = "words", source = "set", sample_rate = 8000, duration_s = 0.5 }]
model = [{ name = "resnet", settings = { widths = [8, 16] } }]
attack = ["ultrasonic"]
removal = ["clp"]
"""


def planned(machine: Machine = HERE, **more: Any) -> dict[str, Job]:
    """Every job by its label; one of each label."""
    recipe = Recipe(
        name="grid",
        rates=(0.1,),
        data=[{"name": "speech", "source": "synthetic"}],
        attack=["ultrasonic"],
        removal=["clp"],
        robust_training=["plain"],
        detection=["training_loss"],
        purification=["lowpass"],
        **more,
    )
    jobs = plan(recipe, Path(), machine=machine)
    assert len({job.label for job in jobs}) == len(jobs)
    return {job.label: job for job in jobs}


def test_adversaries_run_no_training_and_no_method_again_and_attack_models_alone() -> None:
    off, on = planned(), planned(adversaries=True)
    assert off.keys() == on.keys()
    other = {label for label in off if off[label].id != on[label].id}
    assert {off[label].task for label in other} == {JUDGE}
    assert {job.task for job in off.values()} & JUDGES == {JUDGE}
    attacked = [label for label, job in on.items() if job.task == JUDGE_AND_ATTACK]
    assert {label.partition(": ultrasonic")[0] for label in attacked} == {"none", "clp 5 %", "plain"}
    assert len(attacked) == 3 * 2
    before, after = (modules_of(list(jobs.values())) for jobs in (off, on))
    assert {f"closesesame.{name}" for name in CODE} <= after.keys() - before.keys()


def test_rows_have_what_the_attacks_found_and_the_reference_beside_it(
    folder_of: Folder, tmp_path: Path
) -> None:
    folder_of({"yes": 60, "no": 60, "up": 60, "down": 60})
    recipe = tmp_path / "adversaries.toml"
    recipe.write_text(RECIPE)
    ended = run_grid(recipe, tmp_path / "store", tmp_path, workers=1)
    assert not ended.failed
    _, rows = read_grid(tmp_path / "store")
    found = {(row["method"], row["poisoning_rate"]): row for row in rows}
    reference, victim = found["none", 0.0], found["none", 0.2]
    for name in ("none", "clp"):
        for rate in (0.0, 0.2):
            row = found[name, rate]
            assert all(0 <= row[measure.key] <= 1 for measure in (*ADVERSARIES, RETUNE_ACC))
            for own, beside in ADVERSARIES.items():
                assert row[beside.key] == reference[own.key]
    assert reference[RETUNE[1].key] < victim[RETUNE[1].key]
    head = as_csv(rows).splitlines()[0].split(",")
    assert {"retune_1", "retune_reference_20", "retune_acc", "reactivate_reference"} <= set(head)


def test_the_attacker_has_the_clean_training_part_the_trigger_and_the_seed_of_the_job(
    tones: Splits, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[tuple[Any, ...]] = []
    exam = SimpleNamespace(trigger=BadNets().trigger(tones.train, 0))

    def attack_again(model: Any, on: Any, attacker: Attacker, *, seed: int) -> dict[str, Any]:
        given.append((model, on, attacker.trigger, attacker.clips.ids, seed))
        return {"retune_1": {"value": 0.75, "hits": 3, "of": 4}}

    for name, stub in {
        "judge": lambda *_: {"acc": 1.0},
        "exam_of": lambda *_: exam,
        "load_model": lambda *_: "judged",
        "load_data": lambda *_: tones,
        "attack_again": attack_again,
    }.items():
        monkeypatch.setattr(adversaries, name, stub)
    jobs = planned(Machine.here("fp32"), adversaries=True, seeds=(3,))
    job = next(job for job in jobs.values() if job.task == JUDGE_AND_ATTACK)
    found = adversaries.judge_and_attack(job, ArtifactStore(tmp_path))
    assert len({part.ids for part in tones}) == 3
    assert given == [("judged", exam, exam.trigger, tones.train.ids, 3)]
    assert (found["acc"], found["retune_1"]) == (1.0, 0.75)


def test_too_few_clips_to_attack_with_are_seen_before_a_job_is_made(
    folder_of: Folder, tmp_path: Path
) -> None:
    folder_of({"yes": 24, "no": 12})
    recipe = tmp_path / "few.toml"
    recipe.write_text(
        RECIPE.replace(
            'attack = ["ultrasonic"]', 'attack = [{ name = "ultrasonic", settings = { target = "yes" } }]'
        )
    )
    with pytest.raises(DataError, match=r"needs 20 training clips that are not of the target label, and 20 "):
        run_grid(recipe, tmp_path / "store", tmp_path, workers=1)
    assert not (tmp_path / "store").exists()
