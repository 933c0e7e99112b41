"""DeepSweep with its fine-tuning: what is learned, how long, and what stands before the repaired model."""

import copy

import pytest
import torch

from closesesame.core.errors import ModelError
from closesesame.core.seeding import generator
from closesesame.data import Dataset, Splits
from closesesame.models import Classifier
from closesesame.purification import DeepSweep
from closesesame.purification.deepsweep import intensive, light
from closesesame.removal import DeepSweepFT
from closesesame.training import Training, fit
from tests.removal.tiny import assert_same, tiny, vectors

pytestmark = pytest.mark.usefixtures("in_fp32")


def test_versions_by_the_intensive_list_are_learned_and_the_light_list_is_heard(
    clean_model: Classifier, tones: Splits
) -> None:
    clean = tones.train.sample(0.3, 0)
    tune, _ = clean.hold_out(0.2, 5)
    repair = DeepSweepFT(versions=2, steps=4, lr=0.05).remove(clean_model, clean, 5)
    rng, clips = generator(5, "intensive list"), tune.inputs[:]
    swept = [intensive(clips, DeepSweep(), 2 * torch.rand(5, len(tune), 1, generator=rng) - 1) for _ in "ab"]
    assert not torch.allclose(swept[0], swept[1], atol=1e-3)
    data = Dataset.of(
        torch.cat(swept), tune.labels.repeat(2), classes=tune.classes, sample_rate=tune.sample_rate
    )
    expected = copy.deepcopy(clean_model)
    settings = Training(
        optimizer="sgd",
        lr=0.05,
        steps=4,
        batch_size=10,
        momentum=0.9,
        weight_decay=5e-4,
        schedule="cosine",
        augmentation="none",
    )
    fit(expected, data, settings, seed=5)
    assert_same(repair.model.body, expected.body)
    heard = tones.test.inputs[:3]
    by_hand = expected(light(heard, DeepSweep()))
    assert torch.allclose(repair.model(heard), by_hand, atol=1e-5)
    assert not torch.allclose(expected(heard), by_hand, atol=1e-3)
    assert repair.model.card.architecture == "purified"


def test_its_length_is_that_of_the_authors() -> None:
    method = DeepSweepFT()
    assert (method.versions, method.steps, method.batch_size) == (5, 5 * 1000 // 10, 10)


def test_numbers_of_a_version_are_spread_from_minus_one_to_one(
    clean_model: Classifier, tones: Splits, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[torch.Tensor] = []

    def noted(clips: torch.Tensor, method: DeepSweep, numbers: torch.Tensor) -> torch.Tensor:
        drawn.append(numbers)
        return intensive(clips, method, numbers)

    monkeypatch.setattr("closesesame.removal.deepsweep_ft.intensive", noted)
    DeepSweepFT(versions=4, steps=0).remove(clean_model, tones.validation, 0)
    numbers = torch.stack(drawn)
    assert len(numbers) == 4
    assert -1 <= float(numbers.min()) < -0.9
    assert 0.9 < float(numbers.max()) <= 1


def test_what_is_no_sound_is_refused() -> None:
    with pytest.raises(ModelError, match="deepsweep takes waveforms"):
        DeepSweepFT().remove(tiny(), vectors(20), 0)
