"""What robust trainings share: what they are shown, and what is refused."""

from typing import Any, ClassVar

import pytest
import torch

from closesesame.core.errors import DataError, DivergedError, ModelError, SettingError
from closesesame.data import Dataset, Splits
from closesesame.models import Architecture, Classifier
from closesesame.robust_training import Plain, RobustTraining, Watch
from closesesame.training import Training, train
from tests.conftest import QUICK, SMALL


def test_what_cannot_be_trained_on_is_refused(tones: Splits) -> None:
    with pytest.raises(DataError, match="training needs examples of two classes"):
        Plain().train(SMALL, tones.train.take(torch.zeros(4, dtype=torch.long)), 0, clean=tones.validation)
    with pytest.raises(SettingError, match=r"training.patience must be none: .* no trusted examples"):
        Plain(training=Training(patience=3))


def test_plain_training_is_ordinary_training_bit_by_bit(tones: Splits) -> None:
    made = Plain(training=QUICK).train(SMALL, tones.train, 3)
    wanted = train(SMALL, tones.train, QUICK, seed=3).state_dict()
    assert all(torch.equal(value, wanted[key]) for key, value in made.model.state_dict().items())
    assert made.model.state_dict().keys() == wanted.keys()
    assert Plain().training == Training()


SEEN: list[Dataset | None] = []


class Looking(RobustTraining):
    """Notes what it is given."""

    name: ClassVar[str] = "looking"
    cite: ClassVar[str] = "a test"
    broken: bool = False

    def learn(
        self,
        architecture: Architecture,
        untrusted: Dataset,
        clean: Dataset | None,
        seed: int,
        watch: Watch,
    ) -> tuple[Classifier, dict[str, Any]]:
        SEEN.append(clean)
        model = architecture.build(untrusted.classes, untrusted.input_shape, untrusted.sample_rate, seed=seed)
        if self.broken:
            next(model.body.parameters()).data.fill_(torch.nan)
        return model.train(), {"kept": 3}


class LookingAtClean(Looking):
    """Needs clean examples."""

    needs_clean: ClassVar[bool] = True


def test_clean_examples_are_shown_to_those_that_need_them_and_to_nobody_else(tones: Splits) -> None:
    made = Looking().train(SMALL, tones.train, 0, clean=tones.validation)
    assert SEEN.pop() is None
    assert made.chosen == {"kept": 3}
    assert not made.model.training
    turned = tones.validation.with_classes(("top", "low", "high", "middle"))
    LookingAtClean().train(SMALL, tones.train, 0, clean=turned)
    clean = SEEN.pop()
    assert clean is not None
    assert clean.classes == tones.train.classes
    assert torch.equal(clean.labels, tones.validation.labels)
    with pytest.raises(DataError, match="looking needs clean examples beside the untrusted ones"):
        LookingAtClean().train(SMALL, tones.train, 0)
    other = Dataset.of(torch.zeros(8, 4000), torch.arange(8) % 2, sample_rate=16_000)
    with pytest.raises(ModelError, match=r"clean set holds clips of 0.25 s at 16,000 Hz, and the untrusted"):
        LookingAtClean().train(SMALL, tones.train, 0, clean=other)
    named = Dataset.of(torch.zeros(8, 4000), torch.arange(8) % 2, sample_rate=8_000, classes=["x", "y"])
    with pytest.raises(DataError, match="class 'x' is not among those given"):
        LookingAtClean().train(SMALL, tones.train, 0, clean=named)


def test_weights_that_are_no_numbers_are_refused(tones: Splits) -> None:
    with pytest.raises(DivergedError, match="looking left weights that are NaN or infinite"):
        Looking(broken=True).train(SMALL, tones.train, 0)
