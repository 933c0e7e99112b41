"""Unlearning and relearning: their gradients by hand, and how they are run."""

import math

import pytest
import torch
from torch import Tensor, nn

from closesesame.robust_training.common.unlearning import (
    ascend,
    by_sgd,
    descend,
    learn_complement,
    relearn,
    unlearn,
)
from closesesame.training import Batch, Training, fit, predict
from tests.removal.tiny import state, tiny, vectors
from tests.robust_training.tiny import FAST, recorded

MODULE = "closesesame.robust_training.common.unlearning"


class Scale(nn.Module):
    """Logits are the two inputs times one weight, which is 1."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(()))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.weight


def slope(rule: object) -> tuple[float, float]:
    """The loss and its gradient for logits (2, 0) and (0, 1), both with the first label."""
    body = Scale()
    batch = Batch(torch.tensor([[2.0, 0.0], [0.0, 1.0]]), torch.tensor([0, 0]), torch.arange(2))
    loss = rule(body, batch)  # type: ignore[operator]
    assert body.weight.grad is not None
    return float(loss.detach()), float(body.weight.grad)


def test_the_gradients_are_those_of_the_formulas() -> None:
    p, q = 1 / (1 + math.exp(-2)), 1 / (1 + math.exp(1))  # of the label
    rise = ((p - 1) * 2 + (1 - q) * 1) / 2  # of the cross-entropy with the weight
    loss = -(math.log(p) + math.log(q)) / 2
    assert slope(descend) == pytest.approx((loss, rise), rel=1e-5)
    assert slope(ascend) == pytest.approx((loss, -rise), rel=1e-5)
    complement = -(math.log(1 - p) + math.log(1 - q)) / 2
    assert slope(learn_complement) == pytest.approx((complement, (p * 2 - q) / 2), rel=1e-4)


def test_the_complement_has_its_slope_where_the_label_is_all_but_certain() -> None:
    body = Scale()
    batch = Batch(torch.tensor([[60.0, 0.0]]), torch.tensor([0]), torch.arange(1))  # p rounds to 1
    assert float(learn_complement(body, batch).detach()) == pytest.approx(60)
    assert body.weight.grad is not None
    assert float(body.weight.grad) == pytest.approx(60)


@pytest.mark.parametrize("how", ["ascent", "complementary"])
def test_labels_are_forgotten_and_statistics_kept(how: str) -> None:
    data, model = vectors(60), tiny()
    fit(model, data, FAST.model_copy(update={"epochs": 3}), seed=0)
    before, wrong = state(model), data.where(data.labels == 1)
    told: list[int] = []
    unlearn(
        model,
        wrong,
        how,  # type: ignore[arg-type]
        by_sgd(FAST, steps=12, lr=0.05),
        seed=0,
        after_epoch=lambda epoch, _: told.append(epoch),
    )
    assert told == list(range(1, 13))
    assert float((predict(model, wrong).argmax(1) == 1).float().mean()) < 0.1
    after = model.state_dict()
    for name in ("body.norm.running_mean", "body.norm.running_var"):
        assert torch.equal(after[name], before[name])
    relearn(model, data, by_sgd(FAST, steps=40, lr=0.05), seed=0)
    assert float((predict(model, wrong).argmax(1) == 1).float().mean()) > 0.8
    assert torch.equal(model.state_dict()["body.norm.running_mean"], before["body.norm.running_mean"])


def test_both_are_given_their_rule_and_their_seed() -> None:
    data, model, training = vectors(6), tiny(), by_sgd(FAST, steps=1, lr=0.03)
    with recorded(MODULE, "fit") as calls:
        unlearn(model, data, "ascent", training, seed=5)
        unlearn(model, data, "complementary", training, seed=7)
        relearn(model, data, training, seed=6)
    assert all(given == (model, data, training) for _, given, _ in calls)
    rules = [(more["gradient"], more["seed"]) for _, _, more in calls]
    assert rules == [(ascend, 5), (learn_complement, 7), (descend, 6)]


def test_sgd_has_a_constant_learning_rate_and_no_augmentation_unless_it_is_asked_for() -> None:
    training = Training(augmentation="light", nesterov=True, optimizer="sgd", steps=7, precision="fp32")
    wanted = Training(
        optimizer="sgd",
        lr=0.03,
        momentum=0.9,
        batch_size=128,
        steps=2,
        weight_decay=0,
        schedule="constant",
        precision="fp32",
        augmentation="none",
    )
    assert by_sgd(training, steps=2, lr=0.03) == wanted
    changed = by_sgd(training, steps=2, lr=0.03, batch_size=9, augmentation="strong")
    assert changed == wanted.model_copy(update={"batch_size": 9, "augmentation": "strong"})
