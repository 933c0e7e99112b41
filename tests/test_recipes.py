"""The recipes that come with closesesame can be read, and all that they name is there."""

import json
from pathlib import Path

import pytest

from closesesame.attacks import ATTACKS
from closesesame.bench.recipe import Recipe, read_recipe
from closesesame.models import ARCHITECTURES
from closesesame.training import Training

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
RECIPES = sorted((BENCHMARKS / "recipes").rglob("*.toml"))
RESULTS = {path.stem: path for path in (BENCHMARKS / "results").glob("*.json")}
GRIDS = [path for path in RECIPES if path.parent.name != "engine" and path.stem != "quick"]


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
    assert (path.stem in RESULTS) != ("no results yet" in recipe.about)
    if path.stem not in RESULTS:
        return
    content = json.loads(RESULTS[path.stem].read_text(encoding="utf-8"))
    if "recipe_settings" in content:
        assert Recipe(**content["recipe_settings"]) == recipe
    shown = {entry.shown for entry in recipe.attack}
    assert {row["attack"] for row in content["rows"]} <= shown
