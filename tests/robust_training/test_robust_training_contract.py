"""What holds for every robust training."""

from typing import Any, ClassVar

import pytest
import torch

from closesesame.core.errors import DataError, DivergedError, ModelError, SettingError
from closesesame.data import Dataset, Splits
from closesesame.models import ARCHITECTURES, Architecture, Classifier
from closesesame.robust_training import ROBUST_TRAININGS, Plain, RobustTraining
from closesesame.training import Training, predict, train
from tests.conftest import QUICK, SMALL

ALL = pytest.mark.parametrize("name", ROBUST_TRAININGS)


def quick(name: str) -> RobustTraining:
    return ROBUST_TRAININGS.make(name, ROBUST_TRAININGS[name].quick)


@ALL
def test_the_untrusted_set_is_left_alone_and_the_seed_repeats(name: str, tones: Splits) -> None:
    inputs, labels = tones.train.inputs[:].clone(), tones.train.labels.clone()
    state = torch.random.get_rng_state()
    first, again, other = (
        quick(name).train(SMALL, tones.train, seed, clean=tones.validation) for seed in (5, 5, 6)
    )
    assert torch.equal(torch.random.get_rng_state(), state)
    assert torch.equal(tones.train.inputs[:], inputs)
    assert torch.equal(tones.train.labels, labels)
    weights, same, others = (made.model.state_dict() for made in (first, again, other))
    assert all(torch.equal(value, same[key]) for key, value in weights.items())
    assert any(not torch.equal(value, others[key]) for key, value in weights.items())
    assert first.seconds > 0
    assert not any(module.training for module in first.model.modules())
    assert first.model.card.classes == tones.train.classes


@ALL
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_every_architecture_can_be_trained(name: str, architecture: str, tones: Splits) -> None:
    made = ARCHITECTURES.make(architecture, {"depth": 2} if architecture == "kwt" else {})
    few = tones.train.take(torch.arange(64))
    model = quick(name).train(made, few, 0, clean=tones.validation).model
    assert model.card.architecture == architecture
    assert predict(model, tones.validation).isfinite().all()


@ALL
def test_what_cannot_be_trained_on_is_refused(name: str, tones: Splits) -> None:
    method = quick(name)
    with pytest.raises(DataError, match="training needs examples of two classes"):
        method.train(SMALL, tones.train.take(torch.zeros(4, dtype=torch.long)), 0, clean=tones.validation)
    with pytest.raises(SettingError, match=r"training.patience must be none: .* no trusted examples"):
        type(method)(training=Training(patience=3))


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
    with pytest.raises(DataError, match="class 'x' is not among those wanted"):
        LookingAtClean().train(SMALL, tones.train, 0, clean=named)


def test_weights_that_are_no_numbers_are_refused(tones: Splits) -> None:
    with pytest.raises(DivergedError, match="looking left weights that are NaN or infinite"):
        Looking(broken=True).train(SMALL, tones.train, 0)
