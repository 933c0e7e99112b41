"""D-BR: what is unlearned and relearned in turn, and how classes are spread."""

import pytest

from closesesame.models import Classifier
from closesesame.robust_training import DBR
from closesesame.robust_training.common.unlearning import by_sgd
from closesesame.training.features import feature_changes, features_of, likeness_of_means
from tests.removal.tiny import vectors
from tests.robust_training.tiny import FAST, Little, poisoned_vectors, recorded

MODULE = "closesesame.robust_training.dbr"


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
        rounds=2,
        unlearning_steps=3,
        relearning_steps=5,
        repair_lr=0.003,
    )
    told: list[tuple[str, int]] = []
    with recorded(MODULE, "fit", "feature_changes", "unlearn", "relearn") as calls:
        made = method.train(Little(), data, 3, watch=lambda stage, epoch, _: told.append((stage, epoch)))
    lengths = {"labels": 1, "centres": 3, "training": 2, "repair": 2}
    assert told == [(stage, epoch) for stage, last in lengths.items() for epoch in range(1, last + 1)]
    names = [name for name, _, _ in calls]
    assert names == ["fit", "fit", "feature_changes", "fit", "unlearn", "relearn", "unlearn", "relearn"]
    given = [given for _, given, _ in calls]
    assert [settings.epochs for settings in (given[0][2], given[1][2], given[3][2])] == [1, 3, 2]
    assert given[0][2].augmentation == "none"
    assert given[3][2] == method.training
    second, repaired = given[0][0], given[3][0]
    assert second is given[1][0] is given[2][0]
    assert repaired is given[4][0] is given[5][0] is made.model
    assert second is not repaired
    assert given[2][2:4] == ("light", 1)
    changes = feature_changes(*given[2])
    order = changes.argsort().tolist()
    assert set(given[4][1].ids) == {data.ids[row] for row in order[-9:]}
    assert set(given[5][1].ids) == {data.ids[row] for row in order[:27]}
    assert given[4][2] == how
    for _, parts, _ in calls[4:]:
        steps = 3 if parts[2] == how else 5
        assert parts[-1] == by_sgd(method.training, steps=steps, lr=0.003, weight_decay=5e-4)
    assert made.chosen == {"unlearned": 9, "relearned": 27}


def test_augmentation_is_not_used_while_clips_are_told_apart() -> None:
    training = FAST.model_copy(update={"augmentation": "light", "epochs": 1})
    with recorded(MODULE, "fit") as calls:
        DBR(training=training, label_epochs=1, centre_epochs=1, rounds=0).train(Little(), vectors(60), 0)
    assert [given[2].augmentation for _, given, _ in calls] == ["none", "none", "light"]


def test_class_means_are_spread_by_the_second_part() -> None:
    data = poisoned_vectors(90, 9)
    found: list[float] = []

    def watch(stage: str, epoch: int, model: Classifier) -> None:
        if stage in {"labels", "centres"}:
            found.append(float(likeness_of_means(features_of(model, data), data.labels)))

    DBR(training=FAST.model_copy(update={"epochs": 1}), rounds=0).train(Little(), data, 0, watch=watch)
    assert len(found) == 12
    assert found[-1] < found[1] - 0.1
