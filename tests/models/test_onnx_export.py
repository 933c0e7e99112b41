"""A repaired model as an ONNX file: the logits of the model for any number of clips, or a sentence."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from closesesame.core.errors import ModelError
from closesesame.models import ARCHITECTURES, adapt, load_model, save_model
from closesesame.models import onnx_export as module
from closesesame.models.onnx_export import to_onnx
from tests.commands import Sesame

onnxruntime = pytest.importorskip("onnxruntime", reason="the extra 'onnx' is not installed")
pytest.importorskip("onnxscript", reason="the extra 'onnx' is not installed")

NAMES = ("no", "yes", "stop")
SIZES: dict[str, dict[str, Any]] = {
    "resnet": {"widths": [8, 16]},
    "lstm": {},
}


def given(content: bytes, clips: Tensor) -> Tensor:
    session = onnxruntime.InferenceSession(content)
    (logits,) = session.run(None, {"inputs": clips.numpy()})
    return torch.from_numpy(logits)


@pytest.mark.parametrize("name", ["lstm"])
def test_the_file_gives_the_logits_of_the_model(name: str) -> None:
    model = ARCHITECTURES.make(name, SIZES[name]).build(NAMES, (2000,), 8000, seed=1).eval()
    with torch.no_grad():
        for weight in model.body.parameters():
            weight.mul_(1.5)  # fresh logits are all but zero
    content = to_onnx(model)
    for count in (1, 4):
        clips = 0.2 * torch.randn(count, 2000, generator=torch.Generator().manual_seed(count))
        with torch.no_grad():
            assert torch.allclose(given(content, clips), model(clips), atol=1e-4)


def test_a_model_is_exported_and_imported_as_what_it_was(sesame: Sesame, tmp_path: Path) -> None:
    model = ARCHITECTURES.make("resnet", SIZES["resnet"]).build(NAMES, (2000,), 8000, seed=1).eval()
    save_model(model, tmp_path / "m")
    found = sesame.json("export", tmp_path / "m", tmp_path / "m.onnx")
    assert len(found["sha256"]) == 64
    options = ("--classes", ",".join(NAMES), "--sample-rate", 8000, "--duration-s", 0.25)
    said = sesame.json("import", tmp_path / "m.onnx", tmp_path / "back", *options)
    assert said["findings"] == []
    assert said["asked"]["answers"] == "logits"
    clips = 0.2 * torch.randn(3, 2000, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert torch.allclose(load_model(tmp_path / "back")(clips), model(clips), atol=1e-4)
    assert "--force" in sesame.fails("export", tmp_path / "m", tmp_path / "m.onnx")
    said = sesame.fails("export", tmp_path / "m", tmp_path / "n.onnx", "--like", tmp_path / "m.onnx")
    assert "cannot be written like" in said


def test_a_model_of_transformers_becomes_onnx_too() -> None:
    pytest.importorskip("transformers", reason="the extra 'hf' is not installed")
    from tests.models.test_huggingface import built, sounds

    model, clips = built("whisper"), torch.from_numpy(sounds())
    with torch.no_grad():
        assert torch.allclose(given(to_onnx(model), clips), model(clips), atol=1e-4)


class Sorted(nn.Module):
    """Has an operator that ONNX lacks."""

    def forward(self, x: Tensor) -> Tensor:
        values: Tensor = torch.linalg.eigvals(x[:, None, :] * x[:, :, None]).real
        return values


def test_what_onnx_cannot_say_is_one_sentence() -> None:
    model = adapt(Sorted(), NAMES, (3,), None).eval()
    with pytest.raises(ModelError, match="the model cannot be written as ONNX") as error:
        to_onnx(model)
    assert "\n" not in str(error.value)


def test_a_file_with_other_logits_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    logits = torch.tensor([[10.0, -20.0]])
    module._refuse_other(logits + 0.0019, logits)
    with pytest.raises(ModelError, match=r"would give logits that differ by 0\.00011"):
        module._refuse_other(logits + 0.0022, logits)
    with pytest.raises(ModelError, match="differ by nan"):
        module._refuse_other(logits * np.nan, logits)
    small = logits / 1000
    with pytest.raises(ModelError, match="differ by"):
        module._refuse_other(small + 2e-4, small)
    module._refuse_other(small + 5e-5, small)


def test_without_the_package_the_sentence_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str, extra: str) -> None:
        raise ModelError(f"{name} {extra}")

    monkeypatch.setattr(module, "needed", missing)
    model = ARCHITECTURES.make("resnet", SIZES["resnet"]).build(NAMES, (2000,), 8000, seed=1).eval()
    with pytest.raises(ModelError, match="onnxscript onnx"):
        to_onnx(model)
