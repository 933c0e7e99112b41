"""Models of transformers: inputs as its extractors make them; folders read, repaired and written again."""

import json
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from closesesame.core.errors import ModelError
from closesesame.data import Dataset
from closesesame.models import ARCHITECTURES, Classifier, load_model, save_model
from closesesame.models.extractors import Fbank, Normalized, WhisperMel
from closesesame.models.front_ends import ON_MAPS
from closesesame.models.huggingface import HuggingFace, read_pretrained, write_pretrained
from closesesame.removal import FT, Restore
from closesesame.testing import checks_for
from tests.commands import Sesame

transformers = pytest.importorskip("transformers", reason="the extra 'hf' is not installed")

TINY: dict[str, int | list[int]] = {
    "hidden_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "conv_dim": [16, 16],
    "conv_stride": [10, 8],
    "conv_kernel": [10, 8],
    "num_feat_extract_layers": 2,
    "num_conv_pos_embeddings": 8,
    "num_conv_pos_embedding_groups": 2,
    "classifier_proj_size": 16,
}
WHISPER = {
    "d_model": 16,
    "encoder_layers": 1,
    "encoder_attention_heads": 2,
    "encoder_ffn_dim": 32,
    "decoder_layers": 1,
    "decoder_attention_heads": 2,
    "decoder_ffn_dim": 32,
    "num_mel_bins": 80,
    "max_source_positions": 50,
    "vocab_size": 50,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "decoder_start_token_id": 1,
    "classifier_proj_size": 16,
}
AST = {
    "hidden_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "max_length": 98,
    "num_mel_bins": 32,
    "time_stride": 16,
    "frequency_stride": 16,
}
CONFIGS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "wav2vec2": (TINY, {"do_normalize": True}),
    "hubert": (TINY, {"do_normalize": True}),
    "wavlm": (TINY, {"do_normalize": False}),
    "whisper": (WHISPER, {"chunk_length": 1, "feature_size": 80}),
    "audio-spectrogram-transformer": (AST, {"max_length": 98, "num_mel_bins": 32}),
}
NAMES = ("stop", "no", "yes")


def sounds(count: int = 3, samples: int = 16_000) -> NDArray[np.float32]:
    rng = np.random.default_rng(0)
    loud = np.array([0.3, 0.02, 0.1])[:count, None]
    return (loud * rng.standard_normal((count, samples)) + 0.05).astype(np.float32)


# Inputs


def test_waveforms_are_normalized_as_by_wav2vec2() -> None:
    extract = transformers.Wav2Vec2FeatureExtractor()
    expected = extract(list(sounds()), sampling_rate=16_000, return_tensors="np")["input_values"]
    assert np.allclose(Normalized()(torch.from_numpy(sounds())).numpy(), expected, atol=1e-5)


@pytest.mark.parametrize("samples", [9_000, 16_000, 20_000])
def test_maps_are_those_of_whisper(samples: int) -> None:
    extract = transformers.WhisperFeatureExtractor(chunk_length=1, feature_size=64)
    given = sounds(samples=samples)
    expected = extract(list(given), sampling_rate=16_000, return_tensors="np")["input_features"]
    found = WhisperMel(16_000, feature_size=64, chunk_length=1)(torch.from_numpy(given))
    assert found.shape == (3, 64, 100)
    assert np.allclose(found.numpy(), expected, atol=1e-4)


@pytest.mark.parametrize(("samples", "frames"), [(300, 98), (16_000, 98), (16_000, 40), (16_000, 120)])
@pytest.mark.parametrize("normalized", [True, False])
def test_banks_are_those_of_ast(samples: int, frames: int, normalized: bool) -> None:
    options: dict[str, Any] = {"max_length": frames, "num_mel_bins": 64, "mean": -3.0, "std": 2.5}
    options["do_normalize"] = normalized
    extract = transformers.ASTFeatureExtractor(**options)
    given = sounds(samples=samples)
    whole = np.pad(given, ((0, 0), (0, max(0, 400 - samples))))  # theirs has no frame of less than 400
    expected = extract(list(whole), sampling_rate=16_000, return_tensors="np")["input_values"]
    found = Fbank(16_000, **options)(torch.from_numpy(given))
    assert found.shape == (3, frames, 64)
    assert np.allclose(found.numpy(), expected, atol=2e-3)


@pytest.mark.parametrize("front_end", [Normalized(), WhisperMel(16_000, chunk_length=1), Fbank(16_000)])
def test_a_gradient_reaches_the_waveform(front_end: torch.nn.Module) -> None:
    wave = torch.from_numpy(sounds()).requires_grad_(True)
    front_end(wave).square().sum().backward()
    assert wave.grad is not None
    assert (wave.grad[:, 400:15_000].abs() > 0).float().mean() > 0.9


