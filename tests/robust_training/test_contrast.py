"""Features without labels: the loss by hand, and that labels are not looked at."""

import math
from functools import partial

import pytest
import torch

from closesesame.models import Classifier
from closesesame.robust_training.common.contrast import contrast, learn_features
from closesesame.training import Batch, Training
from tests.removal.tiny import state, vectors
from tests.robust_training.tiny import FAST, Little


def test_the_other_view_of_a_clip_is_to_be_found_among_all_other_views() -> None:
    """Two clips, two views each, at 0, 90, 60 and 120 degrees; lengths do not matter."""
    angles = torch.tensor([0.0, 90.0, 60.0, 120.0]).deg2rad()
    features = torch.stack([angles.cos(), angles.sin()], 1) * torch.tensor([[1.0], [2.0], [3.0], [0.5]])

    def term(own: float, *others: float) -> float:
        near = [math.exp(math.cos(math.radians(angle)) / 0.5) for angle in (own, *others)]
        return -math.log(near[0] / sum(near))

    by_hand = term(60, 90, 120) + term(30, 90, 30) + term(60, 30, 60) + term(30, 120, 60)
    batch = Batch(torch.zeros(2, 5), torch.zeros(2, dtype=torch.long), torch.tensor([7, 4]))
    assert float(contrast(features, batch, 0.5)) == pytest.approx(by_hand / 4, rel=1e-5)


def made(temperature: float = 0.5, *, turned: bool = False, epochs: int = 3, **more: object) -> Classifier:
    data = vectors(60)
    data = data.with_labels((data.labels + 1) % 3) if turned else data
    model = Little().build(data.classes, data.input_shape, None, seed=0)
    told: list[int] = []
    learn_features(
        model,
        data,
        FAST.model_copy(update={"epochs": epochs, **more}),
        loss=partial(contrast, temperature=temperature),
        augmentation="strong",
        seed=1,
        after_epoch=lambda epoch, _: told.append(epoch),
    )
    assert told == list(range(1, epochs + 1))
    return model


def test_labels_and_the_last_layer_play_no_part() -> None:
    one, two = state(made()), state(made(turned=True))
    assert all(torch.equal(value, two[name]) for name, value in one.items())
    fresh = Little().build(vectors(3).classes, (5,), None, seed=0)
    assert torch.equal(one["body.head.weight"], fresh.state_dict()["body.head.weight"])
    assert not torch.equal(one["body.first.weight"], fresh.state_dict()["body.first.weight"])
    for other in (made(temperature=0.1), made(lr=0.001)):
        assert not torch.equal(one["body.first.weight"], state(other)["body.first.weight"])


def test_views_are_augmented_though_the_training_is_not() -> None:
    assert Training.model_validate(FAST).augmentation == "none"
    data = vectors(60)
    found = []
    for augmentation in ("none", "strong"):
        model = Little().build(data.classes, data.input_shape, None, seed=0)
        learn_features(
            model,
            data,
            FAST.for_epochs(2),
            loss=partial(contrast, temperature=0.5),
            augmentation=augmentation,
            seed=1,
        )
        found.append(state(model)["body.first.weight"])
    assert not torch.equal(*found)
