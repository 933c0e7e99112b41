"""What removals share: a copy is repaired, and judged on clips that it was not tuned on."""

import copy
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor, nn

from closesesame.core.errors import DataError, ModelError
from closesesame.data import Dataset, Splits
from closesesame.models import Classifier, adapt
from closesesame.models.channels import head_in
from closesesame.models.front_ends import Identity
from closesesame.removal import CLP, FT, Removal, Restore

from .tiny import NAMES, moved, state, suspect, vectors

SEEN: list[tuple[Dataset, Dataset]] = []


class Constant(Removal):
    """Makes the model say the last class, whatever it hears."""

    name: ClassVar[str] = "constant"
    cite: ClassVar[str] = "a test"

    def repair(self, model: Classifier, tune: Dataset, held_out: Dataset, seed: int) -> dict[str, Any]:
        assert not any(module.training for module in model.modules())
        assert all(weight.requires_grad for weight in model.body.parameters())
        SEEN.append((tune, held_out))
        head = head_in(model)
        with torch.no_grad():
            head.weight.zero_()
            head.bias.copy_(torch.tensor([0.0, 0.0, 0.0, 1.0]))
        return {"seed": seed}


class Scaled(Identity):
    """A front end with a weight, as an enhancer has many."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()), requires_grad=False)

    def forward(self, inputs: Tensor) -> Tensor:
        return self.scale * super().forward(inputs)


def test_a_repair_trains_the_body_and_leaves_the_front_end_alone() -> None:
    model = suspect()
    model.front_end = Scaled()
    repaired = FT(steps=3, lr=0.1, augmentation="none").remove(model, vectors(30), seed=0).model
    assert not repaired.front_end.scale.requires_grad
    assert repaired.front_end.scale == 1
    assert moved(repaired.body, state(model.body))


def test_a_repair_is_judged_before_and_after_on_speakers_it_was_not_tuned_on(
    clean_model: Classifier, tones: Splits
) -> None:
    suspect, clean = copy.deepcopy(clean_model).train().requires_grad_(False), tones.train.sample(0.2, 0)
    repair = Constant(hold_out=0.3).remove(suspect, clean, 4)
    tune, held_out = SEEN.pop()
    assert tune.speakers is not None
    assert held_out.speakers is not None
    assert not set(tune.speakers) & set(held_out.speakers)
    assert sorted(tune.ids + held_out.ids) == sorted(clean.ids)
    assert (repair.tuned_on, repair.held_out) == (len(tune), len(held_out))
    assert 0.2 < repair.held_out / len(clean) < 0.4
    right = clean_model(held_out.inputs[:]).argmax(1) == held_out.labels
    assert repair.acc_before == pytest.approx(float(right.float().mean()))
    assert repair.acc_after == pytest.approx(held_out.counts()[3] / len(held_out))
    assert float(right.float().mean()) > held_out.counts()[3] / len(held_out) + 0.3
    assert repair.lost == int(right.sum()) - held_out.counts()[3]
    assert repair.chosen == {"seed": 4}
    assert not any(module.training for module in repair.model.modules())
    assert all(module.training for module in suspect.modules())  # the suspect is left as it was
    assert not any(weight.requires_grad for weight in suspect.parameters())


class Weak(FT):
    """Says what it chose, and what a user must know of it."""

    name: ClassVar[str] = "weak"
    cite: ClassVar[str] = "a test"

    def repair(self, model: Classifier, tune: Dataset, held_out: Dataset, seed: int) -> dict[str, Any]:
        if self.steps:
            model.body.load_state_dict({name: value + 1 for name, value in model.body.state_dict().items()})
        return {"share": 0.5}

    def remarks(self, chosen: dict[str, Any]) -> list[str]:
        return [f"half of it: {chosen['share']}"]


def test_what_a_user_must_know_is_said_and_that_nothing_was_changed(
    clean_model: Classifier, tones: Splits
) -> None:
    clean = tones.train.sample(0.2, 0)
    assert Weak(steps=1).remove(clean_model, clean, 0).remarks == ("half of it: 0.5",)
    nothing = "nothing was changed: the repaired model is the suspect"
    assert Weak(steps=0).remove(clean_model, clean, 0).remarks == ("half of it: 0.5", nothing)
    assert CLP(u=100).remove(clean_model, None, 0).remarks == (nothing,)
    assert Restore(steps=0, kept_share=1).remove(clean_model, clean, 0).remarks == (nothing,)


def test_a_class_with_one_clip_keeps_it_and_what_chooses_by_clips_needs_some(
    clean_model: Classifier, tones: Splits
) -> None:
    one_each = tones.train.take(torch.tensor([int((tones.train.labels == k).nonzero()[0]) for k in range(4)]))
    assert Restore(hold_out=0.5).divided(one_each, 0)[0].counts() == (1, 1, 1, 1)
    repair = Restore(steps=1, splices=4).remove(clean_model, one_each, 0)
    assert (repair.tuned_on, repair.held_out, repair.acc_after, repair.harm) == (4, 0, None, None)
    with pytest.raises(DataError, match=r"^weak got 4 clean examples, and none is left to choose by: it "):
        Weak().remove(clean_model, one_each, 0)
    with pytest.raises(DataError, match=r"^restore needs two clean examples or more to train on, got 1$"):
        Restore().remove(clean_model, one_each.take(torch.arange(1)), 0)
    with pytest.raises(DataError, match=r"^restore needs clean examples; give it some$"):
        Restore().remove(clean_model, None, 0)


def test_what_trains_refuses_a_model_that_no_gradient_reaches_and_what_prunes_does_not() -> None:
    class Closed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.mix = nn.Linear(5, 8)
            self.norm = nn.BatchNorm1d(8)
            self.head = nn.Linear(8, 3)

        def forward(self, x: Tensor) -> Tensor:
            with torch.no_grad():
                answer: Tensor = self.head(self.norm(self.mix(x)).relu())
            return answer

    model = adapt(Closed(), NAMES, (5,), None)
    with pytest.raises(ModelError, match=r"no gradient reaches its weights; put a purifier in front"):
        FT(steps=1).remove(model, vectors(30), 0)
    assert CLP().remove(model, None, 0).tuned_on == 0
