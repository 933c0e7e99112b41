"""Weights that others hand over, in one file: a state dict as safetensors or as PyTorch saves it.

A PyTorch file is a zip archive with a pickle and the raw weights, or of an early version a pickle alone. It
is read with `weights_only`, which builds tensors and plain values and calls nothing else; before that an
archive must hold no packed entry (it could unpack to any size) and no TorchScript, which is a program. No
tensor may claim more numbers than the file has.

NeMo and SpeechBrain keep weights beside a YAML that names code to call. Only the weights are read: of a .nemo
archive the checkpoint in it, of a folder of SpeechBrain every .ckpt file, under the name of its module.
"""

import hashlib
import os
import pickle  # noqa: TID251  for the name of its error
import re
import warnings
import zipfile
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from itertools import accumulate, product
from pathlib import Path
from typing import IO, Any, TypeGuard

import torch
from torch import Tensor

from closesesame.core.errors import ModelError, cut, listed, short

from .archives import checkpoint_in
from .base import Architecture, Classifier
from .files import KINDS, apart, file_sha256, fitted, read_weights, unwrapped

BODY = "body."
SUFFIXES = (".safetensors", ".pt", ".pth", ".ckpt", ".nemo")
"""What names of files of weights usually end in."""
PART = ".ckpt"
"""What the files of a folder of SpeechBrain end in."""
INSIDE = ("state_dict", "model_state_dict", "model_state", "model", "net", "weights", "params")
"""Entries of a checkpoint under which training scripts keep the weights."""

_BEGINS = (b"P", b"\x80")
"""The first byte of an archive, and of a pickle."""
_CALLED = re.compile(r"(?:GLOBAL |safe_globals\(\[)([\w.]+)")
"""What torch says of a pickle that it does not load: what would have been called."""


class NoWeightsError(ModelError):
    """A file was read, and holds no weights by name."""


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """Weights as they stand in a file.

    Attributes:
        path: of the file, or of the folder.
        state: the weights, by name.
        format: of the file, in words.
        sha256: of the file.
        inside: the entry of the file that held them; empty if the file holds nothing else.
        left: what else the file holds, by name.
        parts: of a folder, the stem of the file that each weight is from; its name begins with that.
    """

    path: Path
    state: dict[str, Tensor]
    format: str
    sha256: str
    inside: str = ""
    left: tuple[str, ...] = ()
    parts: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Handed:
    """Weights, and what must be known to make a model of them.

    Attributes:
        architecture: that they are of.
        classes: in the order of the logits.
        sample_rate: Hz.
        checkpoint: the weights.
        notes: what was assumed, in sentences.
        remedy: what to do if the network gives no answers.
    """

    architecture: Architecture
    classes: tuple[str, ...]
    sample_rate: int
    checkpoint: Checkpoint
    notes: tuple[str, ...] = ()
    remedy: str = "name another --duration-s or --sample-rate, or other sizes of the network"


def read_checkpoint(path: Path | str) -> Checkpoint:
    """Reads the weights of a file, or of a folder of SpeechBrain, and runs nothing that stands in it.

    Raises:
        ModelError: if it is no such file, or damaged, or would run code, or holds no weights, or weights that
            are NaN or infinite.
    """
    path = Path(path)
    if path.is_dir() and any(path.glob(f"*{PART}")):
        return _of_folder(path)
    if not path.is_file():
        what = "is a folder, and none of SpeechBrain or Hugging Face" if path.is_dir() else "is not there"
        raise ModelError(f"{path} {what}; name a file of weights ({', '.join(SUFFIXES)})")
    if path.suffix.lower() == ".safetensors":
        return Checkpoint(path, read_weights(path), "safetensors", file_sha256(path))
    if path.suffix.lower() == ".nemo":
        with checkpoint_in(path) as file:
            return _of_file(file, path, "NeMo")
    with path.open("rb") as file:
        return _of_file(file, path, "PyTorch")


def _of_file(file: IO[bytes], path: Path, format_: str) -> Checkpoint:
    """The weights that PyTorch saved, in the file or inside of it."""
    _refuse_unsafe(file, path)
    found, inside, beside = _weights_in(_unpickled(file, path), path)
    state = {str(name): value for name, value in found.items() if isinstance(value, Tensor)}
    _refuse_odd(state, path, _size(file))
    left = [str(name) for name in found if str(name) not in state]
    return Checkpoint(path, state, format_, file_sha256(path), inside, (*left, *beside))


