"""Models on disk: a folder with `config.json` and `model.safetensors`; nothing is ever unpickled."""

import json
import shutil
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from pydantic import TypeAdapter, ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from closesesame.core.errors import ModelError

from .base import EXTERNAL, Card, Classifier
from .registry import ARCHITECTURES

CONFIG, WEIGHTS = "config.json", "model.safetensors"
_PICKLES = frozenset({".pt", ".pth", ".bin", ".ckpt", ".pkl", ".pickle", ".joblib", ".npy", ".tar"})
_CARD = TypeAdapter(Card)


def save_model(model: Classifier, folder: Path | str) -> Path:
    """Writes a model into a folder, whole or not at all; an old model there is replaced.

    Raises:
        ModelError: if it is a module of another house, which only its own code can build again.
    """
    folder = Path(folder)
    if model.card.architecture == EXTERNAL:
        raise ModelError("a module that is not ours cannot be saved; save the state_dict of its body instead")
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}-") as made:
        state = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
        save_file(state, Path(made) / WEIGHTS)
        (Path(made) / CONFIG).write_text(json.dumps(asdict(model.card), indent=2) + "\n", encoding="utf-8")
        folder.mkdir(exist_ok=True)
        for name in (WEIGHTS, CONFIG):
            shutil.move(Path(made) / name, folder / name)
    return folder


def load_model(folder: Path | str) -> Classifier:
    """Reads a model folder; the weights are checked before they are used, and no code in it is run.

    Raises:
        ModelError: if it is not such a folder, or a file is damaged, or a weight is NaN or infinite.
    """
    folder = Path(folder)
    _refuse_pickles(folder)
    card = _read_card(folder / CONFIG)
    architecture = ARCHITECTURES.recall(card.architecture, card.settings)
    state = _read_weights(folder / WEIGHTS)
    # Without memory first: a hostile config may ask for more of it than there is.
    with torch.device("meta"):
        planned = architecture.build(card.classes, card.input_shape, card.sample_rate, seed=0)
    if sum(p.numel() for p in planned.parameters()) > sum(t.numel() for t in state.values()):
        raise ModelError(f"{folder / WEIGHTS} does not fit its {CONFIG}: that asks for more weights")
    try:
        model = architecture.build(card.classes, card.input_shape, card.sample_rate, seed=0)
        model.load_state_dict(state)
    except RuntimeError as error:
        reason = str(error).splitlines()[-1].strip().rstrip(".")
        raise ModelError(f"{folder / WEIGHTS} does not fit its {CONFIG}: {reason}") from None
    return model.eval()


def _refuse_pickles(folder: Path) -> None:
    if folder.is_file():
        if folder.suffix in _PICKLES:
            raise ModelError(
                f"{folder} is refused: a {folder.suffix} file may run code when it is loaded; "
                f"save its state_dict as {WEIGHTS} beside a {CONFIG}"
            )
        raise ModelError(f"{folder} is a file; a model is a folder with {CONFIG} and {WEIGHTS}")
    if not (folder / CONFIG).is_file():
        found = sorted(p.name for p in folder.glob("*") if p.suffix in _PICKLES) if folder.is_dir() else []
        tail = f"; {found[0]!r} is refused, since it may run code when it is loaded" if found else ""
        raise ModelError(f"{folder} is not a model folder: {CONFIG} is missing{tail}")


def _read_card(path: Path) -> Card:
    try:
        raw: Any = json.loads(path.read_text(encoding="utf-8"))
        return _CARD.validate_python(raw)
    except (ValueError, ValidationError, RecursionError, OSError) as error:
        reason = error.errors()[0]["msg"] if isinstance(error, ValidationError) else str(error)
        raise ModelError(f"{path} is not a model's config: {reason.splitlines()[0]}") from None


def _read_weights(path: Path) -> dict[str, torch.Tensor]:
    try:
        state = load_file(path)
    except (SafetensorError, OSError) as error:
        raise ModelError(f"{path} is damaged or missing ({error}); get the file again") from None
    for name, tensor in state.items():
        if not tensor.float().isfinite().all():
            raise ModelError(f"{path} is refused: weight {name!r} holds NaN or infinite values")
    return state
