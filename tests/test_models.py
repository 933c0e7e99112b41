"""Architectures and model files, hostile ones among them."""

import copy
import json
import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from closesesame.core.domain import SPEECH
from closesesame.core.errors import ClosesesameError, ModelError, SettingError
from closesesame.data import Splits
from closesesame.models import (
    ARCHITECTURES,
    KWT,
    Architecture,
    Classifier,
    SpectralArchitecture,
    load_model,
    save_model,
)
from closesesame.models.files import sha256_of
from closesesame.training import predict

TEN = tuple("abcdefghij")
SPECTRAL = [name for name, made in ARCHITECTURES.items() if issubclass(made, SpectralArchitecture)]


@pytest.mark.parametrize("name", SPECTRAL)
@pytest.mark.parametrize("features", ["log_mel", "mfcc"])
def test_weights_repeat_by_seed_and_survive_the_disk(name: str, features: str, tmp_path: Path) -> None:
    architecture = ARCHITECTURES.make(name, {"features": features})
    model = architecture.build(("x", "y"), (4000,), 8000, seed=3).eval()
    twin = architecture.build(("x", "y"), (4000,), 8000, seed=3).eval()
    wave = 0.1 * torch.randn(2, 4000, generator=torch.Generator().manual_seed(0))
    assert torch.equal(model(wave), twin(wave))
    save_model(model, tmp_path / "m")
    again = load_model(tmp_path / "m")
    assert torch.equal(model(wave), again(wave))
    assert again.card == model.card
    for one in (model, again):  # the fast layout
        kernels = [weight for weight in one.body.parameters() if weight.ndim == 4]
        assert all(weight.is_contiguous(memory_format=torch.channels_last) for weight in kernels)
    assert sorted(p.name for p in tmp_path.rglob("*")) == ["config.json", "m", "model.safetensors"]


