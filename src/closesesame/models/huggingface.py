"""Audio classifiers of Hugging Face's transformers: wav2vec 2.0, HuBERT, WavLM, Whisper's encoder, AST.

Wolf et al., "Transformers: State-of-the-Art Natural Language Processing", EMNLP 2020 (demos),
arXiv:1910.03771. A folder as `save_pretrained` writes it holds the sizes, the labels, how clips become
inputs, and the weights. None of it is run: the network is one of the five that transformers itself has, made
of the sizes; a folder that brings code of its own is refused.

Ours differs: parts of the input are never masked while it is trained (SpecAugment), and no layer is dropped:
transformers draws both from global random numbers.

A large network is trained in less time with its first layers frozen, and in less memory if what its layers
give is computed again for the gradient (Chen et al., "Training Deep Nets with Sublinear Memory Cost", 2016,
arXiv:1604.06174).
"""

import os
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from closesesame.core.disk import place
from closesesame.core.errors import DataError, ModelError, SettingError, counted, cut, listed, short
from closesesame.core.json_files import read_json, to_json
from closesesame.core.seeding import isolated
from closesesame.core.types import Logits

from .base import Architecture, Classifier
from .checkpoints import Checkpoint, Handed, read_checkpoint
from .extractors import front_end_of
from .frozen import freeze
from .size import check_size

Kind = Literal["wav2vec2", "hubert", "wavlm", "whisper", "audio-spectrogram-transformer"]
KINDS: tuple[Kind, ...] = ("wav2vec2", "hubert", "wavlm", "whisper", "audio-spectrogram-transformer")
NAME, CONFIG, EXTRACTOR, WEIGHTS = (
    "huggingface",
    "config.json",
    "preprocessor_config.json",
    "model.safetensors",
)
PICKLED = "pytorch_model.bin"
PREFIX = "body.network."
MOST_LAYERS = 256
TRAINED = ("frozen_layers", "recompute")
"""Settings that say how a network is trained, and nothing of what it is."""
_LAYERS = frozenset({"layers", "layer"})
"""What the list of the layers, one behind the other, is called in a network."""
_BEFORE = frozenset(
    {"feature_extractor", "feature_projection", "pos_conv_embed", "conv1", "conv2", "embed_positions"}
    | {"embeddings"}
)
"""What the parts before the layers are called."""
_CODE = ("auto_map", "quantization_config")
"""Entries that ask for code or packages of others."""
_LEFT_OUT = (
    "id2label",
    "label2id",
    "num_labels",
    "architectures",
    "transformers_version",
    "_name_or_path",
    "dtype",
)
"""Entries of no meaning here, or that the card has."""
_ALWAYS = {"apply_spec_augment": False, "layerdrop": 0.0, "encoder_layerdrop": 0.0, "decoder_layerdrop": 0.0}


class HuggingFace(Architecture):
    """A network with a classification head as transformers makes it of its sizes."""

    name: ClassVar[str] = NAME
    cite: ClassVar[str] = "arXiv:1910.03771"

    kind: Kind = Field("wav2vec2", description="which of the networks")
    config: dict[str, Any] = Field(
        {}, description="sizes and options, as `config.json` of transformers has them"
    )
    extractor: dict[str, Any] = Field(
        {}, description="how clips become inputs, as `preprocessor_config.json` has it"
    )
    frozen_layers: int = Field(
        0,
        ge=0,
        le=MOST_LAYERS,
        description="so many layers, the first ones, are not trained, nor what stands before them",
    )
    recompute: bool = Field(
        False, description="layers are computed again for the gradient: a third slower, in less memory"
    )

    def build(
        self,
        classes: tuple[str, ...],
        input_shape: tuple[int, ...],
        sample_rate: int | None,
        *,
        seed: int,
    ) -> Classifier:
        """Makes a model with fresh weights.

        Raises:
            ModelError: if the inputs are not waveforms (time,) at the sample rate of the extractor, the sizes
                make no network, or transformers is not installed.
        """
        if sample_rate is None or len(input_shape) != 1:
            raise ModelError(f"{self.name} takes waveforms with a sample rate, got inputs {input_shape}")
        wanted = self.extractor.get("sampling_rate", sample_rate)
        if wanted != sample_rate:
            raise ModelError(f"{self.name} takes waveforms at {wanted} Hz here, got {sample_rate} Hz")
        return self.assemble(
            front_end_of(self.kind, self.extractor, sample_rate),
            lambda: _Logits(self.network(len(classes))),
            classes,
            input_shape,
            sample_rate,
            seed=seed,
        )

    def network(self, classes: int) -> nn.Module:
        """The network of transformers with fresh weights, with what is frozen in it.

        Raises:
            ModelError: if the sizes make none, or it has fewer layers than are to be frozen.
        """
        network = _network(self.kind, self.config, classes)
        lists = (part for name, part in network.named_modules() if name.rpartition(".")[2] in _LAYERS)
        layers = next(part for part in lists if isinstance(part, nn.ModuleList))
        if self.frozen_layers > len(layers):
            raise ModelError(
                f"frozen_layers is {self.frozen_layers}, and the network has {counted(len(layers), 'layer')}"
            )
        if self.frozen_layers:
            before = [part for name, part in network.named_modules() if name.rpartition(".")[2] in _BEFORE]
            for part in (*before, *layers[: self.frozen_layers]):
                freeze(part)
        if self.recompute:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # new versions have another name, too
                enable: Any = network.gradient_checkpointing_enable
                enable({"use_reentrant": False})
        return network


