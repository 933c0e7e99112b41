"""Plain fine-tuning: its settings arrive; and the published lengths of the removals that fine-tune."""

import copy
from typing import Any

import pytest

from closesesame.removal import FT, REMOVALS
from closesesame.training import Training, accuracy, fit
from tests.removal.tiny import asr, assert_same, moved, state, tiny, vectors, victim

pytestmark = pytest.mark.usefixtures("in_fp32")

OTHER: dict[str, Any] = {
    "optimizer": "adamw",
    "lr": 0.03,
    "steps": 4,
    "batch_size": 7,
    "momentum": 0.5,
    "nesterov": True,
    "weight_decay": 0.1,
    "schedule": "one_cycle",
    "augmentation": "strong",
}


@pytest.mark.parametrize("name", OTHER)
def test_each_setting_arrives_in_the_training(name: str) -> None:
    tune, start = vectors(20), tiny()
    changed = {"steps": 3, "batch_size": 8, name: OTHER[name]}
    model, expected, usual = (copy.deepcopy(start) for _ in range(3))
    assert FT(**changed).repair(model, tune, vectors(4, 1), 3) == {}
    settings: dict[str, Any] = {"optimizer": "sgd", "lr": 0.01, "momentum": 0.9, "nesterov": False}
    settings |= {"weight_decay": 5e-4, "schedule": "cosine", "augmentation": "light"} | changed
    fit(expected, tune, Training(**settings), seed=3)
    assert_same(model, expected)
    FT(steps=3, batch_size=8).repair(usual, tune, vectors(4, 1), 3)
    assert moved(model, state(usual))  # the setting says something


def test_fine_tuning_learns_from_the_clean_examples_and_leaves_a_trigger_they_do_not_show() -> None:
    tune, fresh, backdoored = vectors(60), tiny(), victim()
    assert accuracy(fresh, vectors(60, 1)) < 0.7
    FT(lr=0.1, steps=100).repair(fresh, tune, vectors(6, 2), 0)
    assert accuracy(fresh, vectors(60, 1)) > 0.85
    FT(lr=0.1, steps=100, augmentation="none").repair(backdoored, tune, vectors(6, 2), 0)
    assert asr(backdoored, vectors(60, 1)) > 0.9


@pytest.mark.parametrize(
    ("name", "examples", "batch", "epochs"),
    [
        ("ft", 2500, 256, 100),
        ("fine_pruning", 2500, 256, 100),
        ("linear_probe", 1000, 128, 10),
        ("fe_tuning", 1000, 128, 10),
        ("ft_init", 1000, 128, 10),
        ("fst", 1000, 128, 10),
        ("mcr", 2500, 128, 100),
        ("ngf", 500, 128, 100),
    ],
)
def test_a_training_is_as_long_as_its_authors_on_their_own_data(
    name: str, examples: int, batch: int, epochs: int
) -> None:
    settings = REMOVALS.make(name, {}).settings()
    assert settings["batch_size"] == batch
    assert settings["steps"] == epochs * -(-examples // batch)
    assert settings["lr"] == 0.01
    assert settings["augmentation"] == "light"
