"""What removals share: a copy is repaired, and judged on clips that it was not tuned on."""

import copy
from typing import Any, ClassVar

import pytest
import torch

from closesesame.data import Dataset, Splits
from closesesame.models import Classifier
from closesesame.models.channels import head_in
from closesesame.removal import Removal

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
