"""Purifiers read from disk, alone or in front of a model.

Alone they are `purifier.json` and `purifier.safetensors`, as `Purifier.save` writes them. A model behind one
is a model folder like any other, whose architecture is `Purified`.
"""

import math
from pathlib import Path
from typing import Annotated, Any, ClassVar

import torch
from pydantic import Field, StrictFloat, StrictInt, StrictStr

from closesesame.core.bounds import MOST_SAMPLES, check_reading
from closesesame.core.errors import ClosesesameError, ModelError, short
from closesesame.core.json_files import read_json
from closesesame.core.seeding import isolated
from closesesame.core.settings import Settings
from closesesame.models import ARCHITECTURES, Architecture, Classifier
from closesesame.models.files import CONFIG, fitted, read_weights

from . import PURIFICATIONS
from .base import ABOUT, PURIFIED, WEIGHTS, Purifier, joined


class _About(Settings):
    """What stands in `purifier.json`, as it is checked."""

    purification: StrictStr
    settings: dict[str, Any]
    sample_rate: StrictInt | None
    input_shape: tuple[Annotated[StrictInt, Field(ge=1, le=MOST_SAMPLES)], ...] = Field(
        min_length=1, max_length=4
    )
    chosen: dict[str, Any]
    seconds: Annotated[StrictFloat, Field(ge=0)]


def load_purifier(folder: Path | str, device: torch.device | str = "cpu") -> Purifier:
    """Reads a purifier folder; weights are checked before they are used, and no code in it is run.

    Args:
        folder: with `purifier.json` and `purifier.safetensors`.
        device: where the purifier goes.

    Raises:
        ModelError: if the folder holds none, or it is damaged, or its method or a setting is unknown.
    """
    folder = Path(folder)
    _refuse_other_folders(folder)
    try:
        about = _About(**read_json(folder / ABOUT))
        if math.prod(about.input_shape) > MOST_SAMPLES:
            raise ModelError(f"input_shape {list(about.input_shape)} is larger than any clip or picture")
        if about.sample_rate is not None:
            check_reading(about.sample_rate, about.input_shape[0] / about.sample_rate)
        purification = PURIFICATIONS.recall(about.purification, about.settings)
    except ClosesesameError as error:
        raise ModelError(f"{folder / ABOUT} cannot be used: {error}") from None
    state = read_weights(folder / WEIGHTS)
    misfit = f"its {WEIGHTS} does not fit its {ABOUT}"
    try:
        # Without memory first: a hostile file may ask for more of it than there is.
        with torch.device("meta"):
            planned = purification.network(about.sample_rate, about.input_shape)
        state = fitted(state, planned, misfit)
        network = purification.network(about.sample_rate, about.input_shape)
        network.load_state_dict(state)
    except ClosesesameError as error:
        raise ModelError(f"{folder}: {error}") from None
    except (RuntimeError, ValueError, ArithmeticError, MemoryError, TypeError) as error:
        raise ModelError(f"{folder}: {misfit}: {short(error)}") from None
    purifier = Purifier(
        purification, network, about.sample_rate, about.input_shape, about.chosen, about.seconds
    )
    return purifier.to(device)


class Purified(Architecture):
    """A network of any other architecture, which gets its inputs from a purifier."""

    name: ClassVar[str] = PURIFIED
    cite: ClassVar[str] = "ours"
    domains: ClassVar[tuple[str, ...]] = ("speech", "pictures")

    purification: str = Field(description="what made the purifier")
    purification_settings: dict[str, Any] = Field({}, description="of that")
    architecture: str = Field(description="of the network")
    architecture_settings: dict[str, Any] = Field({}, description="of that")

    def calls(self) -> tuple[str, ...]:
        """The purification and the architecture."""
        return (PURIFICATIONS[self.purification].__module__, ARCHITECTURES[self.architecture].__module__)

    def build(
        self,
        classes: tuple[str, ...],
        input_shape: tuple[int, ...],
        sample_rate: int | None,
        *,
        seed: int,
    ) -> Classifier:
        """Makes both with fresh weights; what was chosen for the purifier is not known any more."""
        architecture = ARCHITECTURES.recall(self.architecture, self.architecture_settings)
        model = architecture.build(classes, input_shape, sample_rate, seed=seed)
        purification = PURIFICATIONS.recall(self.purification, self.purification_settings)
        with isolated(seed, "weights", purification.name):
            network = purification.network(sample_rate, input_shape)
        return joined(Purifier(purification, network, sample_rate, input_shape, {}, 0.0), model)


def _refuse_other_folders(folder: Path) -> None:
    if (folder / ABOUT).is_file():
        return
    if (folder / CONFIG).is_file():
        raise ModelError(f"{folder} is a model, not a purifier; make a purifier with 'sesame purify'")
    raise ModelError(f"{folder} holds no purifier; a purifier is a folder with {ABOUT} and {WEIGHTS}")