@pytest.mark.parametrize("strength", ["light", "varied"])
def test_banks_are_varied_along_the_axes_that_maps_have(strength: str) -> None:
    front_end = Fbank(16_000, max_length=60, num_mel_bins=20)
    assert front_end.augmentation("none") is None
    vary = front_end.augmentation(strength)
    assert vary is not None
    maps = torch.randn(4, 60, 20, generator=torch.Generator().manual_seed(1))
    made = vary(maps, torch.Generator().manual_seed(2))
    expected = ON_MAPS[strength](maps.transpose(1, 2), torch.Generator().manual_seed(2))
    assert torch.equal(made, expected.transpose(1, 2))


# Networks


@pytest.fixture(params=CONFIGS)
def kind(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


def architecture(kind: str) -> HuggingFace:
    config, extractor = CONFIGS[kind]
    return HuggingFace(kind=kind, config=config, extractor=extractor)


def built(kind: str) -> Classifier:
    return architecture(kind).build(NAMES, (16_000,), 16_000, seed=1).eval()


@pytest.fixture
def theirs(kind: str, tmp_path: Path) -> Path:
    """A folder as transformers writes it."""
    config, options = CONFIGS[kind]
    labels = {"id2label": dict(enumerate(NAMES)), "label2id": {name: n for n, name in enumerate(NAMES)}}
    sizes = transformers.AutoConfig.for_model(kind, **config, **labels)
    torch.manual_seed(0)
    model = transformers.AutoModelForAudioClassification.from_config(sizes)
    model.save_pretrained(tmp_path / "theirs")
    extractor(kind)(**options).save_pretrained(tmp_path / "theirs")
    return tmp_path / "theirs"


def extractor(kind: str) -> Any:
    return {
        "whisper": transformers.WhisperFeatureExtractor,
        "audio-spectrogram-transformer": transformers.ASTFeatureExtractor,
    }.get(kind, transformers.Wav2Vec2FeatureExtractor)


def their_answers(folder: Path) -> torch.Tensor:
    model = transformers.AutoModelForAudioClassification.from_pretrained(folder).eval()
    extract = transformers.AutoFeatureExtractor.from_pretrained(folder)
    inputs = extract(list(sounds()), sampling_rate=16_000, return_tensors="pt")
    with torch.no_grad():
        logits: torch.Tensor = model(**inputs).logits
    return logits


def test_it_keeps_the_rules_of_an_architecture() -> None:
    rules = dict(checks_for(architecture("wav2vec2")))
    del rules["a_bad_value_is_refused_by_class_and_field"]  # any object in braces may be a config
    for rule in rules.values():
        rule()


def test_maps_of_any_kind_become_logits(kind: str) -> None:
    assert built(kind)(torch.zeros(2, 16_000)).shape == (2, 3)


def test_a_folder_is_imported_and_gives_the_answers_of_transformers(
    theirs: Path, sesame: Sesame, tmp_path: Path
) -> None:
    found = sesame.json("import", theirs, tmp_path / "m")
    assert found["classes"] == list(NAMES)
    assert (found["architecture"], found["sample_rate"]) == ("huggingface", 16_000)
    model = load_model(tmp_path / "m")
    with torch.no_grad():
        answers = model(torch.from_numpy(sounds()))
    assert torch.allclose(answers, their_answers(theirs), atol=1e-4)
    assert model.card.made["file_sha256"] == found["file_sha256"]


def test_what_was_repaired_goes_back_to_transformers(theirs: Path, sesame: Sesame, tmp_path: Path) -> None:
    sesame("import", theirs, tmp_path / "m")
    data = Dataset.of(
        torch.from_numpy(np.repeat(sounds(), 4, axis=0)),
        torch.arange(12) % 3,
        classes=NAMES,
        sample_rate=16_000,
    )
    made = FT(steps=2, lr=1e-3, batch_size=4).remove(load_model(tmp_path / "m"), data, 0).model
    save_model(made, tmp_path / "repaired")
    sesame("export", tmp_path / "repaired", tmp_path / "back")
    with torch.no_grad():
        answers = made(torch.from_numpy(sounds()))
    assert torch.allclose(their_answers(tmp_path / "back"), answers, atol=1e-4)
    assert not torch.allclose(their_answers(theirs), answers, atol=1e-4)
    again = sesame.json("import", tmp_path / "back", tmp_path / "m", "--force")
    assert again["classes"] == list(NAMES)
    sesame("export", tmp_path / "repaired", tmp_path / "back", "--force")


@pytest.mark.parametrize("kind", ["wav2vec2"], indirect=True)
def test_restore_repairs_it_without_the_network(
    theirs: Path, sesame: Sesame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*args: object, **named: object) -> None:
        raise AssertionError("the network was asked")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    sesame("import", theirs, tmp_path / "m")
    data = Dataset.of(torch.from_numpy(sounds()), torch.arange(3), classes=NAMES, sample_rate=16_000)
    model = load_model(tmp_path / "m")
    first, second = (Restore(steps=2, splices=4).remove(model, data, 0).model for _ in range(2))
    for one, other in zip(first.state_dict().values(), second.state_dict().values(), strict=True):
        assert torch.equal(one, other)
    write_pretrained(first, tmp_path / "back")


def test_weights_that_others_pickled_are_read_too(tmp_path: Path) -> None:
    model = built("wav2vec2")
    folder = write_pretrained(model, tmp_path / "f")
    (folder / "model.safetensors").unlink()
    state = {name.removeprefix("body.network."): value for name, value in model.state_dict().items()}
    torch.save(state, folder / "pytorch_model.bin")
    assert read_pretrained(folder).checkpoint.format == "PyTorch"


# Hostile folders

Edit = Callable[[dict[str, Any]], object]
HOSTILE: dict[str, tuple[Edit, str]] = {
    "code of its own": (
        lambda c: c.update(auto_map={"AutoModel": "evil.py"}),
        "asks for code of others by auto_map, and that is not run",
    ),
    "another package": (
        lambda c: c.update(quantization_config={"quant_method": "evil"}),
        "asks for code of others by quantization_config",
    ),
    "another kind": (lambda c: c.update(model_type="gpt2"), "is of kind 'gpt2'; what is read is wav2vec2"),
    "a list as kind": (lambda c: c.update(model_type=["wav2vec2"]), "is of kind"),
    "no labels": (lambda c: c.pop("id2label"), "has no id2label that names its classes"),
    "labels with a gap": (lambda c: c.update(id2label={"0": "a", "2": "b"}), "has no id2label"),
    "layers without end": (
        lambda c: c.update(num_hidden_layers=10**9),
        "num_hidden_layers is 1,000,000,000, and at most 256 layers are made",
    ),
    "huge layers": (lambda c: c.update(hidden_size=2**20), "huggingface with these settings has weights of"),
    "text as sizes": (
        lambda c: c.update(hidden_size="wide"),
        "makes no wav2vec2 of these sizes",
    ),
    "an unknown activation": (
        lambda c: c.update(hidden_act="evil"),
        "makes no wav2vec2 of these sizes",
    ),
    "sizes of another model": (
        lambda c: c.update(intermediate_size=64),
        "does not fit the sizes beside it",
    ),
    "three labels of two": (
        lambda c: c.update(id2label={"0": "a", "1": "b"}),
        "does not fit the sizes beside it",
    ),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_folders_are_one_sentence(name: str, sesame: Sesame, tmp_path: Path) -> None:
    folder = write_pretrained(built("wav2vec2"), tmp_path / "f")
    config = json.loads((folder / "config.json").read_text())
    edit, said = HOSTILE[name]
    edit(config)
    (folder / "config.json").write_text(json.dumps(config))
    assert said in sesame.fails("import", folder, tmp_path / "m")
    assert not (tmp_path / "m").exists()


def test_a_damaged_folder_and_one_without_weights_are_one_sentence(sesame: Sesame, tmp_path: Path) -> None:
    folder = write_pretrained(built("wav2vec2"), tmp_path / "f")
    (folder / "preprocessor_config.json").write_text("[")
    assert "preprocessor_config.json is no JSON" in sesame.fails("import", folder, tmp_path / "m")
    (folder / "preprocessor_config.json").write_text('{"sampling_rate": "fast"}')
    assert "no number of Hz" in sesame.fails("import", folder, tmp_path / "m")
    (folder / "preprocessor_config.json").unlink()
    said = sesame.fails("import", folder, tmp_path / "m", "--classes", "a,b")
    assert "leave out --classes and --model" in said
    (folder / "model.safetensors").unlink()
    assert "model.safetensors is no file" in sesame.fails("import", folder, tmp_path / "m")


def test_extractors_with_senseless_options_are_one_sentence() -> None:
    for options in ({"chunk_length": 10**9}, {"feature_size": -1}, {"n_fft": "many"}):
        wrong = HuggingFace(kind="whisper", config=WHISPER, extractor=options)
        with pytest.raises(ModelError, match="these options make no inputs for whisper"):
            wrong.build(NAMES, (16_000,), 16_000, seed=0)
    wrong = HuggingFace(config=TINY, extractor={"sampling_rate": 8000})
    with pytest.raises(ModelError, match="takes waveforms at 8000 Hz here, got 16000 Hz"):
        wrong.build(NAMES, (16_000,), 16_000, seed=0)


def test_other_models_do_not_become_such_a_folder(clean_model: Classifier, tmp_path: Path) -> None:
    assert "huggingface" not in ARCHITECTURES
    with pytest.raises(ModelError, match="is none of transformers; export a file"):
        write_pretrained(clean_model, tmp_path / "f")
