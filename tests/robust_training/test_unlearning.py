"""Unlearning and relearning: their gradients by hand, and how they are run."""

import math

import pytest
import torch
from torch import Tensor, nn

from closesesame.robust_training.common.unlearning import ascend, descend, learn_complement, relearn, unlearn
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
        FAST,
        epochs=12,
        lr=0.05,
        seed=0,
        after_epoch=lambda epoch, _: told.append(epoch),
    )
    assert told == list(range(1, 13))
    assert float((predict(model, wrong).argmax(1) == 1).float().mean()) < 0.1
    after = model.state_dict()
    for name in ("body.norm.running_mean", "body.norm.running_var"):
        assert torch.equal(after[name], before[name])
    relearn(model, data, FAST, epochs=40, lr=0.05, seed=0)
    assert float((predict(model, wrong).argmax(1) == 1).float().mean()) > 0.8
    assert torch.equal(model.state_dict()["body.norm.running_mean"], before["body.norm.running_mean"])


def test_both_are_sgd_with_a_constant_learning_rate_and_only_relearning_augments() -> None:
    training = Training(augmentation="light", nesterov=True, optimizer="sgd", steps=7, precision="fp32")
    data = vectors(6)
    model = tiny()
    model.front_end.augmentation = lambda strength: None  # type: ignore[method-assign]
    with recorded(MODULE, "fit") as calls:
        unlearn(model, data, "ascent", training, epochs=2, lr=0.03, seed=5)
        relearn(model, data, training, epochs=3, lr=0.04, seed=6)
    wanted = Training(
        optimizer="sgd",
        lr=0.03,
        batch_size=128,
        epochs=2,
        weight_decay=0,
        schedule="constant",
        precision="fp32",
    )
    assert [given[2] for _, given, _ in calls] == [
        wanted.model_copy(update={"augmentation": "none"}),
        wanted.model_copy(update={"augmentation": "light", "epochs": 3, "lr": 0.04}),
    ]
    assert [(more["gradient"], more["seed"]) for _, _, more in calls] == [(ascend, 5), (descend, 6)]
