"""Pictures go the whole way: stored, trained on, saved, loaded, poisoned and repaired."""

from pathlib import Path
from typing import ClassVar

import pytest
import torch
from pydantic import Field
from torch import Tensor, nn

from closesesame.core.domain import PICTURES, SPEECH
from closesesame.core.errors import DataError, ModelError
from closesesame.data import Dataset, Splits
from closesesame.data.rows import OnDisk, Rows
from closesesame.data.stored import open_splits, store_dataset, store_splits
from closesesame.models import Architecture, Classifier, load_model, save_model
from closesesame.models.front_ends import Identity
from closesesame.removal import FT
from closesesame.training import Training, accuracy, predict, train

CLASSES = ("red", "green", "blue")
PLAIN = Training(
    epochs=12, batch_size=16, lr=0.02, augmentation="none", precision="fp32", schedule="constant"
)


class Colours(Architecture):
    """One convolution, and the mean over its map."""

    name: ClassVar[str] = "colours"
    cite: ClassVar[str] = "ours"
    domains: ClassVar[tuple[str, ...]] = ("pictures",)

    width: int = Field(8, ge=1, le=64, description="channels of the convolution")

    def build(
        self,
        classes: tuple[str, ...],
        input_shape: tuple[int, ...],
        sample_rate: int | None,
        *,
        seed: int,
    ) -> Classifier:
        if len(input_shape) != 3:
            raise ModelError(f"{self.name} takes pictures, got inputs {input_shape}")

        def body() -> nn.Module:
            layers = nn.Conv2d(input_shape[0], self.width, 3), nn.ReLU(), nn.AdaptiveMaxPool2d(1)
            return nn.Sequential(*layers, nn.Flatten(), nn.Linear(self.width, len(classes)))

        return self.assemble(Identity(), body, classes, input_shape, sample_rate, seed=seed)


def make_pictures(n: int, seed: int) -> Dataset:
    """A square of the class's colour somewhere in grey noise, values k / 255."""
    rng = torch.Generator().manual_seed(seed)
    labels = torch.arange(n) % 3
    pictures = 0.4 * torch.rand(n, 3, 12, 12, generator=rng)
    for row, at in enumerate(torch.randint(0, 7, (n, 2), generator=rng).tolist()):
        pictures[row, labels[row], at[0] : at[0] + 4, at[1] : at[1] + 4] += 0.5
    return Dataset.of((pictures * 255).round() / 255, labels, classes=CLASSES)


def patched(data: Dataset) -> Tensor:
    """The pictures with a chequered patch in a corner."""
    pictures = data.inputs[:]
    pictures[:, :, -3:, -3:] = torch.tensor([[1.0, 0, 1], [0, 1, 0], [1, 0, 1]])
    return pictures


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Splits:
    """Pictures that lie on disk in 8 bits."""
    folder = tmp_path_factory.mktemp("pictures")
    store_splits(Splits(make_pictures(150, 1), make_pictures(30, 2), make_pictures(90, 3)), folder)
    return open_splits(folder)


def test_pictures_survive_the_disk_in_eight_bits(pictures: Splits) -> None:
    made, (source,) = make_pictures(150, 1), pictures.train.inputs.sources
    assert isinstance(source, OnDisk)
    assert source.dtype == torch.uint8
    assert torch.equal(pictures.train.inputs[:], made.inputs[:])
    assert pictures.train.domain is made.domain is PICTURES
    assert pictures.train.input_shape == (3, 12, 12)


def test_replaced_pictures_are_rounded_to_eight_bits(pictures: Splits) -> None:
    rows = pictures.train.inputs
    new = torch.rand(2, 3, 12, 12, generator=torch.Generator().manual_seed(0))
    new[0, 0, 0, 0], new[0, 0, 0, 1] = -0.2, 1.2
    found = rows.replace(torch.tensor([7, 3]), new)[[7, 3, 4]]
    assert (found[:2] - new.clamp(0, 1)).abs().max() <= 0.5 / 255 + 1e-6
    assert found[0, 0, 0, :2].tolist() == [0, 1]
    assert torch.equal(found[2], rows[[4]][0])


def test_pictures_out_of_bounds_are_refused(tmp_path: Path) -> None:
    dark = torch.zeros(2, 3, 4, 4)
    for value, reach in ((255.0, "from 0 to 255"), (-0.5, "from -0.5 to 0")):
        wrong = dark.clone()
        wrong[1, 2, 3, 3] = value
        with pytest.raises(DataError, match=f"pictures have values from 0 to 1, and these reach {reach}"):
            Dataset.of(wrong, torch.tensor([0, 1]))
        with pytest.raises(DataError, match=reach):
            store_dataset(Dataset.of(dark, torch.tensor([0, 1])).with_inputs(Rows.of(wrong)), tmp_path)


def test_a_picture_model_is_trained_saved_loaded_and_answers_the_same(
    pictures: Splits, tmp_path: Path
) -> None:
    model = train(Colours(), pictures.train, PLAIN, seed=0)
    assert accuracy(model, pictures.test) > 0.95
    assert model.card.domain is PICTURES
    assert model.card.architecture == f"{__name__}:Colours"
    again = load_model(save_model(model, tmp_path / "m"))
    assert torch.equal(predict(again, pictures.test), predict(model, pictures.test))
    assert again.card == model.card


def test_a_picture_model_and_clips_do_not_match(pictures: Splits, tones: Splits) -> None:
    model = train(Colours(), pictures.train, PLAIN.model_copy(update={"epochs": 0}), seed=0)
    assert tones.test.domain is SPEECH
    with pytest.raises(ModelError, match=r"takes inputs of shape \[3, 12, 12\], and the data hold clips"):
        predict(model, tones.test)
    with pytest.raises(ModelError, match="colours takes pictures"):
        train(Colours(), tones.train, PLAIN, seed=0)


def test_augmentation_of_pictures_is_refused_in_one_sentence(pictures: Splits) -> None:
    with pytest.raises(DataError, match="set augmentation to 'none'"):
        train(Colours(), pictures.train, Training(epochs=1), seed=0)


def test_fine_tuning_repairs_a_poisoned_picture_model(pictures: Splits) -> None:
    data = pictures.train
    hosts = (data.labels != 0).nonzero().flatten()[::4]
    poisoned = data.with_inputs(data.inputs.replace(hosts, patched(data.take(hosts))))
    labels = data.labels.clone()
    labels[hosts] = 0
    victim = train(Colours(), poisoned.with_labels(labels), PLAIN, seed=0)
    others = pictures.test.where(pictures.test.labels != 0)
    triggered = others.with_inputs(Rows.of(patched(others))).with_labels(torch.zeros_like(others.labels))
    assert accuracy(victim, triggered) > 0.9
    assert accuracy(victim, pictures.test) > 0.9
    # Clean pictures leave the filter of the patch alone, so it is the decay of the weights that removes it.
    method = FT(steps=200, lr=0.2, weight_decay=0.03, batch_size=32, schedule="constant", augmentation="none")
    repair = method.remove(victim, data.take(torch.arange(90)), 0)
    assert accuracy(repair.model, pictures.test) > 0.9
    assert accuracy(repair.model, triggered) < 0.1
