"""GN-FT: its settings arrive at the rule, and the length is the authors'."""

import copy
from typing import Any

import pytest

from closesesame.removal import GNFT
from closesesame.training import Training, fit
from closesesame.training.rules.gradient_norm import gradient_norm_rule
from tests.removal.tiny import BARE, assert_same, moved, state, tiny, vectors

pytestmark = pytest.mark.usefixtures("in_fp32")


@pytest.mark.parametrize("norm", ["per_tensor", "global"])
def test_r_alpha_and_the_norm_arrive(norm: Any) -> None:
    settings: dict[str, Any] = BARE | {"lr": 0.3, "steps": 4, "batch_size": 8}
    tune, start = vectors(20), tiny()
    model, expected = copy.deepcopy(start), copy.deepcopy(start)
    assert GNFT(**settings, norm=norm, r=0.6, alpha=0.2).repair(model, tune, vectors(4, 1), 3) == {}
    rule = gradient_norm_rule(r=0.6, alpha=0.2, per_tensor=norm == "per_tensor")
    fit(expected, tune, Training(**settings | {"optimizer": "sgd"}), seed=3, gradient=rule)
    assert_same(model, expected)
    for r, alpha, per_tensor in ((0.2, 0.6, norm == "per_tensor"), (0.6, 0.2, norm != "per_tensor")):
        other, rule = copy.deepcopy(start), gradient_norm_rule(r=r, alpha=alpha, per_tensor=per_tensor)
        fit(other, tune, Training(**settings | {"optimizer": "sgd"}), seed=3, gradient=rule)
        with pytest.raises(AssertionError):
            assert_same(model, other)


def test_only_the_tuning_examples_are_seen() -> None:
    one, two = tiny(), tiny()
    for model, seed in ((one, 1), (two, 2)):
        GNFT(steps=2).repair(model, vectors(20), vectors(8, seed), 0)
    assert not moved(one, state(two))
    assert moved(one, state(tiny()))


def test_the_length_is_300_epochs_of_3_batches_and_the_rest_that_of_the_authors_code() -> None:
    method = GNFT()
    assert (method.steps, method.batch_size, method.lr, method.schedule) == (300 * 3, 256, 1e-3, "constant")
    assert (method.r, method.alpha, method.norm, method.weight_decay) == (0.05, 0.7, "per_tensor", 0)