def test_narrow_layers_and_odd_batches_survive_two_threads() -> None:
    script = """
import torch
from torch.nn import functional as F
from closesesame.models import ResNet
body = ResNet(widths=(8, 16)).build(("a", "b"), (4000,), 8000, seed=0).body
for _ in range(20):
    F.cross_entropy(body(torch.ones(51, 40, 51)), torch.zeros(51, dtype=torch.long)).backward()
"""
    done = subprocess.run(
        [sys.executable, "-c", script],
        env=os.environ | {"OMP_NUM_THREADS": "2", "OMP_WAIT_POLICY": "PASSIVE"},
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode()


def test_a_model_that_is_too_large_is_refused_before_it_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("closesesame.models.size.MOST_BYTES", 100_000)
    with pytest.raises(ModelError, match="resnet with these settings has weights of"):
        ARCHITECTURES.make("resnet").build(TEN, (4000,), 8000, seed=0)


def test_a_model_wants_waveforms() -> None:
    with pytest.raises(ModelError, match="takes waveforms"):
        KWT().build(TEN, (3, 32, 32), None, seed=0)


def test_features_of_a_data_set_are_those_of_its_batches(clean_model: Classifier, tones: Splits) -> None:
    few = tones.test.take(torch.arange(10))
    features = clean_model.features(few, batch_size=4)
    assert torch.allclose(features, clean_model.front_end(few.inputs[:]), atol=1e-5)
    assert not features.requires_grad
    assert clean_model.device == torch.device("cpu")
    assert torch.nn.Module.to(copy.deepcopy(clean_model), "meta").device == torch.device("meta")


def saved(folder: Path) -> Path:
    architecture: Architecture = ARCHITECTURES.make("resnet", {"widths": [8, 16]})
    return save_model(architecture.build(("x", "y"), (4000,), 8000, seed=0), folder)


def test_a_model_of_an_earlier_version_still_loads(tmp_path: Path) -> None:
    model = ARCHITECTURES.make("resnet", {"widths": [8, 16]}).build(("x", "y"), (4000,), 8000, seed=5).eval()
    model.front_end.get_buffer("mean").fill_(-3.0)
    folder = tmp_path / "m"
    folder.mkdir()
    config = """{
      "architecture": "resnet",
      "settings": {"features": "log_mel", "bands": 40, "widths": [8, 16]},
      "classes": ["x", "y"],
      "input_shape": [4000],
      "sample_rate": 8000,
      "made": {"by": "sesame train", "version": "0.1.0", "task": "word", "training": {"epochs": 15}}
    }"""
    (folder / "config.json").write_text(config)
    names = ["stem.weight", "norm.weight", "norm.bias", "norm.running_mean", "norm.running_var"]
    names += ["norm.num_batches_tracked", "head.weight", "head.bias"]
    for block in ("0", "1"):
        names += [f"blocks.{block}.{layer}.weight" for layer in ("conv1", "conv2", "skip")]
        for norm in ("norm1", "norm2", "norm_skip"):
            parts = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
            names += [f"blocks.{block}.{norm}.{part}" for part in parts]
    state = {"front_end.mean": torch.tensor(-3.0), "front_end.deviation": torch.tensor(1.0)}
    state |= {f"body.{name}": model.body.state_dict()[name].contiguous() for name in names}
    save_file(state, folder / "model.safetensors")
    again = load_model(folder)
    wave = 0.1 * torch.randn(2, 4000, generator=torch.Generator().manual_seed(0))
    assert torch.equal(again(wave), model(wave))
    assert again.card.made["version"] == "0.1.0"
    assert again.card.domain is SPEECH


class Evil:
    """Unpickling it would make a folder."""

    def __reduce__(self) -> tuple[Callable[..., None], tuple[str]]:
        return Path("evil-ran").mkdir, ()  # type: ignore[return-value]


def evil_pickle(folder: Path) -> Path:
    (folder / "model.pt").write_bytes(pickle.dumps(Evil()))
    return folder / "model.pt"


def whole_module(folder: Path) -> Path:
    torch.save(torch.nn.Linear(2, 2), folder / "model.pth")
    return folder


def truncated(folder: Path) -> Path:
    weights = saved(folder / "m") / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    return folder / "m"


def pickle_named_safetensors(folder: Path) -> Path:
    (saved(folder / "m") / "model.safetensors").write_bytes(pickle.dumps(Evil()))
    return folder / "m"


def nan_weights(folder: Path) -> Path:
    path = saved(folder / "m") / "model.safetensors"
    state = load_file(path)
    state["body.head.bias"] = torch.tensor([0.0, float("nan")])
    save_file(state, path)
    return folder / "m"


def other_shape(folder: Path) -> Path:
    config = saved(folder / "m") / "config.json"
    about = json.loads(config.read_text())
    about["classes"] = ["x", "y", "z"]
    config.write_text(json.dumps(about))
    return folder / "m"


def broken_config(folder: Path) -> Path:
    (saved(folder / "m") / "config.json").write_text('{"architecture": "resnet"')
    return folder / "m"


def no_config(folder: Path) -> Path:
    (saved(folder / "m") / "config.json").unlink()
    return folder / "m"


def deep_config(folder: Path) -> Path:
    (saved(folder / "m") / "config.json").write_text("[" * 100_000)
    return folder / "m"


def huge_sizes(folder: Path) -> Path:
    config = saved(folder / "m") / "config.json"
    about = json.loads(config.read_text())
    about["settings"]["widths"] = [10**6, 10**6]
    config.write_text(json.dumps(about))
    return folder / "m"


def names_code(folder: Path) -> Path:
    """A config that would have a module imported, which lies where the user works."""
    (folder / "evil_module.py").write_text("import pathlib; pathlib.Path('evil-ran').mkdir()")
    config = saved(folder / "m") / "config.json"
    config.write_text(config.read_text().replace('"resnet"', '"evil_module:Net"'))
    return folder / "m"


def no_folder(folder: Path) -> Path:
    return folder / "nothing"


@pytest.mark.parametrize(
    ("make", "word"),
    [
        (evil_pickle, "may run code"),
        (whole_module, "may run code"),
        (truncated, "damaged"),
        (pickle_named_safetensors, "damaged"),
        (nan_weights, "NaN or infinite values; get it again, or train it at a lower lr$"),
        (other_shape, "does not fit .*; get both files again, from one model$"),
        (broken_config, "not a model's config: .*; get the model folder again, or make one with 'sesame "),
        (
            no_config,
            "config.json is missing; get the model folder again, or make one with 'sesame ",
        ),
        (deep_config, "not a model's config"),
        (huge_sizes, "does not fit|must be"),
        (names_code, "if you trust it, import 'evil_module' first"),
        (no_folder, "is not there; a model is a folder .*: get the model folder again, or make one with "),
    ],
)
def test_a_suspect_checkpoint_is_refused_and_no_code_runs(
    make: Callable[[Path], Path], word: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    path = make(tmp_path)
    with pytest.raises((ModelError, SettingError), match=word) as error:
        load_model(path)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "evil-ran").exists()


def test_a_failed_save_leaves_the_old_model(
    clean_model: Classifier, tones: Splits, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_model(clean_model, tmp_path / "m")

    def fail(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr("closesesame.models.files.save", fail)
    with pytest.raises(OSError, match="disk full"):
        save_model(clean_model, tmp_path / "m")
    assert [p.name for p in tmp_path.iterdir()] == ["m"]
    few = tones.test.take(torch.arange(4))
    assert torch.equal(predict(load_model(tmp_path / "m"), few), predict(clean_model, few))


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"sample_rate": 0}, "sample_rate must be 1,000 to 192,000 Hz, got 0"),
        ({"sample_rate": -1}, "sample_rate must be 1,000 to 192,000 Hz, got -1"),
        ({"sample_rate": 10**9}, "sample_rate must be 1,000 to 192,000 Hz"),
        ({"sample_rate": 10**400}, "sample_rate"),
        ({"sample_rate": 8000.5}, "sample_rate"),
        ({"sample_rate": True}, "sample_rate"),
        ({"sample_rate": None}, "takes waveforms with a sample rate"),
        ({"input_shape": [0]}, r"input_shape\[0\] must be >= 1, got 0"),
        ({"input_shape": [4000.5]}, r"input_shape\[0\]"),
        ({"input_shape": []}, "input_shape"),
        ({"input_shape": [10**9]}, "input_shape"),
        ({"input_shape": [4000, 4000]}, "input_shape|takes waveforms"),
        ({"input_shape": [40]}, "duration_s must be 0.05 to 60 s, got 0.005"),
        ({"classes": ["one"]}, "is 1; 2 to 10,000 are possible"),
        ({"classes": ["low", "low", "high", "top"]}, "two classes called 'low'"),
        ({"classes": ["low", "\u001b[31m", "high", "top"]}, "printable characters"),
        ({"classes": [1, 2, 3, 4]}, r"classes\[0\]"),
        ({"classes": ["a", "b"]}, "has shape"),
        ({"settings": {"widths": [8, 10**9]}}, "widths"),
        ({"settings": None}, "settings"),
        ({"made": "yesterday"}, "made"),
        ({"colour": "red"}, "colour"),
    ],
)
def test_a_config_that_nobody_could_mean_is_one_sentence(
    changes: dict[str, object], sentence: str, clean_model: Classifier, tmp_path: Path
) -> None:
    path = save_model(clean_model, tmp_path / "m") / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    with pytest.raises(ClosesesameError, match=sentence) as caught:
        load_model(tmp_path / "m")
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 500


