"""ASA: what is tuned, on which clips, and what stands in front of the repaired model."""

import copy
from pathlib import Path

import pytest
import torch

from closesesame.core.errors import ModelError
from closesesame.data import Dataset, Splits
from closesesame.enhancement import MaskGRU
from closesesame.enhancement.files import save_enhancer
from closesesame.models import Classifier, load_model, save_model
from closesesame.purification import Enhance
from closesesame.removal import ASA, FT
from closesesame.training import Training, fit
from tests.enhancement.patterns import patterned
from tests.removal.tiny import assert_same

pytestmark = pytest.mark.usefixtures("in_fp32")
SMALL = MaskGRU(units=4)


@pytest.fixture
def enhancer(tmp_path: Path) -> str:
    """A network that changes every clip."""
    return str(save_enhancer(SMALL, patterned(SMALL.build(0)), tmp_path / "enhancer"))


def enhanced(model: Classifier, enhancer: str, data: Dataset) -> Classifier:
    return Enhance(enhancer=enhancer).fit(data, 0).before(copy.deepcopy(model))


def test_the_model_is_tuned_on_enhanced_clips(clean_model: Classifier, tones: Splits, enhancer: str) -> None:
    clean = tones.train.sample(0.3, 0)
    tune, _ = clean.hold_out(0.2, 5)
    repair = ASA(enhancer=enhancer, steps=4, lr=0.05).remove(clean_model, clean, 5)
    expected = enhanced(clean_model, enhancer, clean)
    before = copy.deepcopy(expected)
    settings = Training(
        optimizer="sgd",
        lr=0.05,
        steps=4,
        batch_size=256,
        momentum=0.9,
        weight_decay=5e-4,
        schedule="cosine",
        augmentation="light",
    )
    fit(expected, tune, settings, seed=5)
    assert_same(repair.model, expected)
    clips = tones.test.inputs[:3]
    assert not torch.allclose(repair.model(clips), before(clips), atol=1e-3)
    assert torch.equal(repair.model.front_end(clips), before.front_end(clips))
    assert repair.chosen == {"enhancer": "mask_gru"}
    assert (repair.tuned_on, repair.held_out) == (len(tune), len(clean) - len(tune))


def test_without_a_step_it_is_the_suspect_behind_the_enhancer(
    clean_model: Classifier, tones: Splits, enhancer: str
) -> None:
    repair = ASA(enhancer=enhancer, steps=0).remove(clean_model, tones.validation, 0)
    clips = tones.test.inputs[:5]
    assert torch.equal(repair.model(clips), enhanced(clean_model, enhancer, tones.validation)(clips))
    assert not torch.allclose(repair.model(clips), clean_model(clips), atol=1e-3)
    assert repair.remarks == ()


def test_the_repaired_model_is_a_model_folder_like_any_other(
    clean_model: Classifier, tones: Splits, enhancer: str, tmp_path: Path
) -> None:
    repaired = ASA(enhancer=enhancer, steps=2).remove(clean_model, tones.validation, 0).model
    assert repaired.card.architecture == "purified"
    assert clean_model.card.architecture == "resnet"
    for path in Path(enhancer).iterdir():
        path.unlink()
    read = load_model(save_model(repaired, tmp_path / "repaired"))
    clips = tones.test.inputs[:5]
    assert torch.equal(read(clips), repaired(clips))
    again = FT(steps=1).remove(read, tones.validation, 0).model
    assert torch.allclose(again.front_end(clips), read.front_end(clips), atol=1e-3)


def test_the_default_is_the_enhancer_that_ships(clean_model: Classifier, tones: Splits) -> None:
    assert ASA().enhancer == Enhance().enhancer == "shipped"
    assert ASA().steps == FT().steps
    with pytest.raises(ModelError, match="enhancer 'no-such-one' is neither 'shipped'"):
        ASA(enhancer="no-such-one").remove(clean_model, tones.validation, 0)
