"""FixMatch: the loss by hand, whose labels count, and what it is good for."""

import math

import pytest
import torch
from torch import Generator, Tensor, nn

from closesesame.audio.augment import Augmentation
from closesesame.data import Dataset
from closesesame.models import Classifier, adapt
from closesesame.models.front_ends import Identity
from closesesame.training import Batch, Training, accuracy, fit
from closesesame.training.fixmatch import FixMatch, FixMatchRule
from tests.removal.tiny import state, tiny, vectors


class Shifting(Identity):
    """Its light augmentation adds (1, 0), its strong one (0, 1)."""

    def augmentation(self, strength: str) -> Augmentation | None:
        steps = {"light": torch.tensor([1.0, 0.0]), "strong": torch.tensor([0.0, 1.0])}

        def add(features: Tensor, rng: Generator) -> Tensor:
            return features + steps[strength]

        return None if strength == "none" else add


class Plain(nn.Module):
    """Logits are the two inputs, times a weight of 1."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.scale


INPUTS = torch.tensor([[0.5, 0.0], [3.0, 0.0], [0.0, 3.5], [0.2, 0.1], [4.0, 0.0]])
LABELS = torch.tensor([1, 1, 0, 0, 1])
DATA = Dataset.of(INPUTS, LABELS, classes=("a", "b"))
ONE = torch.tensor([True, False, False, False, False])


def model() -> Classifier:
    return adapt(Plain(), ("a", "b"), (2,), None, Shifting())


def ce(first: float, second: float, label: int) -> float:
    total = math.log(math.exp(first) + math.exp(second))
    return total - (first, second)[label]


def test_the_loss_is_that_of_the_formula() -> None:
    """Weak answers: 0.98 for a, 0.92 for b, 0.75 for a; strong views are learned where 0.9 is reached."""
    rule = FixMatchRule(model(), DATA, ONE, FixMatch(threshold=0.9, ratio=4, unlabelled_weight=3.0), 0)
    body, rows = model().body, torch.tensor([0, 1, 2, 3])
    loss = rule(body, Batch(INPUTS[rows], LABELS[rows], rows))
    labelled = ce(1.5, 0.0, 1)
    # The labelled example is confident enough in no view, and would not count if it were; example 3 is not.
    unlabelled = (ce(3.0, 1.0, 0) + ce(0.0, 4.5, 1)) / 3
    assert float(loss.detach()) == pytest.approx(labelled + 3 * unlabelled, rel=1e-5)
    slope = next(body.parameters()).grad
    p = [1 / (1 + math.exp(-difference)) for difference in (1.5, 2.0, -4.5)]  # of class a
    by_hand = p[0] * 1.5 + 3 * ((p[1] - 1) * 3 + (1 - p[1]) * 1 + p[2] * 0 + (1 - p[2] - 1) * 4.5) / 3
    assert slope is not None
    assert float(slope) == pytest.approx(by_hand, rel=1e-4)


def test_a_labelled_example_is_not_among_the_unlabelled_ones() -> None:
    rows = torch.tensor([1, 4])
    losses = []
    for labelled in (torch.arange(5) == 4, torch.arange(5) >= 3):
        rule = FixMatchRule(model(), DATA, labelled, FixMatch(threshold=0.9, weak="none"), 0)
        losses.append(float(rule(model().body, Batch(INPUTS[rows], LABELS[rows], rows)).detach()))
    drawn = {
        round(ce(*pair, label), 4): name for pair, label, name in (((4.0, 0.0), 1, 4), ((0.2, 0.1), 0, 3))
    }
    for loss in losses:  # the one unlabelled example of the batch is its mean
        assert round(loss - ce(3.0, 1.0, 0), 4) in drawn


def test_labelled_examples_are_one_for_each_ratio_unlabelled_ones_and_both_are_learned_on() -> None:
    sizes: list[int] = []
    network = tiny()
    network.body.register_forward_pre_hook(lambda _, inputs: sizes.append(len(inputs[0])))
    rule = FixMatchRule(
        network, vectors(60), torch.arange(60) < 9, FixMatch(ratio=3, weak="none", strong="none"), 0
    )
    rule.fit(Training(steps=1, batch_size=30, precision="fp32"))
    assert sizes[-2:] == [30, 40]  # weak views, then labelled and strong ones


def test_labels_of_unlabelled_examples_are_not_looked_at_and_those_of_labelled_ones_are() -> None:
    data, known = vectors(60), torch.arange(60) < 9
    settings = FixMatch(weak="none", strong="none", threshold=0.5)
    found = []
    for rows in (torch.arange(0), torch.arange(9, 60), torch.arange(3)):
        labels = data.labels.clone()
        labels[rows] = (labels[rows] + 1) % 3
        network = tiny()
        rule = FixMatchRule(network, data.with_labels(labels), known, settings, 0)
        rule.fit(Training(epochs=2, batch_size=20, precision="fp32"))
        found.append(state(network))
    assert all(torch.equal(value, found[1][name]) for name, value in found[0].items())
    assert not torch.equal(found[0]["body.head.weight"], found[2]["body.head.weight"])


def test_the_labelled_may_be_replaced_between_epochs() -> None:
    data = vectors(60)
    rule = FixMatchRule(tiny(), data, torch.arange(60) < 1, FixMatch(weak="none", strong="none"), 0)
    seen: list[int] = []

    def more(epoch: int, model: Classifier) -> None:
        rule.labelled = torch.arange(60) < 60
        seen.append(
            int(
                rule._labelled_examples(50, Batch(data.inputs[:2], data.labels[:2], torch.arange(2)))[1].max()
            )
        )

    rule.fit(Training(epochs=2, batch_size=20, precision="fp32"), after_epoch=more)
    assert seen == [2, 2]


def test_unlabelled_examples_help_where_labels_are_few() -> None:
    """Three labels, and clusters that lie apart."""
    data, known = vectors(300), torch.arange(300) < 3
    training = Training(epochs=20, batch_size=30, lr=0.02, precision="fp32")
    found = []
    for weight in (0.0, 1.0):
        network = tiny()
        settings = FixMatch(threshold=0.7, unlabelled_weight=weight, weak="none", strong="none")
        FixMatchRule(network, data, known, settings, 0).fit(training)
        found.append(accuracy(network, vectors(300, 1)))
    assert found[1] > found[0] + 0.05
    supervised = tiny()
    fit(supervised, data, training.model_copy(update={"augmentation": "none"}), seed=0)
    assert found[1] < accuracy(supervised, vectors(300, 1)) + 0.02


def test_each_training_with_a_rule_has_an_order_of_its_own() -> None:
    orders: list[Tensor] = []

    class Noted(FixMatchRule):
        def __call__(self, body: nn.Module, batch: Batch) -> Tensor:
            orders.append(batch.index)
            return super().__call__(body, batch)

    rule = Noted(model(), DATA, ONE, FixMatch(), 3)
    for _ in range(2):
        rule.fit(Training(epochs=4, batch_size=5, precision="fp32"))
    assert not torch.equal(torch.stack(orders[:4]), torch.stack(orders[4:]))
    first = orders[:4]
    orders.clear()
    Noted(model(), DATA, ONE, FixMatch(), 3).fit(Training(epochs=4, batch_size=5, precision="fp32"))
    assert torch.equal(torch.stack(orders), torch.stack(first))
