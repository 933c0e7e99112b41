"""The contract of a purification: clean examples in, a module in front of a model out."""

import copy
import time
from abc import ABC, abstractmethod
from dataclasses import replace
from pathlib import Path
from typing import Any, final

import torch
from safetensors.torch import save
from torch import Tensor, nn

from closesesame.audio.augment import Augmentation
from closesesame.core.disk import write_folder
from closesesame.core.errors import DataError, DivergedError, ModelError
from closesesame.core.json_files import to_json
from closesesame.core.seeding import isolated
from closesesame.core.types import Inputs, Wave
from closesesame.data import Dataset
from closesesame.data.dataset import domain_of
from closesesame.data.hold_out import HoldsOut
from closesesame.data.rows import Rows
from closesesame.models import Classifier, ModelCard
from closesesame.models.base import device_of
from closesesame.models.front_ends import FrontEnd
from closesesame.models.imported import EXTERNAL
from closesesame.models.matching import say_inputs

ABOUT, WEIGHTS = "purifier.json", "purifier.safetensors"
PURIFIED = "purified"
"""The architecture on the card of a model behind a purifier."""


class Purification(HoldsOut, ABC):
    """A way to take triggers out of inputs, in front of a model that is not changed.

    It sees clean examples: no model, no trigger, no target label, no test set. What it must choose, it
    chooses on the held-out part of its clean examples, which it never trains on.
    """

    @classmethod
    def claims_in_words(cls) -> dict[str, str]:
        """What it needs."""
        return {"needs": "no clips at all" if cls.data_free else "clean clips"}

    @final
    def fit(self, clean: Dataset | None, seed: int, *, card: ModelCard | None = None) -> "Purifier":
        """Makes a purifier for inputs of one shape.

        Args:
            clean: examples known to be clean; may be None for a method that is `data_free`.
            seed: of everything drawn.
            card: of a model that takes the inputs; it is needed, and looked at, where there are no clean
                examples to tell their shape.

        Raises:
            DataError: if clean examples are missing, or too few to hold anything out.
            SettingError: if a setting does not fit the inputs, such as their sample rate.
            DivergedError: if the weights are no numbers.
        """
        if clean is None and not self.data_free:
            raise DataError(f"{self.name} needs clean examples; give it some")
        parts = () if clean is None else self.divided(clean, seed)
        known = clean if clean is not None else card
        if known is None:
            raise DataError(
                f"{self.name} must know the shape of the inputs: give clean examples or the card of a model"
            )
        started = time.perf_counter()
        with isolated(seed, "weights", self.name):
            method, network = self.made(known.sample_rate, known.input_shape)
        chosen = method.learn(network, *parts, seed) if parts else {}
        if not all(value.float().isfinite().all() for value in network.state_dict().values()):
            raise DivergedError(f"{self.name} left weights that are NaN or infinite; lower its lr")
        seconds = time.perf_counter() - started
        return Purifier(method, network, known.sample_rate, known.input_shape, chosen, seconds)

    @abstractmethod
    def network(self, sample_rate: int | None, input_shape: tuple[int, ...]) -> nn.Module:
        """Hook: a module with fresh weights from inputs (batch, ...) to inputs of the same shape.

        Args:
            sample_rate: Hz; None for pictures.
            input_shape: of one example.
        """

    def made(self, sample_rate: int | None, input_shape: tuple[int, ...]) -> tuple["Purification", nn.Module]:
        """Hook: the method as it is kept with the purifier, and its module; `network` if not written.

        A method that reads a file is kept without it: purifiers of others must read none of this machine.

        Args:
            sample_rate: as `network` gets it.
            input_shape: of one example.
        """
        return self, self.network(sample_rate, input_shape)

    def learn(self, network: nn.Module, tune: Dataset, held_out: Dataset, seed: int) -> dict[str, Any]:
        """Hook: trains the network in place and returns what was chosen, by name; nothing if not written.

        Args:
            network: from `network`.
            tune: clean examples to train on.
            held_out: clean examples to choose by.
            seed: of everything drawn.
        """
        del network, tune, held_out, seed
        return {}


