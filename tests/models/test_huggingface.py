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
from safetensors.torch import load_file, save_file

from closesesame.core.errors import ModelError
from closesesame.data import Dataset
from closesesame.models import ARCHITECTURES, Classifier, fit_weights, load_model, save_model
from closesesame.models.extractors import Fbank, Normalized, WhisperMel
from closesesame.models.front_ends import ON_MAPS, Identity
from closesesame.models.huggingface import HuggingFace
from closesesame.models.pretrained import read_pretrained, write_pretrained
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
    model = transformers.AutoModelForAudioClassification.from_pretrained(folder, dtype=torch.float32).eval()
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


# What a folder says


@pytest.fixture
def vendor(tmp_path: Path) -> Path:
    """A folder of wav2vec 2.0."""
    return write_pretrained(built("wav2vec2"), tmp_path / "f")


def edit(folder: Path, name: str = "config.json", **entries: Any) -> Path:
    """Changes entries of a JSON file in a folder; returns the folder."""
    content = json.loads((folder / name).read_text())
    (folder / name).write_text(json.dumps(content | entries))
    return folder


def config_of(folder: Path) -> dict[str, Any]:
    """What stands in `config.json`, but for the version that wrote it."""
    config: dict[str, Any] = json.loads((folder / "config.json").read_text())
    del config["transformers_version"]
    return config


def answers_of(folder: Path) -> torch.Tensor:
    """Logits of a folder as it is imported."""
    given = read_pretrained(folder)
    model = fit_weights(given.checkpoint, given.architecture, given.classes, (16_000,), given.sample_rate)
    with torch.no_grad():
        logits: torch.Tensor = model(torch.from_numpy(sounds()))
    return logits


def test_classes_are_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    names = tuple(f"word {number}" for number in range(12))
    model = architecture("wav2vec2").build(names, (16_000,), 16_000, seed=1)
    folder = write_pretrained(model, tmp_path / "f")
    config = config_of(folder)
    assert config["id2label"] == {str(number): name for number, name in enumerate(names)}
    assert config["label2id"] == {name: number for number, name in enumerate(names)}
    assert read_pretrained(folder).classes == names


@pytest.mark.parametrize("options", [{}, {"sampling_rate": 8000}])
def test_the_sample_rate_of_a_folder_holds(options: dict[str, Any], sesame: Sesame, tmp_path: Path) -> None:
    model = HuggingFace(config=TINY, extractor=options).build(NAMES, (8000,), 8000, seed=1)
    folder = write_pretrained(model, tmp_path / "f")
    assert sesame.json("import", folder, tmp_path / "m")["sample_rate"] == 8000
    card = load_model(tmp_path / "m").card
    assert (card.sample_rate, card.input_shape) == (8000, (8000,))
    sesame("export", tmp_path / "m", tmp_path / "back")
    assert json.loads((tmp_path / "back" / "preprocessor_config.json").read_text())["sampling_rate"] == 8000
    said = sesame.fails("import", folder, tmp_path / "n", "--sample-rate", "8000")
    assert "names its sample rate; leave out --sample-rate" in said


def test_newer_folders_say_in_one_file_how_clips_become_inputs(vendor: Path) -> None:
    inner = {"sampling_rate": 8000, "do_normalize": False}
    (vendor / "processor_config.json").write_text(json.dumps({"processor_class": "Wav2Vec2Processor"}))
    assert read_pretrained(vendor).sample_rate == 16_000  # older ones keep it elsewhere
    for name in ("feature_extractor", "audio_processor"):
        (vendor / "processor_config.json").write_text(json.dumps({name: inner}))
        given = read_pretrained(vendor)  # transformers prefers it to the other file, too
        assert (given.sample_rate, given.architecture.settings()["extractor"]) == (8000, inner)
    (vendor / "preprocessor_config.json").unlink()
    given = read_pretrained(vendor)
    assert (given.sample_rate, given.notes) == (8000, ())
    edit(vendor, "processor_config.json", audio_processor="fast")
    with pytest.raises(ModelError, match="processor_config.json has a audio_processor that is no object"):
        read_pretrained(vendor)


