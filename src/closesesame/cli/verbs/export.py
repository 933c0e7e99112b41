"""The command that writes a model for the program that it came from."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from closesesame.cli.app import command
from closesesame.cli.inputs import load_model_on
from closesesame.cli.options import Force, ModelFolder
from closesesame.cli.printing import Answer, notes
from closesesame.core.disk import Destination
from closesesame.core.errors import ModelError, SettingError

if TYPE_CHECKING:
    from closesesame.models import Classifier

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

    In a file of weights, .safetensors, .pt or .ckpt, they have the names that closesesame gives them, or with
    --like those of another file. A model that was imported from a folder
    of Hugging Face becomes such a folder again, in the numbers that it came in, if the name of the output has
    no suffix; with --like and a
    folder of SpeechBrain, a folder of .ckpt files. An .onnx file (extra 'onnx') takes waveforms and gives
    logits, equal to those of the model to 1e-4, which is checked.

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
    if kind == "file" and out.suffix not in SUFFIXES:
        raise SettingError(f"{out} must end in {', '.join(SUFFIXES)}, which says how it is written")
    if like is not None and (out.suffix == ONNX or like.is_dir() != (kind == "folder")):
        raise SettingError(
            f"{out} cannot be written like {like}: --like names a file for a file of weights, and a folder "
            "of SpeechBrain for a folder"
        )
    inputs = (model, *([like] if like else []))
    place = Destination(out, kind=kind, force=force, replaces=_is_exported, inputs=inputs)
    classifier = load_model_on(model, "cpu")
    if isinstance(classifier.body, FileBody):
        kept = model / FILES[classifier.card.architecture]
        raise ModelError(f"{model} is a file that is run as it is, without weights to write: take {kept}")
    return _folder(classifier, place, like) if kind == "folder" else _one_file(classifier, place, like)


def _is_exported(folder: Path) -> bool:
    """Whether a folder is one that could have been exported, and may be replaced."""
    from closesesame.models.checkpoints import PART
    from closesesame.models.pretrained import is_pretrained

    parts = folder.is_dir() and {path.suffix for path in folder.iterdir()} == {PART}
    return is_pretrained(folder) or parts


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
    return Answer({"folder": str(place.path)})


def _one_file(classifier: "Classifier", place: Destination, like: Path | None) -> Answer:
    import torch
    from safetensors.torch import save_file

    from closesesame.models import read_checkpoint, weights_like
    from closesesame.models.files import file_sha256
    from closesesame.models.onnx_export import to_onnx

    if place.path.suffix == ONNX:
        content = to_onnx(classifier)
        place.write(lambda path: path.write_bytes(content))
        return Answer({"file": str(place.path), "sha256": file_sha256(place.path)})
    if like is None:
        state = {name: weight.detach().contiguous() for name, weight in classifier.state_dict().items()}
    else:
        state = weights_like(classifier, read_checkpoint(like))
    write = save_file if place.path.suffix == ".safetensors" else torch.save
    place.write(lambda path: write(state, path))
    return Answer({"file": str(place.path), "sha256": file_sha256(place.path), "weights": len(state)})
