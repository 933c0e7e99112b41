"""The recipes that come with closesesame can be read, and all that they name is there."""

import json
from pathlib import Path
from typing import Any

import pytest

from closesesame.attacks import ATTACKS
from closesesame.bench.recipe import Recipe, read_recipe
from closesesame.models import ARCHITECTURES
from closesesame.training import Training

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
RECIPES = sorted((BENCHMARKS / "recipes").rglob("*.toml"))
RESULTS = {path.stem: path for path in (BENCHMARKS / "results").glob("*.json")}
GRIDS = [path for path in RECIPES if path.parent.name not in {"engine", "studies"}]


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_every_method_and_setting_of_a_recipe_is_known(path: Path) -> None:
    recipe = read_recipe(path)
    Training(**recipe.training)
    for registry, entries in (
        (ATTACKS, recipe.attack),
        (ARCHITECTURES, recipe.model),
    ):
        for entry in entries:
            registry.make(entry.name, entry.settings)
    for family, method in recipe.methods():
        family.registry.make(method.name, method.settings)


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_a_recipe_is_called_as_its_file_is(path: Path) -> None:
    assert read_recipe(path).name == path.stem
    assert "-" not in path.stem


@pytest.mark.parametrize("path", GRIDS, ids=lambda path: path.stem)
def test_a_recipe_has_results_or_says_that_it_has_none(path: Path) -> None:
    recipe = read_recipe(path)
    assert (path.stem in RESULTS) != ("no results" in recipe.about)
    if path.stem not in RESULTS:
        return
    content = json.loads(RESULTS[path.stem].read_text(encoding="utf-8"))
    if "recipe_settings" in content:
        assert Recipe(**content["recipe_settings"]) == recipe
    assert {row["attack"] for row in content["rows"]} <= {entry.shown for entry in recipe.attack}
    assert not without_rows(recipe, content["rows"])


def without_rows(recipe: Recipe, rows: list[dict[str, Any]]) -> list[str]:
    """The attacks and methods of a recipe that no row of its result file is of."""
    # Behind the name stands how long it trained, where that is not as its authors have it.
    names = {(row.get("family"), f"{row.get('method')}, ") for row in rows}
    methods = [
        f"{family.name} {entry.shown}"
        for family, entry in recipe.methods()
        if not any(of == family.name and name.startswith(f"{entry.shown}, ") for of, name in names)
    ]
    attacks = {row["attack"] for row in rows}
    return [f"attack {entry.shown}" for entry in recipe.attack if entry.shown not in attacks] + methods


def test_a_method_that_a_recipe_names_and_nobody_ran_is_named() -> None:
    recipe = Recipe(
        name="r", data="d", attack=["pitch", "pbsm"], detection=["training_loss"], removal=["clp", "ft"]
    )
    rows = [
        {"attack": "pitch", "family": "removal", "method": "ft, 360 x 96"},
        {"attack": "pitch", "family": "detection", "method": "clp"},
    ]
    assert without_rows(recipe, rows) == ["attack pbsm", "removal clp", "detection training_loss"]
