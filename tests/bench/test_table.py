"""A row says what its own jobs found: worked by process, without training anything."""

from pathlib import Path
from typing import Any

import pytest

from closesesame.bench.identity import Machine
from closesesame.bench.queue.store import Job, Outcome, Store
from closesesame.bench.recipe import Recipe
from closesesame.bench.stages import JUDGE, METHOD, POISON, TRAIN, plan
from closesesame.bench.table import Row, rows_of

RECIPE = Recipe(
    name="grid",
    rates=(0.1,),
    seeds=(3, 4),
    clean_fractions=(0.05, 0.02),
    data=[{"name": "speech", "source": "synthetic"}],
    model=[{"name": "resnet"}, {"name": "resnet", "label": "wide", "settings": {"widths": [8, 16]}}],
    attack=[{"name": "ultrasonic"}, {"name": "pitch", "label": "higher"}],
    removal=[{"name": "clp"}],
)
ACC = {("none", 0.0): 0.99, ("none", 0.1): 0.95, ("clp", 0.0): 0.97, ("clp", 0.1): 0.85}
ASR = {("none", 0.0): 0.02, ("none", 0.1): 0.9, ("clp", 0.0): 0.03, ("clp", 0.1): 0.1}
RA = {("none", 0.0): 0.88, ("none", 0.1): 0.05, ("clp", 0.0): 0.8, ("clp", 0.1): 0.7}


def result(job: Job) -> dict[str, Any]:
    """What a job would say; each precision is a word of its own, to see where it ends up."""
    if job.task == TRAIN:
        return {"precision": "fp32", "training_clips": 200}
    if job.task == POISON:
        return {"precision": "fp32", "training_clips": 200, "poisoned_clips": 20}
    if job.task == METHOD:
        accuracy = {"held_out_acc_before": 0.5, "held_out_acc": 0.25}
        return accuracy | {"held_out": 4, "seconds": 7.0, "chosen": {"pruned": 3}, "precision": "bf16"}
    if job.task == JUDGE:
        about = job.payload
        key = ("clp" if about["method"] else "none", about["attack"]["all_settings"]["rate"])
        more = 0.01 if about["labels"]["attack"] == "higher" else 0.0
        more += 0.001 * (about["seed"] == 4) + 0.0001 * (about.get("clean_fraction") == 0.02)
        more += 0.00001 * (about["model"]["settings"] != {})
        rates = {"acc": ACC[key], "asr": ASR[key] - more, "ra": RA[key] - more, "ra_reference": 0.88 - more}
        return rates | {"precision": "tf32", "test_clips": 100, "triggered_clips": 90, "snr_db": 30.0 + more}
    return {"precision": "fp32"}


@pytest.fixture
def rows(tmp_path: Path) -> dict[tuple[str, str, float], Row]:
    """The rows of a finished grid by attack, removal and rate."""
    store = Store(tmp_path)
    store.add(plan(RECIPE, tmp_path, machine=Machine("fp32", "some", "2.0")))
    while (job := store.claim("me")) is not None:
        assert store.finish(job.id, "me", Outcome(result=result(job), seconds=1.0))
    every = rows_of(store)
    assert len(every) == 2 * 2 * 2 * 2 * 3  # models, seeds, attacks, rates, and bare or two fractions
    for row in every:
        if not row["poisoning_rate"]:  # the never-poisoned model after the same repair is this very row
            assert row["ra_reference_repaired"] == row["ra"]
    first = [row for row in every if row["seed"] == 3 and row["clean_fraction"] in {None, 0.05}]
    return {(row["attack"], row["method"], row["poisoning_rate"]): row for row in reversed(first)}


def test_der_is_that_of_a_repair_against_its_own_victim(rows: dict[tuple[str, str, float], Row]) -> None:
    assert rows["ultrasonic", "clp", 0.1]["der"] == pytest.approx(((0.9 - 0.1) - (0.95 - 0.85) + 1) / 2)
    # ASR rises by 1 point and ACC falls by 2: no fall of ASR counts.
    assert rows["ultrasonic", "clp", 0.0]["der"] == pytest.approx((0 - 0.02 + 1) / 2)
    assert rows["ultrasonic", "none", 0.1]["der"] is None


def test_beside_ra_stands_the_never_poisoned_model_as_it_is_and_after_the_same_repair(
    rows: dict[tuple[str, str, float], Row],
) -> None:
    both = ("ra_reference", "ra_reference_repaired")
    assert [rows["ultrasonic", "clp", 0.1][name] for name in both] == pytest.approx([0.88, 0.8])
    assert [rows["ultrasonic", "none", 0.1][name] for name in both] == pytest.approx([0.88, 0.88])
    assert [rows["higher", "clp", 0.1][name] for name in both] == pytest.approx([0.87, 0.79])


def test_a_row_takes_each_figure_from_the_job_that_found_it(rows: dict[tuple[str, str, float], Row]) -> None:
    row, bare = rows["higher", "clp", 0.1], rows["higher", "none", 0.1]
    rates = [row[name] for name in ("acc", "asr", "ra")]
    assert rates == pytest.approx([0.85, 0.09, 0.69])
    steps = [row[f"precision_{step}"] for step in ("train", "method", "judge")]
    assert steps == ["fp32", "bf16", "tf32"]
    assert bare["precision_method"] is None
    held_out = [row[name] for name in ("held_out", "held_out_acc_before", "held_out_acc")]
    assert held_out == [4, 0.5, 0.25]
    assert (row["seconds"], bare["seconds"]) == (7.0, 1.0)
    assert (row["poisoned_clips"], rows["higher", "clp", 0.0]["poisoned_clips"]) == (20, 0)
    assert (row["clean_from"], row["clean_fraction"], row["seed"]) == ("validation", 0.05, 3)
    assert row["chosen"] == {"pruned": 3}
    assert row["snr_db"] == bare["snr_db"] == pytest.approx(30.01)
    assert row["attack_settings"] == {"name": "pitch", "rate": 0.1}
