"""Clean and poisoned clips are told apart by how far their features move."""

import pytest
import torch

from closesesame.core.errors import SettingError
from closesesame.core.seeding import derive
from closesesame.models import Classifier
from closesesame.robust_training.base import unwatched
from closesesame.robust_training.common.distinguishing import Distinguishing, Told, distinguish
from closesesame.training.features import feature_changes, features_of, likeness_of_means
from tests.removal.tiny import vectors
from tests.robust_training.tiny import FAST, Little, poisoned_rows, poisoned_vectors, recorded

MODULE = "closesesame.robust_training.common.distinguishing"


def told_of(seed: int = 3, **settings: object) -> Told:
    how = Distinguishing(**settings)
    return distinguish(how, Little(), poisoned_vectors(90, 9), FAST, seed=seed, watch=unwatched)


def test_clips_with_the_lowest_and_the_highest_changes_are_told() -> None:
    training = FAST.model_copy(update={"augmentation": "light", "steps": 2})
    data = poisoned_vectors(90, 9)
    how = Distinguishing(
        label_epochs=1, centre_epochs=3, transformation="light", clean_share=0.3, poisoned_share=0.1
    )
    seen: list[tuple[str, int]] = []
    with recorded(MODULE, "untrained", "fit", "feature_changes") as calls:
        told = distinguish(
            how, Little(), data, training, seed=3, watch=lambda stage, epoch, _: seen.append((stage, epoch))
        )
    assert seen == [("labels", 1), ("centres", 1), ("centres", 2), ("centres", 3)]
    assert [name for name, _, _ in calls] == ["untrained", "fit", "fit", "feature_changes"]
    (_, _, fresh), (_, labels, on_labels), (_, centres, on_centres), (_, compared, _) = calls
    assert labels[0] is centres[0] is compared[0]
    for parts, epochs in ((labels, 1), (centres, 3)):
        assert parts[1] is data
        assert parts[2] == FAST.model_copy(update={"epochs": epochs})  # neither steps nor augmentation
    assert on_labels["gradient"] is None
    assert on_centres["gradient"] is not None
    assert compared[2:4] == ("light", 1)
    seeds = [fresh["seed"], on_labels["seed"], on_centres["seed"], compared[4]]
    purposes = ("second network", "labels", "centres", "transformations")
    assert seeds == [derive(3, purpose) for purpose in purposes]
    order = feature_changes(*compared).argsort().tolist()
    assert set(told.clean.nonzero()[:, 0].tolist()) == set(order[:27])
    assert set(told.poisoned.nonzero()[:, 0].tolist()) == set(order[-9:])


def test_clips_that_change_as_the_trigger_goes_count_as_poisoned() -> None:
    told, poisoned = told_of(transformation="crowded"), torch.zeros(90, dtype=torch.bool)
    poisoned[poisoned_rows(90, 9)] = True
    assert (int(told.clean.sum()), int(told.poisoned.sum())) == (18, 4)
    assert not (told.clean & poisoned).any()
    assert poisoned[told.poisoned].all()


def test_there_are_two_of_each_at_least_and_the_seed_decides() -> None:
    few = told_of(clean_share=0.001, poisoned_share=0.001)
    assert (int(few.clean.sum()), int(few.poisoned.sum())) == (2, 2)
    assert all(torch.equal(one, two) for one, two in zip(told_of(), told_of(), strict=True))
    assert not torch.equal(told_of().clean, told_of(seed=4).clean)


def test_no_clip_counts_as_clean_and_as_poisoned() -> None:
    assert Distinguishing(clean_share=0.8, poisoned_share=0.2).clean_share == 0.8
    with pytest.raises(SettingError, match=r"may be 1 in all, got 0\.8 and 0\.3"):
        Distinguishing(clean_share=0.8, poisoned_share=0.3)


def test_class_means_are_spread_by_the_second_part() -> None:
    data = poisoned_vectors(90, 9)
    found: list[float] = []

    def watch(stage: str, epoch: int, model: Classifier) -> None:
        found.append(float(likeness_of_means(features_of(model, data), data.labels)))

    distinguish(Distinguishing(), Little(), data, FAST, seed=0, watch=watch)
    assert len(found) == 12
    assert found[-1] < found[1] - 0.1


def test_the_clips_are_not_changed() -> None:
    data = vectors(60)
    before = data.inputs[:].clone()
    distinguish(Distinguishing(), Little(), data, FAST, seed=0, watch=unwatched)
    assert torch.equal(data.inputs[:], before)
