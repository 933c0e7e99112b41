"""ABL: what isolates, what is isolated, and what each part learns."""

import math

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from closesesame.models import Classifier
from closesesame.robust_training import ABL, Plain
from closesesame.robust_training.abl import Isolation, isolation_rule
from closesesame.robust_training.common.unlearning import by_sgd
from closesesame.training import Batch, accuracy, predict
from tests.removal.tiny import asr, vectors
from tests.robust_training.tiny import FAST, Little, poisoned_rows, poisoned_vectors, recorded

MODULE = "closesesame.robust_training.abl"


class Bias(nn.Module):
    """Logits are two numbers that do not depend on the input, and one weight that scales them."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.scale


def of(how: Isolation, level: float) -> tuple[float, float]:
    """Loss and gradient for logits (2, 0) and (0, 1) with the first label: losses of 0.127 and 1.313."""
    body = Bias()
    batch = Batch(torch.tensor([[2.0, 0.0], [0.0, 1.0]]), torch.tensor([0, 0]), torch.arange(2))
    loss = isolation_rule(how, level)(body, batch)
    assert body.scale.grad is not None
    return float(loss.detach()), float(body.scale.grad)


def test_losses_below_the_level_are_raised_clip_by_clip_or_batch_by_batch() -> None:
    p, q = 1 / (1 + math.exp(-2)), 1 / (1 + math.exp(1))
    low, high = -math.log(p), -math.log(q)
    rise, fall = (p - 1) * 2, 1 - q  # of the two losses with the weight
    assert of("local_ascent", 0.5) == pytest.approx(((high - low) / 2, (fall - rise) / 2), rel=1e-5)
    assert of("local_ascent", 0.1) == pytest.approx(((high + low) / 2, (fall + rise) / 2), rel=1e-5)
    mean = (low + high) / 2
    assert of("flooding", 0.5) == pytest.approx((mean, (fall + rise) / 2), rel=1e-5)
    assert of("flooding", 1.0) == pytest.approx((2 - mean, -(fall + rise) / 2), rel=1e-5)


@pytest.mark.parametrize("isolation", ["local_ascent", "flooding"])
def test_each_part_gets_its_own_clips_and_settings(isolation: Isolation) -> None:
    data = poisoned_vectors(90, 9)
    method = ABL(
        training=FAST.model_copy(update={"epochs": 2}),
        isolation=isolation,
        isolation_epochs=4,
        level=0.7,
        isolation_rate=0.1,
        unlearning="complementary",
        unlearning_steps=3,
        unlearning_lr=0.007,
    )
    told: list[tuple[str, int]] = []
    lowest: list[int] = []

    def watch(stage: str, epoch: int, model: Classifier) -> None:
        told.append((stage, epoch))
        if (stage, epoch) == ("isolation", 4):
            losses = F.cross_entropy(predict(model, data).double(), data.labels, reduction="none")
            lowest.extend(sorted(losses.argsort()[:9].tolist()))

    with recorded(MODULE, "fit", "unlearn", "isolation_rule") as calls:
        made = method.train(Little(), data, 3, watch=watch)
    lengths = {"isolation": 4, "training": 2, "unlearning": 3}
    assert told == [(stage, epoch) for stage, last in lengths.items() for epoch in range(1, last + 1)]
    assert [name for name, _, _ in calls] == ["isolation_rule", "fit", "fit", "unlearn"]
    rule, first, rest, last = calls
    assert rule[1] == (isolation, 0.7)
    assert first[1][1] is data
    assert first[1][2] == FAST.model_copy(update={"epochs": 4})
    assert rest[1][1].ids == tuple(name for row, name in enumerate(data.ids) if row not in lowest)
    assert rest[1][2] == method.training
    assert "gradient" not in rest[2]
    assert last[1][1].ids == tuple(data.ids[row] for row in lowest)
    settings = by_sgd(method.training, steps=3, lr=0.007, batch_size=64, weight_decay=1e-4)
    assert last[1][2:] == ("complementary", settings)
    assert made.chosen == {"isolated": 9}


@pytest.mark.parametrize("isolation", ["local_ascent", "flooding"])
def test_clips_that_are_learned_at_once_are_isolated_and_their_backdoor_unlearned(
    isolation: Isolation,
) -> None:
    data, unseen = poisoned_vectors(300, 60, unclear=0.4), vectors(150, 1)
    assert asr(Plain(training=FAST).train(Little(), data, 0).model, unseen) > 0.9
    method = ABL(
        training=FAST,
        isolation=isolation,
        isolation_epochs=3,
        isolation_rate=0.1,
        unlearning="complementary",
        unlearning_lr=0.015,
        unlearning_steps=6,
    )
    seen: list[float] = []

    def watch(stage: str, epoch: int, model: Classifier) -> None:
        if (stage, epoch) == ("isolation", 3):
            losses = F.cross_entropy(predict(model, data), data.labels, reduction="none")
            seen.append(float(torch.isin(losses.argsort()[:30], poisoned_rows(300, 60)).float().mean()))

    made = method.train(Little(), data, 0, watch=watch).model
    assert seen[0] > 0.6
    assert asr(made, unseen) < 0.3
    assert accuracy(made, unseen) > 0.7
