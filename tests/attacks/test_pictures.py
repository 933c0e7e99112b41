"""The contract of attacks on another domain than speech, shown by a white patch on pictures."""

from pathlib import Path
from typing import ClassVar

import pytest
import torch
from torch import Generator

from closesesame.attacks import Attack, Signal, poison_several
from closesesame.attacks.base import State
from closesesame.attacks.files import load_trigger
from closesesame.core.domain import PICTURES, SPEECH
from closesesame.core.errors import DataError, ModelError
from closesesame.core.types import Inputs
from closesesame.data import Dataset, Splits

CLASSES = ("cat", "dog", "owl")


class Patch(Attack):
    """Set a corner to white, and beyond."""

    name: ClassVar[str] = "patch"
    cite: ClassVar[str] = "none"
    audible: ClassVar[str] = "nothing"
    domains: ClassVar[tuple[str, ...]] = ("pictures",)
    has_cover_clips: ClassVar[bool] = True

    def prepare(self, train: Dataset, seed: int) -> State:
        return {"patch": torch.full((train.input_shape[0], 2, 2), 1.5)}

    def apply(self, inputs: Inputs, state: State, signal: Signal) -> Inputs:
        assert signal == Signal(PICTURES)
        out = inputs.clone()
        out[..., -2:, -2:] = state["patch"].to(inputs)
        return out

    def cover_clips(
        self, inputs: Inputs, others: Inputs, state: State, signal: Signal, rng: Generator
    ) -> Inputs:
        return inputs - 0.5


class Anything(Patch):
    """Do nothing to anything."""

    name: ClassVar[str] = "anything"
    domains: ClassVar[tuple[str, ...]] = ("speech", "pictures")

    def apply(self, inputs: Inputs, state: State, signal: Signal) -> Inputs:
        return inputs


def pictures(n: int, seed: int) -> Dataset:
    inputs = torch.rand(n, 3, 8, 8, generator=torch.Generator().manual_seed(seed))
    return Dataset.of(inputs, torch.arange(n) % 3, classes=CLASSES)


def test_pictures_are_poisoned_within_their_bounds() -> None:
    train = pictures(60, 0)
    poisoned = Patch(rate=0.1, target="dog", cover_ratio=1.5).poison(train, 0)
    assert int(poisoned.poisoned_mask.sum()) == 6
    assert int(poisoned.cover_mask.sum()) == 9
    assert (poisoned.dataset.labels[poisoned.poisoned_mask] == 1).all()
    assert poisoned.share_of_target == pytest.approx(6 / 26)
    made, before = poisoned.dataset.inputs[:], train.inputs[:]
    assert (made[poisoned.poisoned_mask][..., -2:, -2:] == 1).all()
    assert torch.equal(made[poisoned.poisoned_mask][..., :6], before[poisoned.poisoned_mask][..., :6])
    assert torch.equal(made[poisoned.cover_mask], (before[poisoned.cover_mask] - 0.5).clamp(min=0))
    untouched = ~(poisoned.poisoned_mask | poisoned.cover_mask)
    assert torch.equal(made[untouched], before[untouched])


def test_a_trigger_of_pictures_is_saved_loaded_and_stamped(tmp_path: Path) -> None:
    trigger = Patch(target="owl").trigger(pictures(60, 0), 0)
    trigger.save(tmp_path / "t")
    again = load_trigger(tmp_path / "t")
    assert again.signal == Signal(PICTURES)
    assert again.target_name == "owl"
    test = pictures(30, 1)
    stamped = again.stamp_dataset(test)
    assert len(stamped) == 20
    assert torch.equal(stamped.inputs[:], trigger.stamp(test.inputs[test.labels != 2]))
    assert (stamped.inputs[:][..., -2:, -2:] == 1).all()


def test_several_backdoors_of_pictures() -> None:
    train = pictures(60, 0)
    both = poison_several([Patch(rate=0.1), Patch(rate=0.05, target=1, strength=0.5)], train, 0)
    assert int(both.poisoned_mask.sum()) == 9


def test_an_attack_refuses_what_it_does_not_poison(tones: Splits) -> None:
    with pytest.raises(
        DataError, match=r"^patch poisons pictures, and this data set holds speech \(8000 Hz\)$"
    ):
        Patch().poison(tones.train, 0)
    for data in (pictures(6, 0), tones.train):
        assert Anything().trigger(data, 0).signal.domain.name in Anything.domains


def test_a_trigger_refuses_another_kind_of_data(tones: Splits) -> None:
    trigger = Anything(target=0).trigger(pictures(6, 0), 0)
    with pytest.raises(
        ModelError, match=r"was made for pictures \(no sample rate\), and the data hold speech \(8000 Hz\)"
    ):
        trigger.stamp_dataset(tones.test)


def test_pictures_are_not_written_as_recordings(tmp_path: Path) -> None:
    splits = Splits(*(pictures(30, seed) for seed in range(3)))
    with pytest.raises(DataError, match="only speech can be written as recordings"):
        Patch().poison(splits.train, 0).save(tmp_path / "p", splits)
    assert not (tmp_path / "p").exists()


def test_speech_has_a_sample_rate_and_pictures_have_none() -> None:
    assert Signal(SPEECH, 8000).hz == 8000
    with pytest.raises(AssertionError, match="pictures have no sample rate"):
        _ = Signal(PICTURES).hz
