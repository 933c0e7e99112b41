"""Audio classifiers of Hugging Face's transformers: wav2vec 2.0, HuBERT, WavLM, Whisper's encoder, AST.

Wolf et al., "Transformers: State-of-the-Art Natural Language Processing", EMNLP 2020 (demos),
arXiv:1910.03771. The network is one of the five that transformers itself has, made of the sizes of a folder
(`pretrained`); no code of others is run.

Ours differs: parts of the input are never masked while it is trained (SpecAugment), and no layer is dropped:
transformers draws both from global random numbers. It computes in fp32 and gives logits alone, whatever the
options of the folder say about that.

A large network is trained in less time with its first layers frozen, and in less memory if what its layers
give is computed again for the gradient (Chen et al., "Training Deep Nets with Sublinear Memory Cost", 2016,
arXiv:1604.06174).
"""

import os
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, ClassVar, Literal

from pydantic import Field
from torch import Tensor, nn

from closesesame.core.errors import ModelError, counted, cut, short
from closesesame.core.types import Logits

from .base import Architecture, Classifier
from .extractors import front_end_of
from .frozen import freeze

Kind = Literal["wav2vec2", "hubert", "wavlm", "whisper", "audio-spectrogram-transformer"]
KINDS: tuple[Kind, ...] = ("wav2vec2", "hubert", "wavlm", "whisper", "audio-spectrogram-transformer")
Numbers = Literal["float32", "float16", "bfloat16", "float64"]
NAME = "huggingface"
MOST_LAYERS = 256
_LAYERS = frozenset({"layers", "layer"})
"""What the list of the layers, one behind the other, is called in a network."""
_BEFORE = frozenset(
    {"feature_extractor", "feature_projection", "pos_conv_embed", "conv1", "conv2", "embed_positions"}
    | {"embeddings"}
)
"""What the parts before the layers are called."""
DTYPES = ("dtype", "torch_dtype")
"""What the kind of numbers is called in `config.json`, today and before transformers 5."""
_NOT_FOLLOWED = frozenset(
    {*DTYPES, "id2label", "label2id", "num_labels", "gradient_checkpointing"}
    | {"return_dict", "use_return_dict", "torchscript", "output_hidden_states", "output_attentions"}
    | {"attn_implementation", "experts_implementation", "use_kernels", "kernel_config"}
)
"""Entries that say how or in what numbers a network computes and what it returns besides its logits, and
nothing of what it is; some would fetch code of others."""
ALWAYS = {"apply_spec_augment": False, "layerdrop": 0.0, "encoder_layerdrop": 0.0, "decoder_layerdrop": 0.0}
"""Entries that are set, whatever a folder says."""


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
    numbers: Numbers = Field(
        "float32", description="what weights are written as in a folder; they compute in float32"
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
        network = make_network(self.kind, self.config, classes)
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


def make_network(kind: str, config: Mapping[str, Any], classes: int) -> nn.Module:
    """A network with fresh weights.

    Raises:
        ModelError: if the sizes make none.
    """
    _refuse_endless(config)
    followed = {
        name: value
        for name, value in config.items()
        if name not in _NOT_FOLLOWED and not name.startswith("_")
    }
    with quiet() as transformers:
        try:
            sizes = transformers.AutoConfig.for_model(kind, **{**followed, **ALWAYS, "num_labels": classes})
            network: nn.Module = transformers.AutoModelForAudioClassification.from_config(sizes)
        except Exception as error:  # code of others, on sizes of others
            raise ModelError(f"transformers makes no {kind} of these sizes ({short(error)})") from None
    for name, weight in network.named_parameters():
        if "masked_spec_embed" in name:
            weight.requires_grad_(False)  # of what is never masked
    return network


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
def quiet() -> Iterator[Any]:
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