def _of_folder(folder: Path) -> Checkpoint:
    """The weights of all modules in a folder; its sum is that of the names and sums of its files."""
    state, parts, left, sums = dict[str, Tensor](), dict[str, str](), [], []
    for path in sorted(folder.iterdir()):
        if path.suffix != PART or not path.is_file() or not _is_pickled(path):
            left.append(path.name)
            continue
        try:
            part = read_checkpoint(path)
        except NoWeightsError:
            left.append(path.name)
            continue
        own = {f"{path.stem}.{name}": value for name, value in part.state.items()}
        if twice := own.keys() & state.keys():
            raise ModelError(
                f"{path} and {parts[min(twice)]}{PART} both hold {cut(min(twice))!r}; call one of the files "
                "otherwise"
            )
        state |= own
        parts |= dict.fromkeys(own, path.stem)
        sums.append(f"{path.stem} {part.sha256}")
    if not state:
        raise ModelError(f"{folder} holds no weights by name in its {PART} files")
    sha256 = hashlib.sha256("\n".join(sums).encode()).hexdigest()
    return Checkpoint(folder, state, "SpeechBrain", sha256, left=tuple(left), parts=parts)


def _is_pickled(path: Path) -> bool:
    """Whether a file is an archive or a pickle; SpeechBrain keeps counters and labels as text."""
    with path.open("rb") as file:
        return file.read(2) in {b"PK", b"\x80\x02"}


def fit_weights(
    checkpoint: Checkpoint,
    architecture: Architecture,
    classes: tuple[str, ...],
    input_shape: tuple[int, ...],
    sample_rate: int | None,
) -> Classifier:
    """Makes a model of an architecture with these weights, in evaluation mode.

    Names may carry a prefix, such as `model.` or `module.`, and lack the `body.` of our models; weights
    without that prefix, such as those of a loss, are left out, see `unused`. The level that a front end of
    ours was calibrated on is a weight, too.

    Args:
        checkpoint: the weights.
        architecture: that they are of.
        classes: in the order of the logits.
        input_shape: of one example.
        sample_rate: Hz; None for pictures.

    Raises:
        ModelError: if the weights do not fit.
    """
    with torch.device("meta"):
        planned = architecture.build(classes, input_shape, sample_rate, seed=0)
    state = {ours: checkpoint.state[name] for name, ours in names_of(checkpoint, planned).items()}
    try:
        misfit = f"{checkpoint.path} does not fit {architecture.full_name()} of these sizes"
        state = fitted(state, planned, misfit)
    except ModelError as error:
        raise ModelError(f"{error}; name another architecture, or other sizes of it") from None
    model = architecture.build(classes, input_shape, sample_rate, seed=0)
    model.load_state_dict(state)
    model.card = replace(model.card, made={"file_sha256": checkpoint.sha256, "format": checkpoint.format})
    return model.eval()


def weights_like(model: Classifier, checkpoint: Checkpoint) -> dict[str, Tensor]:
    """The weights of a model under the names, and of the kinds, that a file has for them.

    Weights of the file that the model has no use for stay as they are there.

    Args:
        model: such as a repaired one.
        checkpoint: the file that it came from.

    Raises:
        ModelError: if the file holds other weights.
    """
    state = model.state_dict()
    names = names_of(checkpoint, model)
    given = {ours: checkpoint.state[name] for name, ours in names.items()}
    fitted(given, model, f"{checkpoint.path} holds other weights than the model has")
    return apart(
        {
            name: state[names[name]].to(value.dtype) if name in names else value
            for name, value in checkpoint.state.items()
        }
    )


def unused(checkpoint: Checkpoint, model: Classifier) -> list[str]:
    """Names of the weights of a file that a model has no use for."""
    used = names_of(checkpoint, model)
    return [name for name in checkpoint.state if name not in used]


def write_parts(state: Mapping[str, Tensor], checkpoint: Checkpoint, folder: Path) -> None:
    """Writes weights as the files of a folder of SpeechBrain.

    Args:
        state: as `weights_like` gives them.
        checkpoint: of the folder that they came from.
        folder: empty.
    """
    files: dict[str, dict[str, Tensor]] = {}
    for name, value in state.items():
        part = checkpoint.parts[name]
        files.setdefault(part, {})[name.removeprefix(f"{part}.")] = value
    for part, own in files.items():
        torch.save(own, folder / f"{part}{PART}")


