"""ASD: which clips are in the clean pool, part by part, and what is left of a backdoor."""

import copy
import math
from typing import Any

import pytest
import torch
from torch import Tensor

from closesesame.data import Dataset
from closesesame.models import Classifier
from closesesame.robust_training import ASD, Plain
from closesesame.robust_training.asd import lowest_of_each, shortened
from closesesame.robust_training.common.splitting import lowest, symmetric_losses
from closesesame.training import Training, accuracy, fit, predict
from closesesame.training.fixmatch import FixMatch, FixMatchRule
from tests.removal.tiny import asr, vectors
from tests.robust_training.tiny import FAST, Little, poisoned_vectors, recorded

MODULE = "closesesame.robust_training.asd"


def test_the_lowest_of_each_label_are_chosen() -> None:
    losses = torch.tensor([5.0, 1.0, 4.0, 3.0, 0.0, 2.0])
    labels = torch.tensor([0, 0, 0, 2, 2, 2])
    assert lowest_of_each(losses, labels, 2).nonzero()[:, 0].tolist() == [1, 2, 4, 5]
    assert int(lowest_of_each(losses, labels, 0).sum()) == 0


def test_a_part_is_as_long_as_its_share() -> None:
    assert shortened(Training(epochs=15), 0.5).epochs == 8
    assert shortened(Training(epochs=15), 0.25).epochs == 4
    assert shortened(Training(epochs=1), 0.25).epochs == 1
    assert shortened(Training(steps=10), 0.25).steps == 3


def test_the_pool_grows_then_is_the_half_that_fits_best_then_the_half_that_falls_least() -> None:
    data, clean = poisoned_vectors(90, 9), vectors(6, 5)
    method = ASD(
        training=FAST.model_copy(update={"epochs": 4}),
        growth=5,
        labelled_share=0.3,
        fixmatch=FixMatch(threshold=0.6),
    )
    seen: list[tuple[str, int, torch.Tensor]] = []
    rules: list[Any] = []

    def watch(part: str, epoch: int, model: Classifier) -> None:
        losses = symmetric_losses(predict(model, data).double(), data.labels)
        rule = rules[0]
        chosen = rule.labelled[:90]
        assert rule.labelled[90:].all()  # clean clips always keep their labels
        seen.append((part, epoch, chosen))
        if part == "class_aware":
            assert torch.equal(chosen, lowest_of_each(losses, data.labels, 5 * epoch))
        elif part == "class_agnostic":
            assert torch.equal(chosen, lowest(losses, 0.3))
        else:
            assert int(chosen.sum()) == 27

    def keep(*given: Any) -> Any:
        rules.append(real(*given))
        return rules[-1]

    from closesesame.robust_training import asd

    real = FixMatchRule
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(asd, "FixMatchRule", keep)
        made = method.train(Little(), data, 3, clean=clean, watch=watch)
    assert [(part, epoch) for part, epoch, _ in seen] == [
        ("class_aware", 1),
        ("class_aware", 2),
        ("class_agnostic", 1),
        ("meta", 1),
    ]
    assert made.chosen == {"labelled": 27}
    assert rules[0].settings == FixMatch(threshold=0.6)


def test_only_clean_clips_have_labels_at_first() -> None:
    data, clean = poisoned_vectors(90, 9), vectors(6, 5)
    with recorded(MODULE, "FixMatchRule") as calls:
        ASD(training=FAST.model_copy(update={"epochs": 1})).train(Little(), data, 3, clean=clean)
    (_, (_, joined, labelled, *_), _) = calls[0]
    assert labelled.tolist() == [False] * 90 + [True] * 6
    assert torch.equal(joined.inputs[:], torch.cat([data.inputs[:], clean.inputs[:]]))
    assert torch.equal(joined.labels, torch.cat([data.labels, clean.labels]))


def by_hand(model: Classifier, data: Dataset) -> Tensor:
    """0.1 CE(label, p) + CE(p, label), where the logarithm of a wrong label's 0 is that of 1e-4."""
    p = predict(model, data).softmax(1)
    own = p.gather(1, data.labels[:, None])[:, 0]
    return -0.1 * own.log() - math.log(1e-4) * (p.sum(1) - own)


def test_a_fall_is_the_loss_before_less_the_loss_after_one_more_epoch_of_a_copy() -> None:
    data = vectors(60)
    model = Little().build(data.classes, data.input_shape, None, seed=0).eval()
    before = copy.deepcopy(model.state_dict())
    method = ASD(training=FAST)
    falls = method.falls(model, data, 3)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    old = by_hand(model, data)
    fit(model, data, FAST.model_copy(update={"epochs": 1}), seed=3)
    assert torch.allclose(falls.float(), old - by_hand(model, data), atol=1e-5)
    assert falls.mean() > 0
    assert torch.equal(method.pool("meta", 1, model, data, 3), lowest(method.falls(model, data, 3), 0.5))


def test_poisoned_clips_stay_out_of_the_pool() -> None:
    data, unseen = poisoned_vectors(300, 30), vectors(150, 1)
    assert asr(Plain(training=FAST).train(Little(), data, 0).model, unseen) > 0.9
    method = ASD(training=FAST.model_copy(update={"epochs": 16}), fixmatch=FixMatch(threshold=0.8))
    made = method.train(Little(), data, 0, clean=vectors(30, 5)).model
    assert asr(made, unseen) < 0.2
    assert accuracy(made, unseen) > 0.85