def test_what_a_folder_does_not_say_is_assumed_as_by_transformers_and_said(
    vendor: Path, sesame: Sesame, tmp_path: Path
) -> None:
    (vendor / "preprocessor_config.json").write_text('{"sampling_rate": 16000}')
    sesame("import", vendor, tmp_path / "m")
    assert isinstance(load_model(tmp_path / "m").front_end, Normalized)
    assert f"{vendor / 'preprocessor_config.json'} does not say all of how clips" in sesame.noted
    assert "become inputs: do_normalize true is assumed" in sesame.noted
    edit(vendor, "preprocessor_config.json", do_normalize=False)
    sesame("import", vendor, tmp_path / "m", "--force")
    assert isinstance(load_model(tmp_path / "m").front_end, Identity)
    assert "assumed" not in sesame.noted
    (vendor / "preprocessor_config.json").unlink()
    sesame("import", vendor, tmp_path / "m", "--force")
    assert f"{vendor} has no preprocessor_config.json, which says how clips" in sesame.noted
    assert "sampling_rate 16000, do_normalize true is assumed, as by transformers" in sesame.noted


@pytest.mark.parametrize("kind", ["whisper", "audio-spectrogram-transformer"])
def test_a_network_that_answers_no_clip_is_not_imported(kind: str, sesame: Sesame, tmp_path: Path) -> None:
    folder = write_pretrained(built(kind), tmp_path / "f")
    edit(folder, "preprocessor_config.json", chunk_length=2, max_length=500)
    said = sesame.fails("import", folder, tmp_path / "m")
    assert f"{folder} makes a network that gives no answers to clips of 1 s at 16,000 Hz" in said
    assert "its preprocessor_config.json may not fit its config.json" in said
    (folder / "preprocessor_config.json").unlink()
    said = sesame.fails("import", folder, tmp_path / "m")
    assert "it has no preprocessor_config.json, which says how clips become inputs: get that file" in said
    assert not (tmp_path / "m").exists()


NOT_FOLLOWED: dict[str, Any] = {
    "return_dict": False,
    "use_return_dict": False,
    "torchscript": True,
    "output_hidden_states": True,
    "output_attentions": True,
    "gradient_checkpointing": True,
    "attn_implementation": "evil/kernel",
    "_attn_implementation": "evil/kernel",
    "torch_dtype": "float16",
    "dtype": "bfloat16",
}


def test_options_of_what_is_returned_and_how_it_is_computed_change_nothing(vendor: Path) -> None:
    expected = answers_of(vendor)
    before = (vendor / "config.json").read_text()
    for name, value in NOT_FOLLOWED.items():
        (vendor / "config.json").write_text(before)
        assert torch.equal(answers_of(edit(vendor, **{name: value})), expected), name
    assert torch.equal(answers_of(edit(vendor, **NOT_FOLLOWED)), expected)


def test_no_layer_is_dropped_and_no_input_masked_while_it_is_trained() -> None:
    without = dict.fromkeys(("hidden", "attention", "activation", "feat_proj", "final"), 0.0)
    config = TINY | {f"{name}_dropout": rate for name, rate in without.items()} | {"layerdrop": 1.0}
    config |= {"apply_spec_augment": True, "mask_time_prob": 0.5, "mask_time_length": 2}
    model = HuggingFace(config=config).build(NAMES, (16_000,), 16_000, seed=1)
    inputs = torch.from_numpy(sounds())
    assert torch.equal(model.train()(inputs), model.eval()(inputs))
    whisper = HuggingFace(kind="whisper", config=WHISPER | {"encoder_layerdrop": 1.0, "dropout": 0.0})
    model = whisper.model_copy(update={"extractor": CONFIGS["whisper"][1]}).build(
        NAMES, (16_000,), 16_000, seed=1
    )
    assert torch.equal(model.train()(inputs), model.eval()(inputs))


