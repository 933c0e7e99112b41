"""Frozen layers of large networks stay as they are; layers that are computed again give the same."""

import copy
import importlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from closesesame.core.errors import ModelError
from closesesame.data import Dataset
from closesesame.detection import ConfidentLearning, ConfusionTraining, Detection
from closesesame.models import Classifier, load_model
from closesesame.models.frozen import freeze, frozen_weights
from closesesame.models.huggingface import HuggingFace
from closesesame.removal import FT, Restore, Scratch
from closesesame.robust_training import VIBE
from closesesame.training import Training, predict
from closesesame.training.weights import redraw
from tests.commands import Sesame

pytest.importorskip("transformers", reason="the extra 'hf' is not installed")

from tests.models.test_huggingface import CONFIGS, NAMES, built, sounds

LAYERS = {"whisper": "encoder_layers"}
FIRST = {
    "wav2vec2": "network.wav2vec2.encoder.layers.0.",
    "hubert": "network.hubert.encoder.layers.0.",
    "wavlm": "network.wavlm.encoder.layers.0.",
    "whisper": "network.encoder.layers.0.",
    "audio-spectrogram-transformer": "network.audio_spectrogram_transformer.layers.0.",
}
BEFORE = {
    "wav2vec2": {"feature_extractor", "feature_projection", "pos_conv_embed"},
    "hubert": {"feature_extractor", "feature_projection", "pos_conv_embed"},
    "wavlm": {"feature_extractor", "feature_projection", "pos_conv_embed"},
    "whisper": {"conv1", "conv2", "embed_positions"},
    "audio-spectrogram-transformer": {"embeddings"},
}


def two_layers(kind: str, **more: Any) -> Classifier:
    sizes, extractor = CONFIGS[kind]
    off = dict.fromkeys(("hidden_dropout", "attention_dropout", "activation_dropout"), 0.0)
    sizes = {**sizes, **off, LAYERS.get(kind, "num_hidden_layers"): 2}
    made = HuggingFace(kind=kind, config=sizes, extractor=extractor, **more)
    return made.build(NAMES, (16_000,), 16_000, seed=1).eval()


def examples() -> Dataset:
    clips = torch.from_numpy(np.repeat(sounds(), 4, axis=0))
    return Dataset.of(clips, torch.arange(12) % 3, classes=NAMES, sample_rate=16_000)


def changed(before: nn.Module, after: nn.Module) -> set[str]:
    old = before.state_dict()
    return {name for name, value in after.state_dict().items() if not torch.equal(value, old[name])}


@pytest.mark.parametrize("kind", CONFIGS)
def test_a_repair_leaves_frozen_layers_as_they_are_and_trains_the_others(kind: str) -> None:
    model = two_layers(kind, frozen_layers=1)
    frozen = frozen_weights(model.body)
    parts = set[str]().union(*(name.split(".") for name in frozen))
    assert BEFORE[kind] <= parts
    assert {name for name in frozen if name.startswith(FIRST[kind])}
    second = FIRST[kind].replace(".0.", ".1.")
    assert not {name for name in frozen if name.startswith(second) or "classifier" in name}
    repaired = FT(steps=2, lr=1e-2, batch_size=4).remove(model, examples(), 0).model
    moved = changed(model.body, repaired.body)
    assert not moved & frozen
    assert {name for name in moved if name.startswith(second)}
    assert {name for name in moved if name.startswith("network.classifier.")}


def test_fresh_weights_and_what_starts_from_them_keep_the_frozen_ones() -> None:
    model = two_layers("wav2vec2", frozen_layers=1)
    frozen = frozen_weights(model.body)
    fresh = copy.deepcopy(model)
    redraw(fresh, 7)
    assert frozen_weights(fresh.body) == frozen
    moved = changed(model.body, fresh.body)
    assert not moved & frozen
    assert "network.wav2vec2.encoder.layers.1.attention.q_proj.weight" in moved
    for removal in (Restore(steps=2, splices=4), Scratch(steps=2)):
        repaired = removal.remove(model, examples(), 0).model
        assert not changed(model.body, repaired.body) & frozen
        assert "network.classifier.weight" in changed(model.body, repaired.body)


