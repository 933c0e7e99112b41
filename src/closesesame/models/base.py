"""What every model of the house is: a front end, which makes features, and a body, which classifies."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, final

import torch
from pydantic import Field
from torch import Tensor, nn

from closesesame.audio.features import MFCC, LogMel
from closesesame.core.bounds import check_classes, check_reading
from closesesame.core.errors import ModelError, SettingError
from closesesame.core.method import Method
from closesesame.core.seeding import isolated
from closesesame.core.types import Inputs, Logits
from closesesame.data import Dataset

from .size import check_size


@dataclass(frozen=True)
class Card:
    """What must be known to rebuild a model and to use it; it stands in `config.json`.

    Attributes:
        architecture: its name, or `module:Class`.
        settings: of the architecture.
        classes: their names, in the order of the logits.
        input_shape: of one example.
        sample_rate: Hz; None for pictures.
        made: how it came to be, as far as that is known; nothing depends on it.
    """

    architecture: str
    settings: dict[str, Any]
    classes: tuple[str, ...]
    input_shape: tuple[int, ...]
    sample_rate: int | None
    made: dict[str, Any] = field(default_factory=dict)

    @property
    def duration_s(self) -> float:
        """Length of a clip; of waveforms only."""
        return self.input_shape[0] / (self.sample_rate or 1)


class Classifier(nn.Module):
    """A model from the data set's inputs to logits.

    The front end is part of the model, so a trigger acts where an attacker acts: on the waveform.
    Training may compute the features once, and augment them, since the body starts from them.

    Attributes:
        front_end: inputs (batch, ...) to features; without trainable parameters.
        body: features to logits (batch, classes).
        card: how it was built, and for what.
    """

    def __init__(self, front_end: nn.Module, body: nn.Module, card: Card) -> None:
        super().__init__()
        self.front_end = front_end
        self.body = body
        self.card = card

    @property
    def device(self) -> torch.device:
        """Where its weights are."""
        return next((weight.device for weight in self.parameters()), torch.device("cpu"))

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


EXTERNAL = "external"
"""The architecture on the card of a module that is not ours."""


def adapt(
    module: nn.Module,
    classes: Sequence[str],
    input_shape: Sequence[int],
    sample_rate: int | None,
    front_end: nn.Module | None = None,
) -> Classifier:
    """Takes any module as a model of the house, to repair or to judge it; its weights are shared.

    Args:
        module: from what the front end makes, or from the inputs, to logits (batch, classes).
        classes: names of the classes, in the order of the logits.
        input_shape: of one example.
        sample_rate: Hz, of waveforms.
        front_end: inputs to features, if that is not part of the module.

    Raises:
        DataError: if the names of the classes do not tell them apart.
        SettingError: if no sound has that sample rate and length.
    """
    if isinstance(classes, str):
        raise SettingError(f"classes must be a list of names, got {classes!r}")
    classes, input_shape = tuple(classes), tuple(input_shape)
    check_classes(classes, "the model")
    card = Card(EXTERNAL, {"type": type(module).__name__}, classes, input_shape, sample_rate)
    if sample_rate is not None:
        check_reading(sample_rate, card.duration_s)
    return Classifier(front_end or nn.Identity(), module, card)


class Architecture(Method, ABC):
    """A kind of network, with its sizes; `build` makes one with fresh weights."""

    parameters_of_paper: ClassVar[int | None] = None
    """Trainable parameters of the published network at its published sizes, where that is known."""

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
        """Makes a model with fresh weights for inputs of one shape.

        Raises:
            ModelError: if the inputs are not waveforms (time,) with a sample rate.
        """
        if sample_rate is None or len(input_shape) != 1:
            raise ModelError(f"{self.name} takes waveforms with a sample rate, got inputs {input_shape}")
        front_end = (LogMel if self.features == "log_mel" else MFCC)(sample_rate, self.bands)
        frames = front_end.frames(input_shape[0])
        check_size(self.name, lambda: self.body(len(classes), self.bands, frames))
        with isolated(seed, "weights", self.name):
            body = self.body(len(classes), self.bands, frames)
        # Convolutions run up to 1.6 times faster in this layout; set here, so that a model read from disk
        # gives the very numbers of the one that was written.
        body.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        card = Card(self.full_name(), self.settings(), classes, input_shape, sample_rate)
        return Classifier(front_end, body, card)

    @abstractmethod
    def body(self, classes: int, bands: int, frames: int) -> nn.Module:
        """Hook: the network from maps (batch, bands, frames) to logits (batch, classes)."""
