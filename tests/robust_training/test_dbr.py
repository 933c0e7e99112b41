"""D-BR: what is unlearned and relearned in turn."""

import pytest

from closesesame.robust_training import DBR
from closesesame.robust_training.common.unlearning import by_sgd
from closesesame.training.features import feature_changes
from tests.removal.tiny import vectors
from tests.robust_training.tiny import FAST, Little, poisoned_vectors, recorded

MODULE = "closesesame.robust_training.dbr"
TELLING = "closesesame.robust_training.common.distinguishing"


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
    with (
        recorded(MODULE, "distinguish", "fit", "unlearn", "relearn") as calls,
        recorded(TELLING, "feature_changes") as compared,
    ):
        made = method.train(Little(), data, 3, watch=lambda stage, epoch, _: told.append((stage, epoch)))
    lengths = {"labels": 1, "centres": 3, "training": 2, "repair": 2}
    assert told == [(stage, epoch) for stage, last in lengths.items() for epoch in range(1, last + 1)]
    names = [name for name, _, _ in calls]
    assert names == ["distinguish", "fit", "unlearn", "relearn", "unlearn", "relearn"]
    given = [given for _, given, _ in calls]
    assert given[0][0] is method
    assert given[1][2] == method.training
    assert given[1][0] is given[2][0] is given[3][0] is made.model
    assert compared[0][1][0] is not made.model
    order = feature_changes(*compared[0][1]).argsort().tolist()
    assert set(given[2][1].ids) == {data.ids[row] for row in order[-9:]}
    assert set(given[3][1].ids) == {data.ids[row] for row in order[:27]}
    assert given[2][2] == how
    for _, parts, _ in calls[2:]:
        steps = 3 if parts[2] == how else 5
        assert parts[-1] == by_sgd(method.training, steps=steps, lr=0.003, weight_decay=5e-4)
    assert made.chosen == {"unlearned": 9, "relearned": 27}


def test_the_model_is_trained_with_augmentation() -> None:
    training = FAST.model_copy(update={"augmentation": "light", "epochs": 1})
    with recorded(MODULE, "fit") as calls:
        DBR(training=training, label_epochs=1, centre_epochs=1, rounds=0).train(Little(), vectors(60), 0)
    assert [given[2].augmentation for _, given, _ in calls] == ["light"]
