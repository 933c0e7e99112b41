"""The command that writes a model for the program that it came from."""

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from closesesame.cli.app import command
from closesesame.cli.inputs import load_model_on
from closesesame.cli.options import Force, ModelFolder
from closesesame.cli.printing import Answer, notes
from closesesame.core.disk import Destination
from closesesame.core.errors import DataError, ModelError, SettingError, listed

if TYPE_CHECKING:
    from closesesame.models import Classifier
    from closesesame.models.checkpoints import Checkpoint

ONNX = ".onnx"
SUFFIXES = (".safetensors", ".pt", ".pth", ".ckpt", ONNX)


@command("export")
def export(
    model: ModelFolder,
    out: Path,
    *,
    like: Annotated[
        Path | None,
        Parameter(
            help="The file, or the folder of SpeechBrain, that the model was imported from: weights get the "
            "names that they have there."
        ),
    ] = None,
    force: Force = False,
) -> Answer:
    """Write a model for the program that it came from: a file of weights, an .onnx file, or a folder.

    In a file of weights, .safetensors, .pt or .ckpt, they have the names that closesesame gives them, or
    with --like those of another file, and stand in the same entry as there. A model that was imported from a
    folder of Hugging Face becomes such a folder again, in the numbers that it came in, if the name of the
    output has no suffix; with --like and a folder of SpeechBrain, a folder of .ckpt files. An .onnx file
    (extra 'onnx') takes waveforms and gives logits. These are compared with those of the model: they differ
    by 1e-4 at most, or by that share of the largest logit.

    Args:
        out: The file or the folder.

    Examples:
        sesame export REPAIRED weights.pt --like weights_of_the_vendor.pt
        sesame export REPAIRED weights.safetensors
        sesame export REPAIRED model.onnx
        sesame export REPAIRED FOLDER
    """
    from closesesame.models.black_boxes import FILES, FileBody

    kind: Literal["file", "folder"] = "file" if out.suffix else "folder"
    if kind == "file" and _suffix(out) not in SUFFIXES:
        raise SettingError(f"{out} must end in {', '.join(SUFFIXES)}, which says how it is written")
    if like is not None and not like.exists():
        raise DataError(f"{like} is not there; name with --like what the model was imported from")
    if like is not None and (_suffix(out) == ONNX or like.is_dir() != (kind == "folder")):
        raise SettingError(
            f"{out} cannot be written like {like}: --like names a file for a file of weights, and a folder "
            "of SpeechBrain for a folder"
        )
    inputs = (model, *([like] if like else []))
    replaces = partial(_is_exported, like=like)
    place = Destination(out, kind=kind, force=force, replaces=replaces, inputs=inputs)
    classifier = load_model_on(model, "cpu")
    if isinstance(classifier.body, FileBody):
        kept = model / FILES[classifier.card.architecture]
        raise ModelError(f"{model} is a file that is run as it is, without weights to write: take {kept}")
    return _folder(classifier, place, like) if kind == "folder" else _one_file(classifier, place, like)


def _suffix(out: Path) -> str:
    return out.suffix.lower()


def _is_exported(folder: Path, like: Path | None) -> bool:
    """Whether a folder holds what an export writes and nothing else, so that it may be replaced."""
    from closesesame.models.checkpoints import PART
    from closesesame.models.pretrained import CONFIG, EXTRACTOR, WEIGHTS

    parts = set() if like is None else {path.name for path in like.glob(f"*{PART}")}
    allowed = parts or {CONFIG, EXTRACTOR, WEIGHTS}
    return {path.name for path in folder.iterdir()} <= allowed


def _folder(classifier: "Classifier", place: Destination, like: Path | None) -> Answer:
    from closesesame.models import read_checkpoint, weights_like
    from closesesame.models.checkpoints import write_parts
    from closesesame.models.pretrained import numbers_for, write_pretrained

    if like is None:
        numbers, note = numbers_for(classifier)
        notes([note] if note else [])
        place.write(lambda folder: write_pretrained(classifier, folder, numbers))
    else:
        checkpoint = read_checkpoint(like)
        state = weights_like(classifier, checkpoint)
        place.write(lambda folder: write_parts(state, checkpoint, folder))
        _say_left(checkpoint)
    return Answer({"folder": str(place.path)})


def _say_left(checkpoint: "Checkpoint") -> None:
    """Says what stood beside the weights in what the model came from, and is not written."""
    if checkpoint.left:
        notes([f"what else {checkpoint.path} holds is not written: {listed(checkpoint.left)}"])


def _one_file(classifier: "Classifier", place: Destination, like: Path | None) -> Answer:
    import torch
    from safetensors.torch import save_file

    from closesesame.models import read_checkpoint, weights_like
    from closesesame.models.files import apart, file_sha256
    from closesesame.models.onnx_export import to_onnx

    if _suffix(place.path) == ONNX:
        content = to_onnx(classifier)
        place.write(lambda path: path.write_bytes(content))
        return Answer({"file": str(place.path), "sha256": file_sha256(place.path)})
    checkpoint = None if like is None else read_checkpoint(like)
    state = apart(classifier.state_dict()) if checkpoint is None else weights_like(classifier, checkpoint)
    if _suffix(place.path) == ".safetensors":
        place.write(lambda path: save_file(state, path))
    else:
        inside = "" if checkpoint is None else checkpoint.inside
        place.write(lambda path: torch.save({inside: state} if inside else state, path))
    if checkpoint is not None:
        _say_left(checkpoint)
    return Answer({"file": str(place.path), "sha256": file_sha256(place.path), "weights": len(state)})
