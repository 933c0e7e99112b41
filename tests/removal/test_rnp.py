"""RNP: what is unlearned, how it is brought back, and that the model itself is pruned."""

import copy
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from closesesame.data import Dataset, Splits
from closesesame.models import Classifier
from closesesame.models.channels import channels_in
from closesesame.removal import RNP
from closesesame.removal.common.masking import (
    masked_copy,
)
from closesesame.training import accuracy
from closesesame.training.rules.ascent import Ascent
from tests.removal.tiny import BARE, suspect, vectors

pytestmark = pytest.mark.usefixtures("in_fp32")

SETTINGS: dict[str, Any] = BARE | {
    "batch_size": 40,
    "lr": 0.8,
    "steps": 5,
    "alpha": 0.6,
    "unlearning_lr": 0.3,
    "unlearning_steps": 6,
    "unlearning_weight_decay": 0.1,
    "stop_accuracy": 0.0,
    "clip": 0.5,
}


def by_hand(data: Dataset) -> Tensor:
    """Six steps up the loss with short gradients, half of them at a tenth, then five steps of the masks."""
    model = suspect()
    weights = list(model.body.parameters())
    for step in range(6):
        loss = F.cross_entropy(model(data.inputs[:]), data.labels)
        slopes = torch.autograd.grad(loss, weights)
        norm = float(torch.stack([slope.norm() for slope in slopes]).norm())
        assert norm > 0.5 or step == 0
        rate = 0.3 if step < 3 else 0.03
        with torch.no_grad():
            for weight, slope in zip(weights, slopes, strict=True):
                weight.add_(rate * (slope * min(1.0, 0.5 / norm) - 0.1 * weight))
    twin, masked = masked_copy(model)
    for _ in range(5):
        loss = 0.6 * F.cross_entropy(twin(data.inputs[:]), data.labels)
        (slope,) = torch.autograd.grad(loss, list(masked.masks))
        with torch.no_grad():
            masked.masks[0].sub_(0.8 * slope).clamp_(0, 1)
    mask: Tensor = masked.masks[0].detach()
    return mask


def test_the_model_as_it_was_loses_what_recovering_does_not_need(monkeypatch: pytest.MonkeyPatch) -> None:
    data, model, seen = vectors(40), suspect(), []
    prune = RNP.prune

    def spy(self: RNP, model: Classifier, masks: list[Tensor], held_out: Dataset) -> dict[str, Any]:
        seen.append((copy.deepcopy(model), masks, held_out))
        return prune(self, model, masks, held_out)

    monkeypatch.setattr(RNP, "prune", spy)
    expected, held_out = by_hand(data), vectors(9, 1)
    limit = float(expected.sort().values[3])
    assert limit < 1
    chosen = RNP(**SETTINGS, threshold=limit + 1e-4).repair(model, data, held_out, 0)
    ((pruned, (masks,), held),) = seen
    assert torch.allclose(masks, expected, atol=1e-4)
    assert held is held_out
    assert all(torch.equal(a, b) for a, b in zip(pruned.parameters(), suspect().parameters(), strict=True))
    low = expected <= limit + 1e-4
    assert chosen["unlearning_batches"] == 6
    assert chosen["pruned_channels"] == int(low.sum()) == 4
    kept = suspect().body.get_parameter("first.weight")
    assert torch.equal(model.body.get_parameter("first.weight"), kept * ~low[:, None])
    assert torch.equal(model.body.get_parameter("head.weight"), suspect().body.get_parameter("head.weight"))


def test_unlearning_ends_at_the_floor() -> None:
    data, batches = vectors(40), []
    assert accuracy(suspect(), data) > 0.8
    for floor in (0.99, 0.5, 0.0):
        more = {"stop_accuracy": floor, "unlearning_steps": 60, "clip": 20, "unlearning_weight_decay": 0.0}
        method = RNP(**SETTINGS | more | {"steps": 0})
        batches.append(method.repair(suspect(), data, vectors(9, 1), 0)["unlearning_batches"])
    assert batches[0] < batches[1] < batches[2] == 60


def test_the_threshold_is_chosen_on_held_out_clips_unless_it_is_given() -> None:
    data, held_out = vectors(40), vectors(30, 1)
    chosen = RNP(**SETTINGS, tolerance=0.2).repair(suspect(), data, held_out, 0)
    assert chosen["threshold"] is not None
    for tolerance in (0.0, 0.2):
        model = suspect()
        RNP(**SETTINGS, tolerance=tolerance).repair(model, data, held_out, 0)
        assert accuracy(model, held_out) >= (1 - tolerance) * accuracy(suspect(), held_out)
    assert RNP().threshold is None


def test_the_published_lengths() -> None:
    method = RNP()
    # 20 epochs of 500 examples in batches of 128.
    assert (method.unlearning_steps, method.steps, method.batch_size) == (80, 80, 128)
    assert (method.stop_accuracy, method.unlearning_lr, method.lr, method.alpha) == (0.2, 0.01, 0.2, 0.2)
    assert len(channels_in(suspect())) == 1


def test_rnp_unlearns_until_the_floor(clean_model: Classifier, tones: Splits) -> None:
    clean = tones.train.sample(0.2, 0)
    chosen = RNP(stop_accuracy=0.3, unlearning_steps=60, steps=1).remove(clean_model, clean, 0).chosen
    assert 0 < chosen["unlearning_batches"] < 60
    assert chosen["unlearning_batches"] % Ascent.LOOK == 0
