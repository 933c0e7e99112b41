"""Triggers read from disk: `trigger.json` and `trigger.safetensors`, as `Trigger.save` writes them."""

from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import StrictStr, model_validator
from safetensors import SafetensorError
from safetensors.torch import load_file

from closesesame.core.bounds import SampleRate, check_classes
from closesesame.core.domain import DOMAINS, SPEECH
from closesesame.core.errors import ClosesesameError, DataError, ModelError, SettingError, cut, short
from closesesame.core.json_files import read_json
from closesesame.core.seeding import generator
from closesesame.core.settings import Settings
from closesesame.models.files import FLOATS

from . import ATTACKS
from .base import SETTINGS, TENSORS, Signal, State, Trigger


class About(Settings):
    """The content of `trigger.json`."""

    attack: StrictStr
    settings: dict[str, Any]
    domain: Literal["speech", "pictures"]
    sample_rate: SampleRate | None
    target: StrictStr
    classes: tuple[StrictStr, ...]

    @model_validator(mode="after")
    def _sound_has_a_rate(self) -> "About":
        if (self.domain == SPEECH.name) != (self.sample_rate is not None):
            raise ValueError("needs a sample_rate for speech, and none for anything else")
        return self

    def target_index(self) -> int:
        """The index of the target label among the classes.

        Raises:
            DataError: if it is none of them.
        """
        check_classes(self.classes, "the trigger")
        if self.target not in self.classes:
            raise DataError(f"its target {cut(self.target)!r} is none of its classes")
        return self.classes.index(self.target)


def load_trigger(folder: Path | str) -> Trigger:
    """Reads a trigger folder; a trigger for speech is tried on two clips of noise.

    Raises:
        ModelError: if there is none, or it is damaged, or its attack or one of its settings is unknown.
    """
    folder = Path(folder)
    if not (folder / SETTINGS).is_file():
        inside = folder / "_trigger"
        hint = f"{inside} is one" if inside.is_dir() else "'sesame poison' writes one, called _trigger"
        what = "is a file, and a trigger is a folder" if folder.is_file() else "is not a trigger folder"
        raise ModelError(f"{folder} {what}: {SETTINGS} is missing there; {hint}")
    try:
        about = About(**read_json(folder / SETTINGS))
        target = about.target_index()
    except ClosesesameError as error:
        raise ModelError(f"{folder / SETTINGS} is damaged: {error}") from None
    try:
        attack = ATTACKS.recall(about.attack, about.settings)
    except SettingError as error:
        raise ModelError(f"{folder / SETTINGS}: {error}") from None
    signal = Signal(DOMAINS[about.domain], about.sample_rate)
    trigger = Trigger(attack, _read_state(folder / TENSORS), signal, target, about.classes)
    if about.sample_rate:  # the size of a picture is not known
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