def test_what_goes_back_has_the_entries_that_came(vendor: Path, sesame: Sesame, tmp_path: Path) -> None:
    edit(vendor, apply_spec_augment=True, layerdrop=0.3, return_dict=False, torch_dtype="float32", odd=[5])
    content = json.loads((vendor / "config.json").read_text())
    del content["dtype"]
    (vendor / "config.json").write_text(json.dumps(content))
    sesame("import", vendor, tmp_path / "m")
    sesame("export", tmp_path / "m", tmp_path / "back")
    assert config_of(tmp_path / "back") == config_of(vendor)
    assert "note:" not in sesame.noted
    for name in ("apply_spec_augment", "layerdrop", "torch_dtype"):
        del content[name]
    (vendor / "config.json").write_text(json.dumps(content))
    sesame("import", vendor, tmp_path / "m", "--force")
    sesame("export", tmp_path / "m", tmp_path / "back", "--force")
    assert config_of(tmp_path / "back") == config_of(vendor) | {"dtype": "float32"}


def halved(folder: Path, key: str, dtype: torch.dtype) -> Path:
    """The folder with weights of fewer digits, as its config says."""
    state = {name: value.to(dtype) for name, value in load_file(folder / "model.safetensors").items()}
    save_file(state, folder / "model.safetensors", {"format": "pt"})
    content = json.loads((folder / "config.json").read_text())
    del content["dtype"]
    (folder / "config.json").write_text(json.dumps(content | {key: str(dtype).removeprefix("torch.")}))
    return folder


@pytest.mark.parametrize(
    ("key", "dtype"), [("torch_dtype", torch.float16), ("dtype", torch.float16), ("dtype", torch.bfloat16)]
)
def test_weights_of_16_bits_are_computed_in_32_and_go_back_as_they_came(
    key: str, dtype: torch.dtype, vendor: Path, sesame: Sesame, tmp_path: Path
) -> None:
    folder, kind = halved(vendor, key, dtype), str(dtype).removeprefix("torch.")
    sesame("import", folder, tmp_path / "m")
    model = load_model(tmp_path / "m")
    assert {weight.dtype for weight in model.parameters()} == {torch.float32}
    with torch.no_grad():
        answers = model(torch.from_numpy(sounds()))
    assert torch.allclose(answers, their_answers(folder), atol=1e-4)
    sesame("export", tmp_path / "m", tmp_path / "back")
    assert "note:" not in sesame.noted
    assert config_of(tmp_path / "back") == config_of(folder)
    came, went = (load_file(place / "model.safetensors") for place in (folder, tmp_path / "back"))
    assert came.keys() == went.keys()
    assert all(torch.equal(came[name], went[name]) and went[name].dtype is dtype for name in came)

    last = model.body.get_submodule("network.classifier").bias
    assert isinstance(last, torch.Tensor)
    with torch.no_grad():
        last += 1 / 3
    save_model(model, tmp_path / "m")
    sesame("export", tmp_path / "m", tmp_path / "back", "--force")
    assert f"note: weights are rounded to {kind}, as they came: logits change by" in sesame.noted
    assert config_of(tmp_path / "back")[key] == kind


def test_weights_that_16_bits_cannot_hold_are_written_in_32(
    vendor: Path, sesame: Sesame, tmp_path: Path
) -> None:
    sesame("import", halved(vendor, "torch_dtype", torch.float16), tmp_path / "m")
    model = load_model(tmp_path / "m")
    last = model.body.get_submodule("network.classifier").bias
    assert isinstance(last, torch.Tensor)
    with torch.no_grad():
        last[0] = 1e5
    save_model(model, tmp_path / "m")
    sesame("export", tmp_path / "m", tmp_path / "back")
    assert "note: weights came as float16 and are written as float32: rounded, they would" in sesame.noted
    assert config_of(tmp_path / "back")["torch_dtype"] == "float32"
    assert "dtype" not in config_of(tmp_path / "back")
    with torch.no_grad():
        answers = model(torch.from_numpy(sounds()))
    assert torch.allclose(their_answers(tmp_path / "back"), answers, atol=1e-2)


