"""D-BR: the sensitivity by hand, what is unlearned and relearned, and what is left of a backdoor."""

import pytest
import torch
from torch import Tensor

from closesesame.models import Classifier
from closesesame.robust_training import DBR
from closesesame.robust_training.dbr import likeness_of_means, sensitivity
from closesesame.training.features import features_of
from tests.removal.tiny import tiny, vectors
from tests.robust_training.tiny import FAST, Little, poisoned_vectors, recorded

MODULE = "closesesame.robust_training.dbr"


def test_the_mean_features_of_classes_are_compared_by_their_angle() -> None:
    """Means (1, 0), (1, 1) and (0, 2), of lengths that do not matter; a class with itself counts as 0."""
    features = torch.tensor([[2.0, 0.0], [0.0, 0.0], [3.0, 3.0], [0.0, 2.0]])
    labels = torch.tensor([4, 4, 0, 2])
    by_hand = 2 * (0.5**0.5 + 0 + 0.5**0.5) / 9
    assert float(likeness_of_means(features, labels)) == pytest.approx(by_hand, rel=1e-5)


def test_sensitivity_is_the_mean_squared_difference_of_the_features() -> None:
    data, model = vectors(300), tiny().eval()
    steps = [torch.zeros(5), torch.tensor([0.0, 0.0, 0.0, 0.0, 2.0])]
    turn: list[int] = []

    def augment(features: Tensor, rng: torch.Generator) -> Tensor:
        turn.append(len(features))
        return features + steps[len(turn) % 2]

    asked: list[str] = []
    model.front_end.augmentation = lambda strength: asked.append(strength) or augment  # type: ignore[method-assign,func-returns-value]
    found = sensitivity(model, data, "light", 0)
    assert asked == ["light"]
    assert turn == [256, 256, 44, 44]
    moved = data.with_inputs(type(data.inputs).of(data.inputs[:] + steps[1]))
    by_hand = (features_of(model, moved) - features_of(model, data)).square().mean(1)
    assert torch.allclose(found, by_hand, atol=1e-5)


@pytest.mark.parametrize("how", ["ascent", "complementary"])
def test_the_most_sensitive_are_unlearned_and_the_least_relearned_in_turn(how: str) -> None:
    data = poisoned_vectors(90, 9)
    method = DBR(
        training=FAST.model_copy(update={"epochs": 2}),
        label_epochs=1,
        centre_epochs=3,
        transformation="light",
        clean_share=0.3,
        poisoned_share=0.1,
        unlearning=how,
        repair_epochs=2,
        repair_lr=0.003,
    )
    told: list[tuple[str, int]] = []
    with recorded(MODULE, "fit", "sensitivity", "unlearn", "relearn") as calls:
        made = method.train(Little(), data, 3, watch=lambda stage, epoch, _: told.append((stage, epoch)))
    lengths = {"labels": 1, "centres": 3, "training": 2, "repair": 2}
    assert told == [(stage, epoch) for stage, last in lengths.items() for epoch in range(1, last + 1)]
    names = [name for name, _, _ in calls]
    assert names == ["fit", "fit", "sensitivity", "fit", "unlearn", "relearn", "unlearn", "relearn"]
    given = [given for _, given, _ in calls]
    assert [settings.epochs for settings in (given[0][2], given[1][2], given[3][2])] == [1, 3, 2]
    assert given[0][2].augmentation == "none"
    assert given[3][2] == method.training
    second, repaired = given[0][0], given[3][0]
    assert second is given[1][0] is given[2][0]
    assert repaired is given[4][0] is given[5][0] is made.model
    assert second is not repaired
    assert given[2][2] == "light"
    changes = sensitivity(*given[2])
    order = changes.argsort().tolist()
    assert set(given[4][1].ids) == {data.ids[row] for row in order[-9:]}
    assert set(given[5][1].ids) == {data.ids[row] for row in order[:27]}
    assert given[4][2] == how
    for _, _, more in calls[4:]:
        assert (more["epochs"], more["lr"]) == (1, 0.003)
    assert made.chosen == {"unlearned": 9, "relearned": 27}


def test_augmentation_is_not_used_while_clips_are_told_apart() -> None:
    training = FAST.model_copy(update={"augmentation": "light", "epochs": 1})
    with recorded(MODULE, "fit") as calls:
        DBR(training=training, label_epochs=1, centre_epochs=1, repair_epochs=0).train(
            Little(), vectors(60), 0
        )
    assert [given[2].augmentation for _, given, _ in calls] == ["none", "none", "light"]


def test_class_means_are_spread_by_the_second_part() -> None:
    data = poisoned_vectors(90, 9)
    found: list[float] = []

    def watch(stage: str, epoch: int, model: Classifier) -> None:
        if stage in {"labels", "centres"}:
            found.append(float(likeness_of_means(features_of(model, data), data.labels)))

    DBR(training=FAST.model_copy(update={"epochs": 1}), repair_epochs=0).train(Little(), data, 0, watch=watch)
    assert len(found) == 12
    assert found[-1] < found[1] - 0.1