class _Logits(nn.Module):
    """A network of transformers as one from a tensor to logits."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, features: Tensor) -> Logits:
        logits: Logits = self.network(features).logits
        return logits


def _network(kind: str, config: Mapping[str, Any], classes: int) -> nn.Module:
    """A network with fresh weights.

    Raises:
        ModelError: if the sizes make none.
    """
    _refuse_endless(config)
    with _quiet() as transformers:
        try:
            sizes = transformers.AutoConfig.for_model(kind, **{**config, **_ALWAYS, "num_labels": classes})
            network: nn.Module = transformers.AutoModelForAudioClassification.from_config(sizes)
        except Exception as error:  # code of others, on sizes of others
            raise ModelError(f"transformers makes no {kind} of these sizes ({short(error)})") from None
    for name, weight in network.named_parameters():
        if "masked_spec_embed" in name:
            weight.requires_grad_(False)  # of what is never masked
    return network


def _renamed(architecture: HuggingFace, classes: int, checkpoint: Checkpoint) -> Checkpoint:
    """The weights under the names that the network has today; older files have others.

    Raises:
        ModelError: if some are missing, too many, or of another shape.
    """
    misfit = f"{checkpoint.path} does not fit the sizes beside it"
    with torch.device("meta"):
        planned: Any = _network(architecture.kind, architecture.config, classes)
    with _quiet(), isolated(0):  # what is missing would be drawn
        try:
            network, found = type(planned).from_pretrained(
                None,
                config=planned.config,
                state_dict=checkpoint.state,
                output_loading_info=True,
                ignore_mismatched_sizes=True,
            )
        except Exception as error:  # code of others, on weights of others
            raise ModelError(f"{misfit} ({short(error)})") from None
    faults = {
        "it lacks": found["missing_keys"],
        "it also has": found["unexpected_keys"],
        "of other shapes are": [name for name, *_ in found["mismatched_keys"]],
    }
    wrong = [f"{what} {listed(sorted(names))}" for what, names in faults.items() if names]
    if wrong:
        raise ModelError(f"{misfit}: {' and '.join(wrong)}")
    return replace(checkpoint, state={PREFIX + name: value for name, value in network.state_dict().items()})


def _refuse_endless(config: Mapping[str, Any]) -> None:
    """Refuses numbers of layers that would take for ever to make.

    Raises:
        ModelError: if there are such.
    """
    for name, value in config.items():
        many = value if isinstance(value, int) else len(value) if isinstance(value, list) else 0
        if ("layer" in name and many > MOST_LAYERS) or (isinstance(value, list) and many > MOST_LAYERS):
            raise ModelError(f"{cut(name)} is {many:,}, and at most {MOST_LAYERS} layers are made")


@contextmanager
def _quiet() -> Iterator[Any]:
    """Gives the package; within the block it asks no network, and shows neither bars nor reports.

    Raises:
        ModelError: if it is not installed.
    """
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    try:
        import transformers
    except ImportError:
        raise ModelError(
            "models of Hugging Face need transformers; install it: pip install 'closesesame[hf]'"
        ) from None
    log: Any = transformers.utils.logging
    level, bars = log.get_verbosity(), log.is_progress_bar_enabled()
    log.set_verbosity(log.CRITICAL)
    log.disable_progress_bar()
    try:
        yield transformers
    finally:
        log.set_verbosity(level)
        if bars:
            log.enable_progress_bar()


def is_pretrained(folder: Path) -> bool:
    """Whether a folder has the files of a model of transformers."""
    try:
        return "model_type" in read_json(folder / CONFIG)
    except DataError:
        return False


def read_pretrained(folder: Path, settings: Mapping[str, object] | None = None) -> Handed:
    """Reads a folder as `save_pretrained` writes it; nothing in it is run, and no network is asked.

    Args:
        folder: that was handed over.
        settings: how the network is trained, `TRAINED`, which no folder says; may be text.

    Raises:
        ModelError: if it is of another kind, brings code of its own, or is damaged.
        SettingError: if the settings are others, or out of their range.
    """
    if unknown := sorted(set(settings or {}) - set(TRAINED)):
        raise SettingError(
            f"{folder} names its sizes itself, and {cut(unknown[0])!r} cannot be set; what can is "
            f"{', '.join(TRAINED)}"
        )
    try:
        config = read_json(folder / CONFIG)
        extractor = read_json(folder / EXTRACTOR) if (folder / EXTRACTOR).is_file() else {}
    except DataError as error:
        raise ModelError(f"{folder} cannot be imported: {error}") from None
    kind, asked = config.pop("model_type", None), [name for name in _CODE if name in {*config, *extractor}]
    if asked:
        raise ModelError(f"{folder} asks for code of others by {listed(asked)}, and that is not run")
    if kind not in KINDS:
        raise ModelError(f"{folder} is of kind {cut(kind)!r}; what is read is {', '.join(KINDS)}")
    labels = config.get("id2label")
    if not isinstance(labels, dict) or set(labels) != set(map(str, range(len(labels)))):
        raise ModelError(f"{folder / CONFIG} has no id2label that names its classes 0, 1, ...")
    sizes = {name: value for name, value in config.items() if name not in _LEFT_OUT}
    try:
        architecture = HuggingFace(kind=kind, config=sizes, extractor=extractor)
    except SettingError as error:
        raise ModelError(f"{folder / CONFIG}: {error}") from None
    architecture = HuggingFace.parse(architecture.settings() | dict(settings or {}))
    weights = next(
        (folder / name for name in (WEIGHTS, PICKLED) if (folder / name).is_file()), folder / WEIGHTS
    )
    rate = extractor.get("sampling_rate", 16_000)
    if not isinstance(rate, int):
        raise ModelError(f"{folder / EXTRACTOR} has a sampling_rate that is no number of Hz: {cut(rate)!r}")
    classes = tuple(str(labels[str(number)]) for number in range(len(labels)))
    checkpoint = read_checkpoint(weights)
    check_size(NAME, lambda: architecture.network(len(classes)))
    return Handed(architecture, classes, rate, _renamed(architecture, len(classes), checkpoint))


def write_pretrained(model: Classifier, folder: Path) -> Path:
    """Writes a folder that `from_pretrained` of transformers reads, whole or not at all.

    Raises:
        ModelError: if the model is of another architecture, or the folder holds something else.
    """
    card = model.card
    if card.architecture != NAME:
        raise ModelError(
            f"a model of architecture {card.architecture} is none of transformers; export a file"
        )
    network: Any = model.body.get_submodule("network")
    network.config.id2label = dict(enumerate(card.classes))
    network.config.label2id = {name: number for number, name in enumerate(card.classes)}
    extractor = to_json({"sampling_rate": card.sample_rate, **card.settings["extractor"]})

    def write(made: Path) -> None:
        with _quiet():
            network.save_pretrained(made)
        (made / EXTRACTOR).write_bytes(extractor)

    return place(folder, write, kind="folder")
