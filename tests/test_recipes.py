"""The recipes that come with closesesame can be read, and all that they name is there."""

from pathlib import Path

import pytest

from closesesame.attacks import ATTACKS
from closesesame.bench.recipe import read_recipe
from closesesame.models import ARCHITECTURES
from closesesame.training import Training

RECIPES = sorted((Path(__file__).parents[1] / "benchmarks" / "recipes").glob("*.toml"))


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