def test_mixed_numbers_are_kept_in_those_that_hold_all(vendor: Path) -> None:
    path = vendor / "model.safetensors"
    state = {name: value.half() for name, value in load_file(path).items()}
    state["classifier.bias"] = torch.tensor([1e5, 1.0, 2.0], dtype=torch.bfloat16)
    save_file(state, path, {"format": "pt"})
    given = read_pretrained(vendor)
    assert given.architecture.settings()["numbers"] == "float32"
    found = given.checkpoint.state
    same = [name for name in state if f"body.network.{name}" in found]
    assert {"classifier.bias", "classifier.weight"} <= set(same)
    assert all(torch.equal(found[f"body.network.{name}"], state[name].float()) for name in same)


def test_a_sharded_folder_says_how_to_make_one_file(vendor: Path, sesame: Sesame, tmp_path: Path) -> None:
    network: Any = built("wav2vec2").body.get_submodule("network")
    (vendor / "model.safetensors").unlink()
    network.save_pretrained(tmp_path / "shards", max_shard_size="10KB")
    for path in (tmp_path / "shards").glob("model*"):
        path.rename(vendor / path.name)
    said = sesame.fails("import", vendor, tmp_path / "m")
    assert f"{vendor} is sharded: model.safetensors.index.json lists several files of weights" in said
    assert "max_shard_size='10GB'" in said


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
    "two labels of one name": (
        lambda c: c.update(id2label={"0": "a", "1": "a", "2": "b"}),
        "f/config.json has two classes called 'a'",
    ),
    "a label that cannot be shown": (
        lambda c: c.update(id2label={"0": "a\x1b[2J", "1": "b", "2": "c"}),
        "f/config.json has a class",
    ),
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
    for wrong in ("fast", 0, -5, 999, 10**9, True, 16_000.0, None):
        (folder / "preprocessor_config.json").write_text(json.dumps({"sampling_rate": wrong}))
        said = sesame.fails("import", folder, tmp_path / "m")
        assert f"{folder / 'preprocessor_config.json'} has a sampling_rate that is no number of Hz" in said
    asked: tuple[dict[str, Any], ...] = (
        {"auto_map": {"AutoFeatureExtractor": "evil.py"}},
        {"quantization_config": {}},
    )
    for asking in asked:
        (folder / "preprocessor_config.json").write_text(json.dumps(asking))
        assert "asks for code of others by" in sesame.fails("import", folder, tmp_path / "m")
        for nested in ({"feature_extractor": asking}, {"feature_extractor": {}, **asking}):
            (folder / "processor_config.json").write_text(json.dumps(nested))
            assert "asks for code of others by" in sesame.fails("import", folder, tmp_path / "m")
        (folder / "processor_config.json").unlink()
    (folder / "preprocessor_config.json").unlink()
    said = sesame.fails("import", folder, tmp_path / "m", "--classes", "a,b")
    assert "leave out --classes and --model" in said
    (folder / "model.safetensors").unlink()
    said = sesame.fails("import", folder, tmp_path / "m")
    assert f"{folder} has no model.safetensors and no pytorch_model.bin; get the file" in said


def test_senseless_options_name_the_file_of_the_folder(sesame: Sesame, tmp_path: Path) -> None:
    folder = write_pretrained(built("whisper"), tmp_path / "f")
    edit(folder, "preprocessor_config.json", n_fft="many")
    said = sesame.fails("import", folder, tmp_path / "m")
    assert f"{folder / 'preprocessor_config.json'}: these options make no inputs for whisper" in said


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
