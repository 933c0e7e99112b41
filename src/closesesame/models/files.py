"""Models on disk: a folder with `config.json` and `model.safetensors`; nothing is ever unpickled.

A model that is a file of another program stands there as that file, in place of `model.safetensors`.
"""

import hashlib
import json
import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated, Any

import torch
from pydantic import Field, StrictInt
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import nn

from closesesame.core.bounds import MOST_SAMPLES, check_classes, check_reading
from closesesame.core.disk import place
from closesesame.core.errors import ClosesesameError, ModelError, SettingError, cut, short
from closesesame.core.json_files import read_json
from closesesame.core.settings import Settings

from .architectures import ARCHITECTURES
from .base import Classifier, ModelCard
from .black_boxes import FILES, FileBody
from .black_boxes import load_file as load_black_box
from .front_ends import Identity
from .imported import EXTERNAL
from .matching import few

CONFIG, WEIGHTS = "config.json", "model.safetensors"
AGAIN = "get the model folder again, or make one with 'sesame train' or 'sesame import'"
"""What to do about a folder that is none of a model."""
BOTH_AGAIN = "get both files again, from one model"
FLOATS = frozenset({torch.float16, torch.bfloat16, torch.float32, torch.float64})
KINDS = FLOATS | {torch.int16, torch.int32, torch.int64, torch.uint8, torch.bool}
"""Kinds of tensors that a file may hold."""
_PICKLES = frozenset({".pt", ".pth", ".bin", ".ckpt", ".pkl", ".pickle", ".joblib", ".npy", ".tar"})
_PREFIXES = ("module", "_orig_mod")
"""What `DataParallel` and `torch.compile` put into the names of weights."""


class Config(Settings):
    """What stands in `config.json`: a card, as it is checked."""

    architecture: str
    settings: dict[str, Any]
    classes: tuple[str, ...]
    input_shape: tuple[Annotated[StrictInt, Field(ge=1, le=MOST_SAMPLES)], ...] = Field(
        min_length=1, max_length=4
    )
    sample_rate: StrictInt | None
    made: dict[str, Any] = Field({})

    def card(self) -> ModelCard:
        """The card, checked beyond the types of its fields.

        Raises:
            ClosesesameError: if the classes, the shape of the inputs or the sample rate are out of range.
        """
        card = ModelCard(**{name: getattr(self, name) for name in type(self).model_fields})
        check_classes(card.classes, "the model")
        if math.prod(card.input_shape) > MOST_SAMPLES:
            raise ModelError(f"input_shape {list(card.input_shape)} is larger than any clip or picture")
        if card.sample_rate is not None:
            check_reading(card.sample_rate, card.duration_s)
        return card


def save_model(model: Classifier, folder: Path | str, made: Mapping[str, Any] | None = None) -> Path:
    """Writes a model into a folder, whole or not at all; an old model there is replaced.

    It is read back before it takes its place, so whatever is saved can be loaded.

    Args:
        model: one of ours, or an adapted one whose source is known.
        folder: of its own.
        made: how the model was made, for its card.

    Raises:
        ModelError: if it was adapted without a source that can make it again, or if `load_model` would refuse
            it, or if the folder holds something else.
    """
    folder = Path(folder)
    if model.card.architecture == EXTERNAL:
        raise ModelError(
            "an adapted module can be saved if `adapt` knows its source, `module:name`; give it, or save the "
            "state_dict of the module"
        )
    if isinstance(model.body, FileBody) and not isinstance(model.front_end, Identity):
        raise ModelError("a model behind a purifier is saved as two folders: the model, and the purifier")
    if folder.exists() and not is_model_folder(folder):
        raise ModelError(f"{folder} holds something else than a model; choose a folder of its own")
    card = model.card if made is None else replace(model.card, made=dict(made))
    state = _state_of(model)
    _refuse_broken(state, "the model cannot be saved")
    try:
        about = json.dumps(asdict(card), indent=2, allow_nan=False) + "\n"
        Config(**json.loads(about)).card()
    except (TypeError, ValueError, ClosesesameError) as error:
        raise ModelError(f"the model's card cannot be saved: {short(error)}") from None
    folder.parent.mkdir(parents=True, exist_ok=True)

    def write(made: Path) -> None:
        if isinstance(model.body, FileBody):
            (made / FILES[card.architecture]).write_bytes(model.body.runtime.content)
        else:
            (made / WEIGHTS).write_bytes(save(state))
        (made / CONFIG).write_text(about, encoding="utf-8")
        load_model(made)

    return place(folder, write, kind="folder")


def is_model_folder(folder: Path) -> bool:
    """Whether a folder holds a model, or nothing, and nothing else."""
    return folder.is_dir() and {path.name for path in folder.iterdir()} <= {CONFIG, WEIGHTS, *FILES.values()}


def sha256_of(model: Classifier | Path | str) -> str:
    """The SHA-256 of a model's weights as a file holds them; it identifies the model under any name.

    Args:
        model: a model, or the folder of one.
    """
    if isinstance(model, Classifier):
        if isinstance(model.body, FileBody):
            return model.body.sha256
        return hashlib.sha256(save(_state_of(model))).hexdigest()
    card = _read_card(Path(model) / CONFIG)
    return file_sha256(Path(model) / FILES.get(card.architecture, WEIGHTS))