def names_of(checkpoint: Checkpoint, model: Classifier) -> dict[str, str]:
    """What weights of a file are called in a model: of all ways to rename, one that fits most of them.

    A way takes a prefix off and leaves out the weights without it, puts another one before, and may take what
    wrappers put into names out of them.
    """
    wanted = set(model.state_dict())
    taken = _prefixes(checkpoint.state, len(wanted) / 2)
    put = (*_prefixes(wanted, len(wanted)), BODY)
    best: dict[str, str] = {}
    most = -1
    for less, more, wrapped in product(taken, put, (False, True)):
        plain = {name: name.removeprefix(less) for name in checkpoint.state if name.startswith(less)}
        renamed = {name: more + (unwrapped(own) if wrapped else own) for name, own in plain.items()}
        found = set(renamed.values())
        if len(found) == len(renamed) and len(wanted & found) > most:
            best, most = renamed, len(wanted & found)
    return best


def _prefixes(names: Collection[str], least: float) -> list[str]:
    """All `a.b.` that as many names begin with, or all of them, the shortest, which is empty, first."""
    counts = Counter[str]()
    for name in names:
        counts.update(accumulate((f"{part}." for part in name.split(".")[:-1]), initial=""))
    least = min(least, len(names))
    return sorted((prefix for prefix, count in counts.items() if count >= least), key=len)


def _size(file: IO[bytes]) -> int:
    return file.seek(0, os.SEEK_END)


def _refuse_unsafe(file: IO[bytes], path: Path) -> None:
    """Refuses an archive that holds a program or packed entries."""
    try:
        if not zipfile.is_zipfile(file):
            return
        with zipfile.ZipFile(file) as archive:
            entries = archive.infolist()
    except (zipfile.BadZipFile, NotImplementedError, ValueError, OSError, EOFError) as error:
        raise ModelError(f"{path} is damaged ({short(error)}); get the file again") from None
    if any(entry.filename.split("/")[1:2] == ["code"] for entry in entries):
        raise ModelError(
            f"{path} is refused: it holds TorchScript, which is a program; save its state_dict instead"
        )
    packed = [entry.filename for entry in entries if entry.compress_type != zipfile.ZIP_STORED]
    if packed or sum(entry.file_size for entry in entries) > _size(file):
        raise ModelError(f"{path} is refused: it unpacks to more than it holds ({listed(packed)})")


def _unpickled(file: IO[bytes], path: Path) -> Any:
    file.seek(0)
    if file.read(1) not in _BEGINS:
        raise ModelError(
            f"{path} is no file of weights that torch wrote, or it is damaged; get the file again"
        )
    file.seek(0)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of kinds of pickles that it may not know
            return torch.load(file, map_location="cpu", weights_only=True)  # noqa: TID251
    except pickle.UnpicklingError as error:
        called = _CALLED.search(str(error))
        raise ModelError(
            f"{path} is refused: it holds more than weights, and loading that could run code; save its "
            f"state_dict{f' (it calls {cut(called[1])})' if called else ''}"
        ) from None
    except (RuntimeError, ValueError, KeyError, EOFError, OSError, AttributeError, TypeError) as error:
        raise ModelError(f"{path} is damaged ({short(error)}); get the file again") from None


def _weights_in(content: Any, path: Path) -> tuple[Mapping[Any, Any], str, list[str]]:
    """The mapping of names to tensors, the entry that held it, and what stood beside that entry."""
    if isinstance(content, Mapping):
        for name in INSIDE:
            if _has_weights(inner := content.get(name)):
                return inner, name, [str(other) for other in content if other != name]
        if _has_weights(content):
            return content, "", []
    kind = (
        f"entries {listed(list(map(str, content)))}"
        if isinstance(content, Mapping)
        else type(content).__name__
    )
    raise NoWeightsError(f"{path} holds no weights by name, but {kind}; save the state_dict of the model")


def _has_weights(content: Any) -> TypeGuard[Mapping[Any, Any]]:
    return isinstance(content, Mapping) and any(isinstance(value, Tensor) for value in content.values())


def _refuse_odd(state: Mapping[str, Tensor], path: Path, size: int) -> None:
    """Refuses tensors that are no plain arrays of numbers that stand in the file."""
    for name, tensor in state.items():
        plain = tensor.layout is torch.strided and not tensor.is_meta and not tensor.is_quantized
        if not plain or tensor.dtype not in KINDS:
            raise ModelError(f"{path} is refused: weight {cut(name)!r} is no plain array ({tensor.dtype})")
        if tensor.numel() * tensor.element_size() > size:
            raise ModelError(
                f"{path} is refused: weight {cut(name)!r} claims {tensor.numel():,} numbers, more than the "
                "file has"
            )
        if not tensor.isfinite().all():
            raise ModelError(f"{path} is refused: weight {cut(name)!r} holds NaN or infinite values")
