"""Screened: who is dropped, by share or by threshold, and what is trained before and after."""

from typing import Any, ClassVar, Literal

import pytest
import torch
from torch import Tensor

from closesesame.core.errors import DataError, SettingError
from closesesame.core.seeding import derive
from closesesame.data import Dataset, Splits
from closesesame.detection import DETECTIONS, Detection
from closesesame.detection.base import hidden_order
from closesesame.models import Classifier
from closesesame.robust_training import Screened
from closesesame.training import Training, train
from tests.conftest import SMALL
from tests.removal.tiny import assert_same

pytestmark = pytest.mark.usefixtures("in_fp32")
BRIEF = Training(epochs=1, batch_size=16)
GIVEN: list[Any] = []


class ByPlace(Detection):
    """Score the clips by their place, the first highest, or all alike."""

    name: ClassVar[str] = "by_place"
    cite: ClassVar[str] = "a test"
    of: ClassVar[Literal["training clips", "inputs"]] = "training clips"

    above: float | None = None
    alike: bool = False

    def suspicion(self, model: Classifier, examples: Dataset, clean: Dataset, seed: int) -> Tensor:
        GIVEN.append((model, examples.ids, len(clean), seed))
        return torch.zeros(len(examples)) if self.alike else -torch.arange(len(examples))

    def flags_above(self) -> float | None:
        return self.above


class NeedsClean(ByPlace):
    """The same with clean clips."""

    name: ClassVar[str] = "needs_clean"
    needs_clean: ClassVar[bool] = True


@pytest.fixture(autouse=True)
def known(monkeypatch: pytest.MonkeyPatch) -> None:
    GIVEN.clear()
    for method in (ByPlace, NeedsClean):
        monkeypatch.setitem(DETECTIONS._methods, method.name, method)


@pytest.mark.parametrize(
    ("settings", "first"),
    [
        ({"dropped_share": 0.25}, 10),
        ({"detection_settings": {"above": -5.5}}, 6),
        ({"detection_settings": {"above": -5.5}, "dropped_share": 0.25}, 10),
        ({"dropped_share": 0.0}, 0),
    ],
)
def test_the_most_suspicious_are_dropped_and_the_rest_is_trained_on_again(
    settings: dict[str, Any], first: int, tones: Splits
) -> None:
    data, told = tones.train.take(torch.arange(40)), list[tuple[str, int]]()
    robust = Screened(training=BRIEF, detection="by_place", **settings)
    made = robust.train(SMALL, data, 5, watch=lambda stage, epoch, _: told.append((stage, epoch)))
    assert made.chosen == {"dropped_clips": first, "dropped_classes": []}
    assert told == [("training", 1), ("again", 1)]
    kept = hidden_order(data)[first:].sort().values
    assert_same(made.model, train(SMALL, data.take(kept), BRIEF, seed=5))
    suspect, ids, clean, seed = GIVEN.pop()
    assert_same(suspect, train(SMALL, data, BRIEF, seed=5))
    assert (ids, clean, seed) == (
        tuple(data.ids[row] for row in hidden_order(data)),
        0,
        derive(5, "detection"),
    )


def test_of_equal_scores_as_many_are_dropped_as_asked(tones: Splits) -> None:
    data = tones.train.take(torch.arange(40))
    robust = Screened(
        training=BRIEF, detection="by_place", detection_settings={"alike": True}, dropped_share=0.1
    )
    assert robust.train(SMALL, data, 0).chosen["dropped_clips"] == 4


def test_a_class_of_which_nothing_is_left_is_named(tones: Splits, monkeypatch: pytest.MonkeyPatch) -> None:
    data = tones.train.take(torch.arange(40))

    def scores(self: Any, model: Classifier, examples: Dataset, clean: Dataset, seed: int) -> Tensor:
        return (examples.labels == 1).double()

    monkeypatch.setattr(ByPlace, "suspicion", scores)
    share = float((data.labels == 1).float().mean())
    made = Screened(training=BRIEF, detection="by_place", dropped_share=share).train(SMALL, data, 0)
    assert made.chosen["dropped_classes"] == [data.classes[1]]
    (said,) = made.remarks
    assert said.endswith(f"so the model does not know them: {data.classes[1]}")


def test_clean_clips_are_asked_for_if_the_detection_needs_some(tones: Splits) -> None:
    data = tones.train.take(torch.arange(40))
    robust = Screened(training=BRIEF, detection="needs_clean", dropped_share=0.1)
    assert robust.wants_clean()
    assert not Screened(detection="by_place", dropped_share=0.1).wants_clean()
    with pytest.raises(DataError, match="screened needs clean examples"):
        robust.train(SMALL, data, 0)
    robust.train(SMALL, data, 0, clean=tones.validation)
    assert GIVEN.pop()[2] == len(tones.validation)


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"detection": "dynamic"}, r"Screened.detection must be the name of a detection: .*'dynamics'"),
        ({"detection": "nowhere:Nothing"}, "Screened.detection must be the name of a detection: .*not ours"),
        (
            {"detection": "by_place", "detection_settings": {"abov": 1}},
            "Screened.detection_settings must be settings of by_place: .*'above'",
        ),
        ({"detection": "by_place"}, "Screened.dropped_share must be a share with by_place, which names no"),
        ({"dropped_share": 1}, r"Screened.dropped_share must be <= 0.95"),
    ],
)
def test_wrong_settings_are_one_sentence(settings: dict[str, Any], sentence: str) -> None:
    with pytest.raises(SettingError, match=sentence):
        Screened(**settings)


def test_without_settings_the_threshold_of_dynamics_decides() -> None:
    assert Screened()._detection() == DETECTIONS.make("dynamics")
    assert Screened().dropped_share is None
