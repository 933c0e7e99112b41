"""Enhancers on disk: written and read bit by bit, and refused in one sentence."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from closesesame.core.errors import DataError, ModelError
from closesesame.enhancement import DCCRN, ENHANCEMENTS, GTCRN, EnhancerTraining, MaskGRU, train_enhancer
from closesesame.enhancement.files import load_enhancer, save_enhancer
from tests.enhancement.patterns import chirps, patterned
from tests.enhancement.test_training import noises, speech

SMALL = MaskGRU(units=4)


@pytest.mark.parametrize("kind", [SMALL, GTCRN(), DCCRN(channels=(4, 8), units=8)])
def test_an_enhancer_survives_a_folder(kind: MaskGRU, tmp_path: Path) -> None:
    network = patterned(kind.build(0))
    folder = save_enhancer(kind, network, tmp_path / "enhancer", {"by": "a test"})
    assert json.loads((folder / "enhancer.json").read_text())["made"] == {"by": "a test"}
    save_enhancer(kind, network, folder)  # an old one is replaced
    again, read = load_enhancer(folder)
    assert again == kind
    assert not read.training
    with torch.no_grad():
        assert torch.equal(read(chirps(3_000)), network(chirps(3_000)))


def test_every_kind_has_its_name() -> None:
    assert list(ENHANCEMENTS) == ["complex_mtass", "dccrn", "gtcrn", "mask_gru"]


def test_what_is_no_enhancer_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"holds no enhancer; an enhancer is a folder with enhancer.json"):
        load_enhancer(tmp_path)
    settings = EnhancerTraining(steps=1, batch_size=2, validate_every=1, validation_mixtures=2)
    train_enhancer(SMALL.build(0), speech(), noises(3), settings, 0, checkpoint=tmp_path / "checkpoint")
    with pytest.raises(ModelError, match="holds no enhancer but the checkpoint of a training"):
        load_enhancer(tmp_path / "checkpoint")
    folder = save_enhancer(SMALL, SMALL.build(0), tmp_path / "enhancer")
    about = json.loads((folder / "enhancer.json").read_text())
    for change, said in (
        ({"enhancement": "mask_gr"}, "no enhancement is called 'mask_gr'"),
        ({"enhancement": "not_there:Thing"}, "'not_there:Thing' is not ours"),
        ({"settings": {"units": 0}}, "MaskGRU.units must be >= 1"),
        ({"settings": {"units": 5}}, r"does not fit its enhancer.json: .* has shape"),
        ({"enhancement": "gtcrn", "settings": {}}, "does not fit its enhancer.json: it lacks"),
        ({"more": 1}, "has no setting 'more'"),
    ):
        (folder / "enhancer.json").write_text(json.dumps(about | change))
        with pytest.raises(ModelError, match=said):
            load_enhancer(folder)
    (folder / "enhancer.json").write_text(json.dumps(about))
    weights = load_file(folder / "enhancer.safetensors")
    weights["end.bias"][0] = torch.nan
    save_file(weights, folder / "enhancer.safetensors")
    with pytest.raises(ModelError, match="'end.bias' holds NaN"):
        load_enhancer(folder)
    (folder / "enhancer.safetensors").write_bytes(b"no tensors")
    with pytest.raises(ModelError, match=r"enhancer.safetensors is damaged or missing"):
        load_enhancer(folder)
    (folder / "other.txt").write_text("mine")
    with pytest.raises(DataError, match="holds something else than"):
        save_enhancer(SMALL, SMALL.build(0), folder)