def test_what_cannot_be_loaded_cannot_be_saved(clean_model: Classifier, tmp_path: Path) -> None:
    model = copy.deepcopy(clean_model)
    with torch.no_grad():
        next(model.body.parameters()).view(-1)[0] = torch.nan
    with pytest.raises(ModelError, match="the model cannot be saved: weight .* holds NaN"):
        save_model(model, tmp_path / "m")
    model = copy.deepcopy(clean_model)
    model.card = replace(model.card, classes=("low", "low", "high", "top"))
    with pytest.raises(ModelError, match="two classes called 'low'"):
        save_model(model, tmp_path / "m")
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "thesis.txt").write_text("years of work")
    with pytest.raises(ModelError, match="holds something else than a model"):
        save_model(clean_model, tmp_path / "m")
    assert (tmp_path / "m" / "thesis.txt").exists()


def test_weights_of_another_kind_are_refused(clean_model: Classifier, tmp_path: Path) -> None:
    path = save_model(clean_model, tmp_path / "m") / "model.safetensors"
    state = load_file(path)
    name = next(name for name in state if name.endswith("weight"))
    for kind, sentence in (
        (torch.complex64, "is of kind torch.complex64, which is not read; save it as float32"),
        (torch.float8_e4m3fn, "is of kind torch.float8_e4m3fn, which is not read"),
        (torch.int32, "holds torch.int32 instead of torch.float32"),
    ):
        save_file(state | {name: state[name].to(kind)}, path)
        with pytest.raises(ModelError, match=f"{name}' {sentence}"):
            load_model(tmp_path / "m")


def test_a_model_is_known_by_its_weights(clean_model: Classifier, tmp_path: Path) -> None:
    one = save_model(clean_model, tmp_path / "a" / "m", {"by": "hand"})
    two = save_model(clean_model, tmp_path / "b" / "m")
    assert sha256_of(one) == sha256_of(two) == sha256_of(clean_model)
    assert len(sha256_of(one)) == 64
    assert load_model(one).card.made == {"by": "hand"}
    other = copy.deepcopy(clean_model)
    with torch.no_grad():
        next(other.body.parameters()).view(-1)[0] += 1
    assert sha256_of(other) != sha256_of(one)
