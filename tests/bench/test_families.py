"""Every family in a grid: what its methods are given, how what they make is measured, and short recipes."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from closesesame.bench.cells import JudgeCell, MethodCell
from closesesame.bench.grid import read_grid, run_grid
from closesesame.bench.identity import Machine
from closesesame.bench.judging import KINDS
from closesesame.bench.recipe import Recipe, read_recipe
from closesesame.bench.stages import JUDGE, METHOD, POISON, TRAIN, cell_of, plan
from closesesame.core.errors import SettingError
from closesesame.evaluation.measures import MEASURES
from closesesame.families import BY_NAME, FAMILIES
from closesesame.removal import REMOVALS

Folder = Callable[..., Path]
HERE = Machine("fp32", "some", "2.0")
RECIPE = """
name = "families"
rates = [0.2]
clean_fractions = [0.2]
training = { epochs = 12, batch_size = 16 }
protocol = { clean_from = "train" }
data = [{ name = "words", source = "set", sample_rate = 8000, duration_s = 0.5 }]
model = [{ name = "resnet", settings = { widths = [8, 16] } }]
attack = ["ultrasonic"]
removal = ["clp"]
robust_training = ["plain"]
detection = ["training_loss"]
inspection = [{ name = "max_margin", settings = { starts = 2, steps = 2 } }]
purification = [{ name = "lowpass", settings = { cutoff_hz = 3000 } }]
"""


def cells(**more: Any) -> list[Any]:
    given: dict[str, Any] = {
        "name": "grid",
        "rates": (0.1,),
        "clean_fractions": (0.05, 0.02),
        "data": [{"name": "speech", "source": "synthetic"}],
        "attack": "ultrasonic",
    }
    return [cell_of(job) for job in plan(Recipe(**(given | more)), Path(), machine=HERE)]


def methods(**more: Any) -> list[MethodCell]:
    return [cell for cell in cells(**more) if isinstance(cell, MethodCell)]


def test_every_family_makes_a_known_kind_and_has_a_key_in_recipes() -> None:
    assert {family.makes for family in FAMILIES} <= set(KINDS)
    assert set(BY_NAME) <= set(Recipe.model_fields)
    assert all(measure.key in MEASURES for family in FAMILIES for measure in family.measures)


def test_a_robust_training_sees_the_poisoned_set_and_an_architecture_and_no_model() -> None:
    clean, poisoned = methods(robust_training="plain")
    for cell in (clean, poisoned):
        assert (cell.suspect, cell.clean_fraction, cell.untrusted) == (None, None, "all")
        assert cell.model is not None
        assert cell.model.name == "resnet"
    assert clean.poisoned is None
    assert poisoned.poisoned is not None


def test_a_detection_sees_the_suspect_and_the_set_that_it_was_trained_on() -> None:
    jobs = plan(
        Recipe(
            name="grid",
            rates=(0.1,),
            data=[{"name": "speech", "source": "synthetic"}],
            attack=["ultrasonic"],
            detection=["training_loss"],
        ),
        Path(),
        machine=HERE,
    )
    trained_on = {job.id: job.payload["poisoned"] for job in jobs if job.task == TRAIN}
    found = [cell for cell in map(cell_of, jobs) if isinstance(cell, MethodCell)]
    assert len(found) == 2
    for cell in found:
        assert cell.suspect is not None
        assert (cell.poisoned, cell.untrusted) == (trained_on[cell.suspect], "all")
        assert (cell.clean_fraction, cell.protocol, cell.model) == (None, None, None)
    (poison,) = [job.id for job in jobs if job.task == POISON]
    assert {cell.poisoned for cell in found} == {None, poison}


def test_a_purification_is_fitted_once_for_all_models_and_attacks_and_an_inspection_once_a_suspect() -> None:
    more = {
        "model": ["resnet", "small_cnn"],
        "attack": ["ultrasonic", "pitch"],
        "purification": ["lowpass"],
        "inspection": ["max_margin"],
    }
    found = methods(**more)
    (purification,) = [cell for cell in found if cell.family == "purification"]
    assert (purification.suspect, purification.poisoned, purification.untrusted) == (None, None, None)
    inspections = [cell for cell in found if cell.family == "inspection"]
    assert len({cell.suspect for cell in inspections}) == len(inspections) == 2 * (1 + 2)
    judged = [cell for cell in cells(**more) if isinstance(cell, JudgeCell)]
    # models x attacks x rates x (bare, purified, inspected)
    assert len(judged) == 2 * 2 * 2 * 3


def test_no_method_is_planned_with_a_trigger_an_attack_or_a_mask() -> None:
    hidden = {"trigger", "attack", "judged", "reference"}
    sounds = [{"name": "badnets"}, {"name": "ultrasonic"}]
    every = {family.name: list(family.registry)[:1] for family in FAMILIES}
    found = methods(attack=sounds, **every)
    assert {cell.family for cell in found} == set(BY_NAME)
    for cell in found:
        assert not hidden & set(type(cell).model_fields)
        assert not cell.where.sounds


def test_a_grid_of_every_family_measures_each_as_it_is_measured(folder_of: Folder, tmp_path: Path) -> None:
    folder_of({"yes": 60, "no": 60, "up": 60, "down": 60})
    recipe = tmp_path / "families.toml"
    recipe.write_text(RECIPE)
    ended = run_grid(recipe, tmp_path / "store", tmp_path, workers=1)
    assert not ended.failed
    _, rows = read_grid(tmp_path / "store")
    found = {(row["family"], row["poisoning_rate"]): row for row in rows}
    assert len(found) == len(rows) == 2 * (1 + len(FAMILIES))
    rates = ("acc", "asr", "ra", "ra_reference")
    # Plain training on the poisoned set is how the suspect came about.
    for rate in (0.0, 0.2):
        bare, plain = found["none", rate], found["robust_training", rate]
        assert [plain[name] for name in rates] == [bare[name] for name in rates]
        assert plain["der"] == pytest.approx(0.5)
    bare, purified = found["none", 0.2], found["purification", 0.2]
    # The noise of these clips reaches up to 4,000 Hz, and the model misses what the filter stops.
    assert [purified[name] for name in ("acc", "asr", "ra")] != [bare[name] for name in ("acc", "asr", "ra")]
    assert purified["ra_reference_repaired"] == found["purification", 0.0]["ra"]
    scored, unpoisoned = found["detection", 0.2], found["detection", 0.0]
    assert 0 <= scored["auroc"] <= 1
    assert scored["tpr_at_1"] <= scored["tpr_at_5"] <= scored["tpr_at_10"]
    assert scored["acc"] is None
    assert scored["clean_clips"] + scored["poisoned_clips"] == scored["training_clips"]
    assert unpoisoned["clean_clips"] == unpoisoned["training_clips"]
    assert scored["tpr_at_own"] is scored["fpr_at_own"] is None  # training_loss names no threshold
    assert unpoisoned["auroc"] is None
    assert unpoisoned["state"] == "done"
    for rate in (0.0, 0.2):
        verdict = found["inspection", rate]
        assert verdict["right"] == (verdict["flagged"] == (rate > 0))
        assert set(verdict["chosen"]["statistics"]) == {"yes", "no", "up", "down"}
    assert found["inspection", 0.0]["target_found"] is None
    assert found["inspection", 0.2]["target_found"] in {0.0, 1.0}
    assert found["removal", 0.2]["clean_fraction"] == 0.2
    for family in ("detection", "robust_training", "inspection", "purification"):
        assert found[family, 0.2]["clean_fraction"] is None
    assert {row["poisoned_clips"] for row in rows if row["poisoning_rate"]} == {bare["poisoned_clips"]}


def test_all_takes_every_method_and_a_name_alone_is_an_entry(tmp_path: Path) -> None:
    path = tmp_path / "short.toml"
    path.write_text(
        'name = "short"\ndata = "keywords10"\nattack = ["pbsm", { name = "badnets", label = "tone" }]\n'
        'model = [{ name = "kwt", epochs = 30 }, "resnet"]\nremoval = "all"\n'
    )
    recipe = read_recipe(path)
    assert [entry.name for entry in recipe.data] == ["keywords10"]
    assert [entry.shown for entry in recipe.attack] == ["pbsm", "tone"]
    assert [entry.name for entry in recipe.removal] == list(REMOVALS)
    assert [entry.epochs for entry in recipe.model] == [30, None]
    assert read_recipe_again(recipe) == recipe


def read_recipe_again(recipe: Recipe) -> Recipe:
    return Recipe(**recipe.model_dump(mode="json"))


def test_epochs_of_a_model_are_its_own() -> None:
    found = cells(model=[{"name": "kwt", "epochs": 3}, "resnet"], training={"epochs": 7})
    trained = {cell.model.name: cell.training["epochs"] for cell in found if isinstance(cell, JudgeCell)}
    assert trained == {"kwt": 3, "resnet": 7}


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"removel": ["ft"]}, "has no setting 'removel'.*did you mean 'removal'"),
        ({"detections": ["training_loss"]}, "did you mean 'detection'"),
        ({"removal": {"name": "ft"}}, r"write \[\[removal\]\] above each entry"),
        ({"removal": ["ft", "ft"]}, "two entries of removal called 'ft'"),
        ({"detection": ["ft"]}, "no detection is called 'ft'"),
    ],
)
def test_a_misspelt_family_or_method_is_refused_with_the_nearest(
    given: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(SettingError, match=sentence):
        cells(**given)


def test_jobs_of_methods_and_judges_stand_behind_what_they_need(tmp_path: Path) -> None:
    every = {family.name: list(family.registry)[:1] for family in FAMILIES}
    jobs = plan(
        Recipe(name="g", data=[{"name": "s", "source": "synthetic"}], attack=["pitch"], **every),
        tmp_path,
        machine=HERE,
    )
    seen: set[str] = set()
    for job in jobs:
        assert set(job.needs) <= seen
        seen.add(job.id)
    assert {job.task for job in jobs} >= {METHOD, JUDGE, POISON, TRAIN}
