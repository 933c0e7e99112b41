"""Enhance: where an enhancer is found, at which rate it hears, and that what is kept needs no other file."""

import json
import math
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from closesesame.core.errors import ModelError, SettingError
from closesesame.data import Dataset, Splits
from closesesame.enhancement import MaskGRU
from closesesame.enhancement.files import SHIPPED, load_enhancer, save_enhancer
from closesesame.models import Classifier, load_model, save_model
from closesesame.purification import Enhance
from closesesame.purification.enhance import Kept, found
from closesesame.purification.files import load_purifier
from tests.enhancement.patterns import chirps, patterned
from tests.purification.examples import card, level_db, purifier

SMALL = MaskGRU(units=4)


def folder_of(place: Path) -> Path:
    return save_enhancer(SMALL, patterned(SMALL.build(0)), place / "enhancer")


def halving(place: Path) -> Path:
    graphs = pytest.importorskip("tests.models.graphs")
    pytest.importorskip("onnx", reason="the extra 'onnx' is not installed")
    pytest.importorskip("onnxruntime", reason="the extra 'onnx' is not installed")
    nodes, wav = [graphs.node("Mul", "wav half", "enhanced")], {"wav": ["n", "t"]}
    made = graphs.model(graphs.graph(nodes, wav, {"enhanced": ["n", "t"]}, {"half": graphs.floats(0.5)}))
    path = place / "half.onnx"
    path.write_bytes(made.SerializeToString())
    return path


def test_a_folder_is_read_and_its_network_heard(tmp_path: Path) -> None:
    made = purifier(Enhance(enhancer=str(folder_of(tmp_path))), seconds=0.25)
    with torch.no_grad():
        expected = patterned(SMALL.build(0))(chirps(4_000))
    assert torch.allclose(made(chirps(4_000)), expected, atol=1e-6)
    assert made.purification.settings()["kept"] == {
        "network": "mask_gru",
        "settings": {"units": 4},
        "size": 0,
    }
    assert not any(weight.requires_grad for weight in made.parameters())


def test_the_default_is_what_ships() -> None:
    assert found(Enhance().enhancer) == SHIPPED
    made = purifier(Enhance(), seconds=0.25)
    with torch.no_grad():
        expected = load_enhancer(SHIPPED)[1](chirps(4_000))
    assert torch.allclose(made(chirps(4_000)), expected, atol=1e-6)


def test_clips_at_other_rates_are_heard_at_16_khz(tmp_path: Path) -> None:
    class Noted(nn.Module):
        heard = 0

        def forward(self, wav: torch.Tensor) -> torch.Tensor:
            Noted.heard = wav.shape[1]
            return 0.5 * wav

    for rate in (8_000, 16_000, 44_100):
        network: Any = purifier(Enhance(enhancer=str(folder_of(tmp_path))), 0.5, rate).network
        network.enhancer = Noted()
        length = rate // 2
        time = torch.arange(length, dtype=torch.float64) / rate
        wav = sum(torch.sin(2 * math.pi * hertz * time) / 4 for hertz in (1_000, 12_000))
        assert isinstance(wav, torch.Tensor)
        purified = network(wav.float()[None])[0]
        assert Noted.heard == 8_000
        assert len(purified) == length
        assert level_db(purified, 1_000, rate) == pytest.approx(20 * math.log10(1 / 8), abs=0.1)
        if rate == 44_100:  # what 16 kHz cannot hold is lost
            assert level_db(purified, 12_000, rate) < -50


def test_a_file_is_read_and_kept_with_the_purifier(tmp_path: Path) -> None:
    path = halving(tmp_path)
    made = purifier(Enhance(enhancer=str(path)), seconds=0.25)
    assert torch.allclose(made(chirps(4_000)), 0.5 * chirps(4_000))
    kept = made.purification.settings()["kept"]
    assert kept == {"network": "onnx", "settings": {}, "size": path.stat().st_size}
    folder = made.save(tmp_path / "purifier")
    path.unlink()
    again = load_purifier(folder)
    assert torch.equal(again(chirps(4_000)), made(chirps(4_000)))


def test_what_was_read_is_not_read_again(clean_model: Classifier, tones: Splits, tmp_path: Path) -> None:
    source = folder_of(tmp_path)
    made = Enhance(enhancer=str(source)).fit(tones.validation, 0)
    folder = made.save(tmp_path / "purifier")
    model = save_model(made.before(clean_model), tmp_path / "model")
    for path in source.iterdir():
        path.unlink()
    clips = tones.test.inputs[:3]
    assert torch.equal(load_purifier(folder)(clips), made(clips))
    assert torch.equal(load_model(model)(clips), clean_model(made(clips)))
    # A purifier of somebody else must not make this machine read a file that it names.
    path = folder / "purifier.json"
    about = json.loads(path.read_text())
    about["settings"]["kept"] = None
    about["settings"]["enhancer"] = "shipped"
    path.write_text(json.dumps(about))
    with pytest.raises(ModelError, match="does not say what enhancer its weights are of"):
        load_purifier(folder)
    about["settings"]["kept"] = {"network": "not_there:Thing"}
    path.write_text(json.dumps(about))
    with pytest.raises(ModelError, match="'not_there:Thing' is not ours"):
        load_purifier(folder)
    about["settings"]["kept"] = {"network": "onnx", "size": 1_000_000_000}
    path.write_text(json.dumps(about))
    with pytest.raises(ModelError, match=r"does not fit its purifier.json: it lacks 'enhancer.content'"):
        load_purifier(folder)