@pytest.mark.parametrize("kind", ["wavlm", "whisper", "audio-spectrogram-transformer"])
def test_layers_that_are_computed_again_give_the_same_weights(kind: str) -> None:
    made = [
        FT(steps=2, batch_size=4, augmentation="none")
        .remove(two_layers(kind, recompute=again), examples(), 0)
        .model
        for again in (False, True)
    ]
    for one, other in zip(*(model.state_dict().values() for model in made), strict=True):
        assert torch.allclose(one, other, atol=1e-6)
    again = [
        [getattr(module, "gradient_checkpointing", False) for module in model.modules()] for model in made
    ]
    assert [sum(one) >= 2 for one in again] == [False, True]


def test_a_vendor_s_folder_is_imported_with_frozen_layers(sesame: Sesame, tmp_path: Path) -> None:
    from closesesame.models.pretrained import write_pretrained

    folder = write_pretrained(built("wav2vec2"), tmp_path / "f")
    sesame("import", folder, tmp_path / "m", "--set", "frozen_layers=1", "--set", "recompute=true")
    model = load_model(tmp_path / "m")
    assert frozen_weights(model.body)
    assert (model.card.settings["frozen_layers"], model.card.settings["recompute"]) == (1, True)
    sesame("export", tmp_path / "m", tmp_path / "back")
    said = sesame.fails("import", folder, tmp_path / "n", "--set", "frozen_layers=2")
    assert "frozen_layers is 2, and the network has 1 layer" in said
    said = sesame.fails("import", folder, tmp_path / "n", "--set", "kind=whisper")
    assert "'kind' cannot be set; what can is frozen_layers, recompute" in said
    assert "must be" in sesame.fails("import", folder, tmp_path / "n", "--set", "frozen_layers=-1")


def test_a_network_without_layers_to_freeze_says_so() -> None:
    with pytest.raises(ModelError, match="frozen_layers is 3, and the network has 2 layers"):
        two_layers("hubert", frozen_layers=3)


def test_marks_stay_in_copies_and_name_buffers_too() -> None:
    network = nn.Sequential(nn.BatchNorm1d(2), nn.Linear(2, 2))
    freeze(network[0])
    expected = {"0.weight", "0.bias", "0.running_mean", "0.running_var", "0.num_batches_tracked"}
    assert frozen_weights(copy.deepcopy(network)) == expected
    assert not any(weight.requires_grad for weight in network[0].parameters())
    assert frozen_weights(nn.Linear(2, 2)) == set()
    freeze(network)
    assert frozen_weights(network) == {*expected, "1.weight", "1.bias"}


@pytest.mark.parametrize(
    "method",
    [
        ConfidentLearning(folds=2, training=Training(steps=2, lr=1e-2)),
        ConfusionTraining(steps=2, lr=1e-2, kept_shares=()),
    ],
    ids=lambda method: method.name,
)
def test_a_detection_that_trains_leaves_frozen_layers_as_they_are(
    method: Detection, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = two_layers("wav2vec2", frozen_layers=1)
    trained: list[Classifier] = []
    module = importlib.import_module(type(method).__module__)

    def noted(model: Classifier, data: Dataset) -> Tensor:
        trained.append(model)
        return predict(model, data)

    monkeypatch.setattr(module, "predict", noted)
    method.score(model, examples(), examples(), 0)
    moved = changed(model.body, trained[-1].body)
    assert not moved & frozen_weights(model.body)
    assert moved


def test_vibe_leaves_frozen_layers_as_they_are() -> None:
    sizes, extractor = CONFIGS["wav2vec2"]
    made = HuggingFace(kind="wav2vec2", config=sizes, extractor=extractor, frozen_layers=1)
    states: list[dict[str, Tensor]] = []

    def watch(stage: str, epoch: int, model: Classifier) -> None:
        states.append({name: value.clone() for name, value in model.body.state_dict().items()})

    method = VIBE(training=Training(epochs=2, batch_size=4), feature_epochs=1)
    trained = method.train(made, examples(), 0, watch=watch).model
    frozen = frozen_weights(trained.body)
    assert frozen
    first, last = states[0], states[-1]
    assert all(torch.equal(first[name], last[name]) for name in frozen)
    assert any(not torch.equal(first[name], last[name]) for name in set(first) - frozen)
