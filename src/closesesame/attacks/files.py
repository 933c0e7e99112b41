"""Triggers read from disk: `trigger.json` and `trigger.safetensors`, as `Trigger.save` writes them."""

import json
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file

from closesesame.core.errors import ModelError

from .base import SETTINGS, TENSORS, Trigger
from .registry import ATTACKS


def load_trigger(folder: Path | str) -> Trigger:
    """Reads a trigger folder.

    Raises:
        ModelError: if there is none, or it is damaged.
        SettingError: if its attack or settings are unknown.
    """
    folder = Path(folder)
    try:
        about: dict[str, Any] = json.loads((folder / SETTINGS).read_text(encoding="utf-8"))
        attack = ATTACKS.recall(about["attack"], about["settings"])
        rate, target, classes = about["sample_rate"], about["target"], tuple(about["classes"])
        state = load_file(folder / TENSORS)
    except (OSError, ValueError, KeyError, TypeError, RecursionError, SafetensorError) as error:
        raise ModelError(f"{folder} is not a trigger folder, or is damaged: {error}") from None
    return Trigger(attack, state, rate, target, classes)
