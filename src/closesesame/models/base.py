"""The model interface: a front end, which makes features, and a body, which classifies them."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import chain
from typing import Any, ClassVar, Literal, final

import torch
from pydantic import Field
from torch import Tensor, nn

from closesesame.core.domain import Domain
from closesesame.core.errors import ModelError
from closesesame.core.method import Method
from closesesame.core.seeding import isolated
from closesesame.core.types import Inputs, Logits
from closesesame.data import Dataset
from closesesame.data.dataset import domain_of

from .front_ends import MFCC, FrontEnd, LogMel
from .size import check_size


@dataclass(frozen=True)
class ModelCard:
    """What must be known to rebuild a model and to use it; it stands in `config.json`.

    Attributes:
        architecture: its name, or `module:name`.
        settings: of the architecture.
        classes: their names, in the order of the logits.
        input_shape: of one example.
        sample_rate: Hz; None for pictures.
        made: how the model was made, as far as that is known; nothing depends on it.
    """

    architecture: str
    settings: dict[str, Any]
    classes: tuple[str, ...]
    input_shape: tuple[int, ...]
    sample_rate: int | None
    made: dict[str, Any] = field(default_factory=dict)

    @property
    def domain(self) -> Domain:
        """What kind of inputs the model takes."""
        return domain_of(self.sample_rate)

    @property
    def duration_s(self) -> float:
        """Length of a clip; of waveforms only."""
        return self.input_shape[0] / (self.sample_rate or 1)


class Classifier(nn.Module):
    """A model from the data set's inputs to logits.

    The front end is part of the model, so a trigger acts where an attacker acts: on the waveform or the
    picture. Training may compute the features once, and augment them, since the body starts from them.

    Attributes:
        front_end: inputs (batch, ...) to features; without trainable parameters.
        body: features to logits (batch, classes).
        card: how it was built, and for what.
    """

    def __init__(self, front_end: FrontEnd, body: nn.Module, card: ModelCard) -> None:
        super().__init__()
        self.front_end = front_end
        self.body = body
        self.card = card

    @property
    def device(self) -> torch.device:
        """Where its weights are."""
        return device_of(self)

    @torch.no_grad()
    def features(self, data: Dataset, batch_size: int = 256) -> Tensor:
        """What the front end makes of all examples (n, ...), on the model's device."""
        return torch.cat([self.front_end(inputs.to(self.device)) for inputs, _ in data.batches(batch_size)])

    def forward(self, inputs: Inputs) -> Logits:
        """Inputs to logits."""
        with torch.autocast(inputs.device.type, enabled=False):  # levels need all their digits
            features = self.front_end(inputs)
        logits: Tensor = self.body(features)
        return logits


def device_of(model: nn.Module) -> torch.device:
    """Where the weights of any module are, or its buffers; the CPU if it has neither."""
    tensors = chain(model.parameters(), model.buffers())
    return next((tensor.device for tensor in tensors), torch.device("cpu"))


class Architecture(Method, ABC):
    """A kind of network, with its sizes; `build` makes one with fresh weights."""

    parameters_of_paper: ClassVar[int | None] = None
    """Trainable parameters of the published network at its published sizes, where that is known."""

    @classmethod
    def claims_in_words(cls) -> dict[str, str]:
        """How large the published network is, where that is known."""
        size = cls.parameters_of_paper
        return {} if size is None else {"size": f"{size:,} parameters as published"}

    @abstractmethod
    def build(
        self,
        classes: tuple[str, ...],
        input_shape: tuple[int, ...],
        sample_rate: int | None,
        *,
        seed: int,
    ) -> Classifier:
        """Makes a model with fresh weights for inputs of one shape; `assemble` does most of it.

        Args:
            classes: their names, in the order of the logits.
            input_shape: of one example: (time,), or (channels, height, width).
            sample_rate: Hz; None for pictures.
            seed: of the weights.

        Raises:
            ModelError: if the network cannot take such inputs.
        """

    @final
    def assemble(
        self,
        front_end: FrontEnd,
        body: Callable[[], nn.Module],
        classes: tuple[str, ...],
        input_shape: tuple[int, ...],
        sample_rate: int | None,
        *,
        seed: int,
    ) -> Classifier:
        """Makes a model of a front end and a body, whose weights are drawn by the seed.

        Args:
            front_end: inputs to features.
            body: makes the network from features to logits.
            classes: as `build` got them, and so are the others.
            input_shape: of one example.
            sample_rate: Hz; None for pictures.
            seed: of the weights.

        Raises:
            ModelError: if the weights would take more memory than is allowed.
        """
        check_size(self.name, body)
        with isolated(seed, "weights", self.name):
            network = body()
        # Convolutions run up to 1.6 times faster in this layout; set here, so that a model read from disk
        # gives the very numbers of the one that was written.
        network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        card = ModelCard(self.full_name(), self.settings(), classes, input_shape, sample_rate)
        return Classifier(front_end, network, card)


class SpectralArchitecture(Architecture, ABC):
    """An architecture for waveforms whose network starts from a spectral map."""

    features: Literal["log_mel", "mfcc"] = Field("log_mel", description="front end on waveforms")
    bands: int = Field(40, ge=8, le=256, description="mel bands of the front end")

    @final
    def build(
        self,
        classes: tuple[str, ...],
        input_shape: tuple[int, ...],
        sample_rate: int | None,
        *,
        seed: int,
    ) -> Classifier:
        """Makes a model with fresh weights for waveforms of one length.

        Raises:
            ModelError: if the inputs are not waveforms (time,) with a sample rate.
        """
        if sample_rate is None or len(input_shape) != 1:
            raise ModelError(f"{self.name} takes waveforms with a sample rate, got inputs {input_shape}")
        front_end = (LogMel if self.features == "log_mel" else MFCC)(sample_rate, self.bands)
        frames = front_end.frames(input_shape[0])
        return self.assemble(
            front_end,
            lambda: self.body(len(classes), self.bands, frames),
            classes,
            input_shape,
            sample_rate,
            seed=seed,
        )

    @abstractmethod
    def body(self, classes: int, bands: int, frames: int) -> nn.Module:
        """Hook: the network from maps (batch, bands, frames) to logits (batch, classes)."""