def file_sha256(path: Path) -> str:
    """The SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def load_model(folder: Path | str, device: torch.device | str = "cpu") -> Classifier:
    """Reads a model folder; the weights are checked before they are used, and no code in it is run.

    Args:
        folder: with `config.json` and `model.safetensors`.
        device: where the model goes.

    Raises:
        ModelError: if it is not such a folder, or a file is damaged, or a weight is NaN or infinite, or its
            architecture or one of its settings is unknown.
    """
    folder = Path(folder)
    _refuse_pickles(folder)
    card = _read_card(folder / CONFIG)
    if card.architecture in FILES:
        return load_black_box(folder / FILES[card.architecture], card)
    try:
        architecture = ARCHITECTURES.recall(card.architecture, card.settings)
    except SettingError as error:
        raise ModelError(f"{folder / CONFIG}: {error}") from None
    state = read_weights(folder / WEIGHTS)
    misfit = f"its {WEIGHTS} does not fit its {CONFIG}"
    try:
        # Without memory first: a hostile config may ask for more of it than there is.
        with torch.device("meta"):
            planned = architecture.build(card.classes, card.input_shape, card.sample_rate, seed=0)
        state = fitted(state, planned, misfit)
        model = architecture.build(card.classes, card.input_shape, card.sample_rate, seed=0)
        model.load_state_dict(state)
    except ClosesesameError as error:
        raise ModelError(f"{folder}: {error}; {BOTH_AGAIN}") from None
    except (RuntimeError, ValueError, ArithmeticError, MemoryError, TypeError) as error:
        raise ModelError(f"{folder}: {misfit}: {short(error)}; {BOTH_AGAIN}") from None
    model.card = replace(model.card, made=card.made)
    return model.eval().to(device)


def _state_of(model: Classifier) -> dict[str, torch.Tensor]:
    return apart(model.state_dict())


def apart(state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The same weights on the CPU, contiguous; those that share memory are copied: a file keeps each."""
    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in state.items()}
    users = Counter(tensor.untyped_storage().data_ptr() for tensor in plain.values())
    return {
        name: tensor.clone() if users[tensor.untyped_storage().data_ptr()] > 1 else tensor
        for name, tensor in plain.items()
    }


def _refuse_pickles(folder: Path) -> None:
    if folder.is_file():
        if folder.suffix in _PICKLES:
            raise ModelError(
                f"{folder} is refused: a {folder.suffix} file may run code when it is loaded; "
                f"save its state_dict as {WEIGHTS} beside a {CONFIG}"
            )
        if folder.suffix.removeprefix(".") in FILES:
            raise ModelError(f"{folder} is a file; make a model folder of it with 'sesame import'")
        raise ModelError(f"{folder} is a file; a model is a folder with {CONFIG} and {WEIGHTS}")
    if not folder.is_dir():
        raise ModelError(f"{folder} is not there; a model is a folder with {CONFIG} and {WEIGHTS}: {AGAIN}")
    if not (folder / CONFIG).is_file():
        found = sorted(p.name for p in folder.glob("*") if p.suffix in _PICKLES)
        tail = f"; {found[0]!r} is refused, since it may run code when it is loaded" if found else ""
        raise ModelError(f"{folder} is not a model folder: {CONFIG} is missing{tail}; {AGAIN}")


def _read_card(path: Path) -> ModelCard:
    try:
        return Config(**read_json(path)).card()
    except ClosesesameError as error:
        raise ModelError(f"{path} is not a model's config: {error}; {AGAIN}") from None


def read_weights(path: Path) -> dict[str, torch.Tensor]:
    """Reads a safetensors file.

    Raises:
        ModelError: if it is missing or damaged, or a tensor holds NaN or infinite values.
    """
    try:
        state = load_file(path)
    except (SafetensorError, OSError) as error:
        raise ModelError(f"{path} is damaged or missing ({short(error)}); get the file again") from None
    _refuse_broken(state, f"{path} is refused")
    return state


def _refuse_broken(state: Mapping[str, torch.Tensor], what: str) -> None:
    for name, tensor in state.items():
        if tensor.dtype not in KINDS:
            raise ModelError(
                f"{what}: weight {cut(name)!r} is of kind {tensor.dtype}, which is not read; save it as "
                "float32, int64 or bool"
            )
        if not tensor.isfinite().all():
            raise ModelError(
                f"{what}: weight {cut(name)!r} holds NaN or infinite values; get it again, or train it at a "
                "lower lr"
            )


def fitted(state: dict[str, torch.Tensor], planned: nn.Module, misfit: str) -> dict[str, torch.Tensor]:
    """The weights under the names that the planned model has for them, in the shapes that it has.

    Raises:
        ModelError: if some are missing, too many, or of another shape.
    """
    wanted = planned.state_dict()
    if not set(wanted) <= set(state):
        plain = {unwrapped(name): tensor for name, tensor in state.items()}
        state = plain if len(plain) == len(state) else state
    missing, unknown = sorted(set(wanted) - set(state)), sorted(set(state) - set(wanted))
    if missing or unknown:
        said = [f"lacks {few(missing)}"] * bool(missing) + [f"also has {few(unknown)}"] * bool(unknown)
        raise ModelError(f"{misfit}: it {' and '.join(said)}")
    for name, tensor in state.items():
        if tensor.shape != wanted[name].shape:
            raise ModelError(
                f"{misfit}: {name!r} has shape {list(tensor.shape)} instead of {list(wanted[name].shape)}"
            )
        if tensor.is_floating_point() != wanted[name].is_floating_point():
            raise ModelError(f"{misfit}: {name!r} holds {tensor.dtype} instead of {wanted[name].dtype}")
    return state


def unwrapped(name: str) -> str:
    """The name of a weight without what wrappers of data-parallel and of compiled networks put into it."""
    return ".".join(part for part in name.split(".") if part not in _PREFIXES)