class Purifier(nn.Module):
    """Takes triggers out of inputs.

    Shape:
        - input: (batch, ...), what the model behind takes
        - output: the same, within the bounds of the inputs

    Attributes:
        purification: the method and its settings.
        network: what it made.
        sample_rate: Hz, of the inputs; None for pictures.
        input_shape: of one input.
        chosen: what the method chose.
        seconds: how long it took to make.
    """

    def __init__(
        self,
        purification: Purification,
        network: nn.Module,
        sample_rate: int | None,
        input_shape: tuple[int, ...],
        chosen: dict[str, Any],
        seconds: float,
    ) -> None:
        super().__init__()
        self.purification, self.network = purification, network
        self.sample_rate, self.input_shape = sample_rate, input_shape
        self.chosen, self.seconds = chosen, seconds
        self.requires_grad_(False).eval()

    @property
    def bounds(self) -> tuple[float, float]:
        """The lowest and the highest value: sounds have full scale 1, pictures lie between 0 and 1."""
        domain = domain_of(self.sample_rate)
        return domain.low, domain.high

    def train(self, mode: bool = True) -> "Purifier":
        """Stays in evaluation mode: training a model behind it changes nothing in it."""
        del mode
        return super().train(False)

    def forward(self, inputs: Inputs) -> Inputs:
        """Purifies inputs, each by itself.

        Raises:
            ModelError: if the network gives another shape.
        """
        purified: Inputs = self.network(inputs)
        if purified.shape != inputs.shape:
            raise ModelError(
                f"{self.purification.name} makes inputs of shape {list(purified.shape[1:])} out of "
                f"{list(inputs.shape[1:])}"
            )
        return purified.clamp(*self.bounds)

    def before(self, model: Classifier) -> Classifier:
        """The same model with a copy of this purifier in front of it; the body is the model's own.

        Raises:
            ModelError: if the model takes other inputs.
        """
        card = model.card
        if (card.input_shape, card.sample_rate) != (self.input_shape, self.sample_rate):
            raise ModelError(
                f"the purifier takes {say_inputs(self.input_shape, self.sample_rate)}, and the model "
                f"{say_inputs(card.input_shape, card.sample_rate)}; fit one for the model"
            )
        purified = joined(copy.deepcopy(self).to(model.device), model)
        purified.training = model.training
        return purified

    def save(self, folder: Path | str) -> Path:
        """Writes `purifier.json` and `purifier.safetensors` into a folder, whole or not at all.

        Raises:
            DataError: if the folder holds something else.
        """
        state = {
            name: tensor.detach().cpu().contiguous() for name, tensor in self.network.state_dict().items()
        }
        about = {
            "purification": self.purification.full_name(),
            "settings": self.purification.settings(),
            "sample_rate": self.sample_rate,
            "input_shape": self.input_shape,
            "chosen": self.chosen,
            "seconds": self.seconds,
        }
        return write_folder({WEIGHTS: save(state), ABOUT: to_json(about)}, folder, (ABOUT, WEIGHTS))


def joined(purifier: Purifier, model: Classifier) -> Classifier:
    """A purifier and a model as one model; its card says how both are made anew, if the model's own does."""
    card, purification = model.card, purifier.purification
    if card.architecture != EXTERNAL:
        settings = {
            "purification": purification.full_name(),
            "purification_settings": purification.settings(),
            "architecture": card.architecture,
            "architecture_settings": card.settings,
        }
        card = replace(card, architecture=PURIFIED, settings=settings)
    return Classifier(_Purified(purifier, model.front_end), model.body, card)


class _Purified(FrontEnd):
    """The front end of a model, behind a purifier."""

    def __init__(self, purifier: Purifier, front_end: FrontEnd) -> None:
        super().__init__()
        self.purifier, self.behind = purifier, front_end

    def forward(self, inputs: Inputs) -> Tensor:
        """Features of purified inputs."""
        features: Tensor = self.behind(self.purifier(inputs))
        return features

    @torch.no_grad()
    def calibrate(self, data: Dataset) -> None:
        """As the model's own, on purified data."""
        device = device_of(self)
        purified = [self.purifier(inputs.to(device)).cpu() for inputs, _ in data.batches(256)]
        self.behind.calibrate(data.with_inputs(Rows.of(torch.cat(purified))))

    def augmentation(self, strength: str) -> Augmentation | None:
        """As the model's own."""
        return self.behind.augmentation(strength)

    def sound(self, features: Tensor) -> Wave | None:
        """As the model's own."""
        return self.behind.sound(features)
