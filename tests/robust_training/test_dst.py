"""D-ST: who is to be near whom, the loss of the last layer, what each part is given, and what is left."""

import math

import pytest
import torch
from torch import Tensor, nn

from closesesame.core.seeding import derive
from closesesame.models import Classifier
from closesesame.robust_training import DST, Plain
from closesesame.robust_training.common.contrast import contrast
from closesesame.robust_training.common.distinguishing import distinguish
from closesesame.robust_training.dst import half_labelled, learn_head
from closesesame.training import Batch, accuracy, predict
from tests.removal.tiny import asr, moved, state, tiny, vectors
from tests.robust_training.tiny import FAST, Little, poisoned_rows, poisoned_vectors, recorded

MODULE = "closesesame.robust_training.dst"

# Features


ANGLES = [0, 25, 60, 110, 15, 50, 80, 170]
"""Of the first views of four clips, and then of the second ones, in degrees."""
BATCH = Batch(torch.zeros(4, 5), torch.tensor([0, 0, 0, 1]), torch.tensor([5, 2, 7, 0]))


def views() -> Tensor:
    angles = torch.tensor(ANGLES).float().deg2rad()
    return torch.stack([angles.cos(), angles.sin()], 1) * torch.arange(1, 9)[:, None]


def loss_by_hand(positives: dict[int, list[int]], temperature: float) -> float:
    total = 0.0
    for view, near in positives.items():
        logits = [math.cos(math.radians(ANGLES[view] - angle)) / temperature for angle in ANGLES]
        others = math.log(sum(math.exp(logits[other]) for other in range(8) if other != view))
        total += sum(others - logits[other] for other in near) / len(near)
    return total / 8


@pytest.mark.parametrize("temperature", [0.5, 0.1])
def test_a_clip_that_counts_as_clean_is_near_its_label_and_another_near_itself(temperature: float) -> None:
    """Of three clips with one label the third is not believed: it draws no other, but is drawn by the two."""
    believed = torch.tensor([False, True, True, True, True, True, False, False])
    positives = {
        0: [4, 1, 5, 2, 6],
        4: [0, 1, 5, 2, 6],
        1: [5, 0, 4, 2, 6],
        5: [1, 0, 4, 2, 6],
        2: [6],
        6: [2],
        3: [7],
        7: [3],
    }
    found = half_labelled(views(), BATCH, believed, temperature)
    assert float(found) == pytest.approx(loss_by_hand(positives, temperature), rel=1e-5)


def test_without_a_clean_clip_labels_play_no_part() -> None:
    nobody = torch.zeros(8, dtype=torch.bool)
    assert torch.equal(half_labelled(views(), BATCH, nobody, 0.1), contrast(views(), BATCH, 0.1))
    alone = {0: [4, 1, 5, 2, 6], 4: [0, 1, 5, 2, 6], 1: [5], 5: [1], 2: [6], 6: [2], 3: [7], 7: [3]}
    nobody[5] = True  # the row of the first clip in the batch
    found = half_labelled(views(), BATCH, nobody, 0.1)
    assert float(found) == pytest.approx(loss_by_hand(alone, 0.1), rel=1e-5)


# The last layer


