"""Trained enhancement networks on disk: a folder with `enhancer.json` and `enhancer.safetensors`."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from pydantic import Field, StrictStr
from safetensors.torch import save

from closesesame.core.disk import write_folder
from closesesame.core.errors import ClosesesameError, ModelError
from closesesame.core.json_files import read_json, to_json
from closesesame.core.settings import Settings
from closesesame.models.files import fitted, read_weights

from . import ENHANCEMENTS, Enhancement, Enhancer, training

ABOUT, WEIGHTS = "enhancer.json", "enhancer.safetensors"
SHIPPED = Path(__file__).parent / "shipped"
"""A small network that the project trained; `python -m benchmarks enhancer` trains one like it."""


class _About(Settings):
    """What stands in `enhancer.json`, as it is checked."""

    enhancement: StrictStr
    settings: dict[str, Any]
    made: dict[str, Any] = Field({})


def save_enhancer(
    enhancement: Enhancement, network: Enhancer, folder: Path | str, made: Mapping[str, Any] | None = None
) -> Path:
    """Writes a network into a folder, whole or not at all; an old one there is replaced.

    Args:
        enhancement: that built the network.
        network: trained.
        folder: of its own.
        made: how it was trained; nothing depends on it.

    Raises:
        DataError: if the folder holds something else.
    """
    state = {name: tensor.detach().cpu().contiguous() for name, tensor in network.state_dict().items()}
    about = {
        "enhancement": enhancement.full_name(),
        "settings": enhancement.settings(),
        "made": dict(made or {}),
    }
    return write_folder({WEIGHTS: save(state), ABOUT: to_json(about)}, folder, (ABOUT, WEIGHTS))


def load_enhancer(folder: Path | str) -> tuple[Enhancement, Enhancer]:
    """Reads a folder that `save_enhancer` wrote; weights are checked, and no code in it is run.

    Returns:
        The kind of network, and the network in evaluation mode.

    Raises:
        ModelError: if the folder holds none, or it is damaged, or its kind or a setting is unknown.
    """
    folder = Path(folder)
    if not (folder / ABOUT).is_file():
        checkpoint = (folder / training.ABOUT).is_file()
        kept = " but the checkpoint of a training, from which 'train_enhancer' goes on" if checkpoint else ""
        raise ModelError(f"{folder} holds no enhancer{kept}; an enhancer is a folder with {ABOUT}")
    try:
        about = _About(**read_json(folder / ABOUT))
        enhancement = ENHANCEMENTS.recall(about.enhancement, about.settings)
    except ClosesesameError as error:
        raise ModelError(f"{folder / ABOUT} cannot be used: {error}") from None
    state = read_weights(folder / WEIGHTS)
    try:
        with torch.device("meta"):  # a hostile file may ask for more memory than there is
            planned = enhancement.network()
        state = fitted(state, planned, f"its {WEIGHTS} does not fit its {ABOUT}")
    except ModelError as error:
        raise ModelError(f"{folder}: {error}") from None
    network = enhancement.build(0)
    network.load_state_dict(state)
    return enhancement, network
