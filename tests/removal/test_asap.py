"""ASAP: which units the threshold gives free, how many go, and what they are judged by."""

from typing import Any

import pytest
import torch
from torch import Tensor

from closesesame.data import Dataset, Splits
from closesesame.models import Classifier
from closesesame.models.channels import head_in
from closesesame.removal import ASAP
from closesesame.removal.common import pruning
from closesesame.removal.common.pruning import mean_activation
from closesesame.training import accuracy
from tests.removal.test_fine_pruning import CLIPS, Ladder, ladder

pytestmark = pytest.mark.usefixtures("in_fp32")

ACTIVITY = torch.tensor([3.0, 2.0, 12.0, 4.0, 5.0])  # scaled: 0.1, 0, 1, 0.2, 0.3


@pytest.mark.parametrize(
    ("threshold", "share", "activity"), [(0, 0, 0), (0.2, 1, 2), (0.25, 1, 3), (0.6, 3, 4), (1, 4, 4)]
)
def test_both_readings_of_the_threshold(threshold: float, share: int, activity: int) -> None:
    assert ASAP(threshold=threshold).may_go(ACTIVITY) == share
    assert ASAP(threshold=threshold, threshold_of="activity").may_go(ACTIVITY) == activity


def test_units_that_are_all_alike_may_go_but_for_one() -> None:
    assert ASAP(threshold_of="activity").may_go(torch.ones(5)) == 4


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch) -> None:
    """Vectors have no sound, so nothing is put in front of their model."""
    monkeypatch.setattr(ASAP, "put_in_front", lambda self, model, seed: "nothing")


# A pruned unit costs its class, a fifth of the held-out examples; that of class 3 is idlest, then 0, 4 and 2.
@pytest.mark.usefixtures("bare")
@pytest.mark.parametrize(
    ("changes", "pruned", "free"),
    [
        ({"threshold": 0.6, "tolerance": 0.79}, 3, 3),
        ({"threshold": 0.6, "tolerance": 0.25}, 1, 3),
        ({"threshold": 0.6, "tolerance": 0.1}, 0, 3),
        ({"threshold": 0.2, "tolerance": 0.79}, 1, 1),
        ({"threshold": 0, "tolerance": 0.79}, 0, 0),
        ({"threshold": 0.6, "tolerance": 0.65, "step": 0.4}, 3, 3),
        ({"threshold": 0.6, "tolerance": 0.45, "step": 0.4}, 2, 3),
        # Levels 2, 5, 4, 1 and 3 are scaled to 0.25, 1, 0.75, 0 and 0.5.
        ({"threshold": 0.5, "threshold_of": "activity", "tolerance": 0.79}, 2, 2),
        ({"threshold": 0.8, "threshold_of": "activity", "tolerance": 0.65}, 3, 4),
    ],
)
def test_the_idlest_units_go_as_far_as_threshold_and_tolerance_let_them(
    changes: dict[str, Any], pruned: int, free: int
) -> None:
    model = ladder()
    method = ASAP.model_validate({"step": 0.2, "steps": 0} | changes)
    chosen = method.repair(model, CLIPS, CLIPS.take(torch.arange(10)), 0)
    assert chosen == {"enhancer": "nothing", "pruned_units": pruned, "below_threshold": free, "of": 5}
    gone = [unit for unit in range(5) if float(model(5 * torch.eye(5))[unit, unit].detach()) < 0.1]
    assert sorted(gone) == sorted(Ladder.ORDER[:pruned])
    assert accuracy(model, CLIPS) == pytest.approx(1 - pruned / 5)


@pytest.mark.usefixtures("bare")
def test_activity_is_of_the_tuning_examples_and_the_limit_of_the_held_out_ones() -> None:
    tune = CLIPS.where(CLIPS.labels != 1)  # nobody says class 1, so its unit is the idlest
    model = ladder()
    chosen = ASAP(tolerance=0.15, step=0.2, steps=0).repair(model, tune, CLIPS, 0)
    assert chosen["pruned_units"] == 1  # what no unit says is class 1, so its own is free; the next costs 0.2
    assert head_in(model).weight[:, 1].tolist() == [0] * 5
    for held_out, pruned in ((CLIPS, 1), (tune, 0)):  # a class is a fifth of the one, a quarter of the other
        chosen = ASAP(tolerance=0.22, step=0.2, steps=0).repair(ladder(), CLIPS, held_out, 0)
        assert chosen["pruned_units"] == pruned


def test_units_are_judged_on_enhanced_clips_and_stay_pruned_while_the_rest_is_tuned(
    clean_model: Classifier, tones: Splits, monkeypatch: pytest.MonkeyPatch
) -> None:
    clean = tones.train.sample(0.3, 0)
    tune, held_out = clean.hold_out(0.2, 0)
    judged: list[tuple[str, Tensor]] = []
    asked: list[Tensor] = []

    def noted(model: Classifier, layer: Any, data: Dataset) -> Tensor:
        found = mean_activation(model, layer, data)
        judged.append((model.card.architecture, found))
        assert len(data) == len(tune)
        return found

    def right(model: Classifier, data: Dataset) -> float:
        asked.append(data.inputs[:])
        return accuracy(model, data)

    monkeypatch.setattr(pruning, "mean_activation", noted)
    monkeypatch.setattr(pruning, "accuracy", right)
    repair = ASAP(steps=3, step=0.1, tolerance=0.9).remove(clean_model, clean, 0)
    ((architecture, activity),) = judged
    assert architecture == "purified"
    plain = mean_activation(clean_model, head_in(clean_model), tune)
    assert not torch.allclose(activity, plain, rtol=1e-3)
    pruned = repair.chosen["pruned_units"]
    assert 0 < pruned <= repair.chosen["below_threshold"] == round(0.5 * repair.chosen["of"])
    assert len(asked) == 1 + pruned / round(0.1 * repair.chosen["of"])  # no step passes so wide a tolerance
    heard = repair.model.features(held_out)  # by the enhancer, once: the front end before it stays as it is
    assert not torch.allclose(heard, clean_model.features(held_out), rtol=1e-3)
    assert all(torch.equal(inputs, heard) for inputs in asked)
    dead = activity.argsort()[:pruned]
    weight = head_in(repair.model).weight
    assert sorted(dead.tolist()) == (weight == 0).all(0).nonzero().flatten().tolist()
    bare = ASAP(steps=0, step=0.1, tolerance=0.9).remove(clean_model, clean, 0).model
    assert not torch.equal(repair.model(tones.test.inputs[:3]), bare(tones.test.inputs[:3]))


def test_defaults_are_those_of_the_paper() -> None:
    assert (ASAP().threshold, ASAP().step, ASAP().enhancer) == (0.5, 0.01, "shipped")
    assert ASAP().tolerance == 0.1