class Scale(nn.Module):
    """Logits are the two inputs times one weight, which is 1."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(()))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.weight


INPUTS = [[2.0, 0.0], [0.0, 1.0], [3.0, 0.0], [0.0, 0.5], [1.5, 0.0]]


def term(logits: list[float], label: int) -> tuple[float, float]:
    """The cross-entropy of two logits, and its slope as both are scaled."""
    p = math.exp(logits[label]) / sum(map(math.exp, logits))
    return -math.log(p), (1 - p) * (logits[1 - label] - logits[label])


def mixed(poisoned: list[bool], weight: float) -> tuple[float, float]:
    """Loss and slope of `learn_head` for clips whose rows are turned round in the data set."""
    body, rows = Scale(), torch.arange(4, -1, -1)
    batch = Batch(torch.tensor(INPUTS), torch.zeros(5, dtype=torch.long), rows)
    loss = learn_head(body, batch, torch.tensor(poisoned[::-1]), weight)
    assert body.weight.grad is not None
    return float(loss.detach()), float(body.weight.grad)


@pytest.mark.parametrize("weight", [0.001, 0.4])
def test_the_loss_is_that_of_the_clean_minus_a_little_of_that_of_the_poisoned(weight: float) -> None:
    """Three clean ones and two poisoned ones: the mean of each, not their sum and not the mean of all."""
    terms = [term(logits, 0) for logits in INPUTS]
    by_hand = [
        (terms[0][part] + terms[2][part] + terms[3][part]) / 3
        - weight * (terms[1][part] + terms[4][part]) / 2
        for part in (0, 1)
    ]
    found = mixed([False, True, False, False, True], weight)
    assert found == pytest.approx(tuple(by_hand), rel=1e-5)


def test_a_batch_may_lack_either() -> None:
    terms = [term(logits, 0) for logits in INPUTS]
    mean = [sum(part) / 5 for part in zip(*terms, strict=True)]
    assert mixed([False] * 5, 0.4) == pytest.approx(tuple(mean), rel=1e-5)
    assert mixed([True] * 5, 0.4) == pytest.approx(tuple(-0.4 * value for value in mean), rel=1e-5)


def test_the_features_are_those_that_the_model_predicts_with() -> None:
    """Statistics of batch norms are kept, and nothing is dropped."""
    data, model, rows = vectors(30), tiny(), torch.arange(30)
    body = nn.Sequential(nn.Dropout(0.9), model.body).train()
    before = state(model)
    loss = learn_head(body, Batch(data.inputs[:], data.labels, rows), torch.zeros(30, dtype=torch.bool), 0.1)
    expected = nn.functional.cross_entropy(model.eval().body(data.inputs[:]), data.labels)
    assert float(loss.detach()) == pytest.approx(float(expected.detach()), rel=1e-5)
    assert moved(model, before) == set()


# All of it


def test_each_part_gets_its_settings_and_clips() -> None:
    data = poisoned_vectors(90, 9)
    method = DST(
        training=FAST.model_copy(update={"epochs": 3, "augmentation": "light"}),
        label_epochs=1,
        centre_epochs=2,
        clean_share=0.4,
        poisoned_share=0.1,
        temperature=0.2,
        view_augmentation="strong",
        head_steps=4,
        poisoned_weight=0.05,
    )
    told: list[tuple[str, int]] = []
    kept: list[dict[str, Tensor]] = []

    def watch(stage: str, epoch: int, model: Classifier) -> None:
        told.append((stage, epoch))
        kept.append(state(model))

    with recorded(MODULE, "distinguish", "untrained", "learn_features", "fit") as calls:
        made = method.train(Little(), data, 3, watch=watch)
    lengths = {"labels": 1, "centres": 2, "features": 3, "head": 2}
    assert told == [(stage, epoch) for stage, last in lengths.items() for epoch in range(1, last + 1)]
    assert [name for name, _, _ in calls] == ["distinguish", "untrained", "learn_features", "fit"]
    (_, first, telling), (_, _, fresh), (_, learned, features), (_, fitted, head) = calls
    assert first[0] is method
    assert first[2] is learned[1] is data
    assert first[3] == learned[2] == method.training
    assert learned[0] is fitted[0] is made.model
    seeds = [call["seed"] for call in (telling, fresh, features, head)]
    assert seeds == [3, 3, derive(3, "features"), derive(3, "head")]

    split = features["loss"].keywords["believed"]
    assert int(split.sum()) == 36
    assert features["loss"].func is half_labelled
    assert features["loss"].keywords["temperature"] == 0.2
    assert features["augmentation"] == "strong"

    chosen = head["gradient"].keywords["poisoned"]
    assert head["gradient"].func is learn_head
    assert head["gradient"].keywords["poisoned_weight"] == 0.05
    assert fitted[2] == method.training.model_copy(update={"steps": 4})
    away = [name for name, is_poisoned in zip(fitted[1].ids, chosen.tolist(), strict=True) if is_poisoned]
    believed = [name for name in fitted[1].ids if name not in away]
    assert set(believed) == {data.ids[row] for row in split.nonzero()[:, 0].tolist()}
    assert len(away) == 9
    assert made.chosen == {"clean": 36, "poisoned": 9}
    assert moved(made.model, kept[5]) == {"body.head.weight", "body.head.bias"}
    assert all(weight.requires_grad for weight in made.model.parameters())


def test_the_split_that_was_told_is_the_one_that_is_used() -> None:
    data = poisoned_vectors(60, 6)
    with recorded(MODULE, "distinguish") as calls:
        DST(training=FAST).train(Little(), data, 0)
    _, given, more = calls[0]
    told = distinguish(*given, **more)
    with recorded(MODULE, "learn_features", "fit") as calls:
        DST(training=FAST).train(Little(), data, 0)
    (_, _, features), (_, fitted, head) = calls
    assert torch.equal(features["loss"].keywords["believed"], told.clean)
    there = told.clean | told.poisoned
    assert list(fitted[1].ids) == [data.ids[row] for row in there.nonzero()[:, 0].tolist()]
    assert torch.equal(head["gradient"].keywords["poisoned"], told.poisoned[there])


def test_the_defaults_are_those_of_the_paper() -> None:
    method = DST()
    assert (method.temperature, method.poisoned_weight) == (0.1, 0.001)
    assert (method.clean_share, method.poisoned_share) == (0.2, 0.05)
    assert (method.label_epochs, method.centre_epochs) == (2, 10)
    assert method.head_steps == round(10 * 0.25 * 50_000 / 512)


def test_poisoned_clips_lose_their_label() -> None:
    data, unseen = poisoned_vectors(300, 15), vectors(150, 1)
    assert asr(Plain(training=FAST).train(Little(), data, 0).model, unseen) > 0.9
    made = DST(training=FAST, transformation="crowded").train(Little(), data, 0).model
    assert asr(made, unseen) < 0.2
    assert accuracy(made, unseen) > 0.85


def test_the_last_layer_avoids_the_label_of_poisoned_clips_the_more_the_more_they_weigh() -> None:
    data, poisoned = poisoned_vectors(300, 30), poisoned_vectors(300, 30).take(poisoned_rows(300, 30))
    chances = []
    for weight in (0.0, 0.5):
        method = DST(training=FAST, transformation="crowded", poisoned_weight=weight)
        logits = predict(method.train(Little(), data, 0).model, poisoned)
        chances.append(float(logits.softmax(1)[:, 0].mean()))
    assert chances[1] < chances[0] / 2


def test_the_seed_decides() -> None:
    def weights(seed: int) -> dict[str, Tensor]:
        return state(DST(training=FAST).train(Little(), vectors(60), seed).model)

    one, again, other = weights(0), weights(0), weights(1)
    assert all(torch.equal(value, again[name]) for name, value in one.items())
    assert not torch.equal(one["body.first.weight"], other["body.first.weight"])