def test_an_enhancer_is_read_anew_whatever_was_kept(tmp_path: Path) -> None:
    method = Enhance(enhancer=str(folder_of(tmp_path)))
    made = purifier(method, seconds=0.25)
    other = Kept(network="mask_gru", settings={"units": 8})
    for again in (made.purification, Enhance(enhancer=method.enhancer, kept=other)):
        assert torch.equal(purifier(again, seconds=0.25)(chirps(4_000)), made(chirps(4_000)))


def test_frames_of_a_network_of_ours_cannot_be_chosen(tmp_path: Path) -> None:
    for name, value in (("hop", 100), ("window", "hann")):
        chosen = Enhance.model_validate({"enhancer": str(folder_of(tmp_path / name)), name: value})
        with pytest.raises(SettingError, match=rf"Enhance.{name} is of an ONNX file that takes spectra"):
            purifier(chosen, seconds=0.25)


def test_frames_of_a_file_that_takes_spectra_are_kept_with_the_purifier(tmp_path: Path) -> None:
    graphs = pytest.importorskip("tests.models.graphs")
    pytest.importorskip("onnx", reason="the extra 'onnx' is not installed")
    pytest.importorskip("onnxruntime", reason="the extra 'onnx' is not installed")
    shape, gains = (
        {"mix": [1, 257, "t", 2]},
        {"gains": graphs.floats(torch.arange(257)[:, None, None] % 2)},
    )
    nodes = [graphs.node("Mul", "mix gains", "enhanced")]
    path, answers = tmp_path / "theirs.onnx", []
    path.write_bytes(
        graphs.model(graphs.graph(nodes, shape, {"enhanced": shape["mix"]}, gains)).SerializeToString()
    )
    for name, frames in (("usual", {}), ("other", {"window": "hann", "hop": 128})):
        made = purifier(Enhance.model_validate({"enhancer": str(path), **frames}), seconds=0.25)
        again = load_purifier(made.save(tmp_path / name))
        answers.append(made(chirps(4_000)))
        assert torch.equal(again(chirps(4_000)), answers[-1])
    assert not torch.allclose(answers[0], answers[1], atol=1e-3)


def distribution(site: Path, files: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    """An installed distribution whose package must not be imported."""
    info = site / "their_enhancer-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: their-enhancer\nVersion: 1.0\n")
    names = ["their_enhancer/__init__.py", *files]
    (info / "RECORD").write_text("".join(f"{name},,\n" for name in names))
    (site / "their_enhancer").mkdir()
    (site / "their_enhancer" / "__init__.py").write_text("raise RuntimeError('imported')")
    monkeypatch.syspath_prepend(str(site))


def test_a_file_in_an_installed_distribution_is_found_without_importing_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    distribution(tmp_path / "one", ("their_enhancer/weights.onnx",), monkeypatch)
    path = found("their-enhancer")
    assert path == tmp_path / "one" / "their_enhancer" / "weights.onnx"
    path.write_bytes(halving(tmp_path).read_bytes())
    made = purifier(Enhance(enhancer="their-enhancer"), seconds=0.25)
    assert torch.allclose(made(chirps(4_000)), 0.5 * chirps(4_000))
    assert "their_enhancer" not in sys.modules


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ((), "the distribution their-enhancer holds no ONNX file; give the path of one"),
        (("a.onnx", "b.onnx"), r"holds 2 ONNX files \(a.onnx, b.onnx\); give the path of one"),
    ],
)
def test_a_distribution_without_one_file_is_refused(
    files: tuple[str, ...], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    distribution(tmp_path, files, monkeypatch)
    with pytest.raises(ModelError, match=said):
        found("their-enhancer")


def test_what_is_not_there_is_said(tmp_path: Path) -> None:
    for name, said in (
        ("no-such-enhancer", "neither 'shipped', nor a folder, nor a file, nor an installed distribution"),
        ("no-such-enhancer", "pip install --no-deps no-such-enhancer"),
        ("there.onnx", "enhancer there.onnx is not there"),
        (str(tmp_path / "nothing"), "nothing is not there"),
        (str(tmp_path), "holds no enhancer"),
    ):
        with pytest.raises(ModelError, match=said):
            purifier(Enhance(enhancer=name))
    (tmp_path / "text.txt").write_text("no graph")
    pytest.importorskip("onnx", reason="the extra 'onnx' is not installed")
    with pytest.raises(ModelError, match="damaged or no ONNX file"):
        purifier(Enhance(enhancer=str(tmp_path / "text.txt")))
    for method in (Enhance(), Enhance(kept=Kept(network="mask_gru"))):
        with pytest.raises(ModelError, match="enhance takes waveforms with a sample rate"):
            method.fit(None, 0, card=card(None, (3, 8, 8)))
    few = Dataset.of(torch.zeros(4, 4_000), torch.arange(4) % 2, sample_rate=16_000)
    assert Enhance(enhancer=str(folder_of(tmp_path))).fit(few, 0).chosen == {}
