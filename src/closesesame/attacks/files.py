"""Triggers read from disk: `trigger.json` and `trigger.safetensors`, as `Trigger.save` writes them."""

from pathlib import Path
from typing import Any

import torch
from pydantic import StrictInt, StrictStr
from safetensors import SafetensorError
from safetensors.torch import load_file

from closesesame.core.bounds import SampleRate, check_classes
from closesesame.core.errors import ClosesesameError, DataError, ModelError, SettingError, cut, short
from closesesame.core.json_files import read_json
from closesesame.core.seeding import generator
from closesesame.core.settings import Settings
from closesesame.models.files import FLOATS

from . import ATTACKS
from .base import SETTINGS, TENSORS, State, Trigger


class About(Settings):
    """What stands in `trigger.json`, as it is checked."""

    attack: StrictStr
    settings: dict[str, Any]
    sample_rate: SampleRate
    target: StrictStr | StrictInt
    """A name, or in files of version 0.1 an index."""
    classes: tuple[StrictStr, ...]

    def target_index(self) -> int:
        """Where the target label stands among the classes.

        Raises:
            DataError: if it is none of them.
        """
        check_classes(self.classes, "the trigger")
        if isinstance(self.target, str) and self.target in self.classes:
            return self.classes.index(self.target)
        if isinstance(self.target, int) and 0 <= self.target < len(self.classes):
            return self.target
        raise DataError(f"its target {cut(self.target)!r} is none of its classes")


def load_trigger(folder: Path | str) -> Trigger:
    """Reads a trigger folder, and tries the trigger on two clips of noise.

    Raises:
        ModelError: if there is none, or it is damaged, or its attack or one of its settings is unknown.
    """
    folder = Path(folder)
    if not (folder / SETTINGS).is_file():
        inside = folder / "_trigger"
        hint = f"; {inside} is one" if inside.is_dir() else ""
        what = "is a file, and a trigger is a folder" if folder.is_file() else "is not a trigger folder"
        raise ModelError(f"{folder} {what}: {SETTINGS} is missing there{hint}")
    try:
        about = About(**read_json(folder / SETTINGS))
        target = about.target_index()
    except ClosesesameError as error:
        raise ModelError(f"{folder / SETTINGS} is damaged: {error}") from None
    try:
        attack = ATTACKS.recall(about.attack, about.settings)
    except SettingError as error:
        raise ModelError(f"{folder / SETTINGS}: {error}") from None
    trigger = Trigger(attack, _read_state(folder / TENSORS), about.sample_rate, target, about.classes)
    noise = 0.1 * torch.randn(2, about.sample_rate, generator=generator(0, "trial"))
    try:
        trigger.stamp(noise)
    except ModelError as error:
        raise ModelError(f"{folder} cannot be used: {error}") from None
    return trigger


def _read_state(path: Path) -> State:
    try:
        state: State = load_file(path)
    except (SafetensorError, OSError) as error:
        raise ModelError(f"{path} is damaged or missing ({short(error)}); get the file again") from None
    for name, tensor in state.items():
        if tensor.dtype not in FLOATS | {torch.int64}:
            raise ModelError(f"{path} is refused: {cut(name)!r} is of kind {tensor.dtype}, which is not read")
        if not tensor.isfinite().all():
            raise ModelError(f"{path} is refused: {cut(name)!r} holds NaN or infinite values")
    return state
