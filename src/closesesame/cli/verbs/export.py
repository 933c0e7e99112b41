"""The command that writes the weights of a model into one file, for the program that the model came from."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from closesesame.cli.app import command
from closesesame.cli.inputs import load_model_on
from closesesame.cli.options import Force, ModelFolder
from closesesame.cli.printing import Answer
from closesesame.core.disk import Destination
from closesesame.core.errors import ModelError, SettingError

if TYPE_CHECKING:
    from closesesame.models import Classifier

SUFFIXES = (".safetensors", ".pt", ".pth")


@command("export")
def export(
    model: ModelFolder,
    out: Path,
    *,
    like: Annotated[
        Path | None,
        Parameter(
            help="The file that the model was imported from: weights get the names that they have there."
        ),
    ] = None,
    force: Force = False,
) -> Answer:
    """Write the weights of a model into one file, .safetensors or .pt, or as a folder of Hugging Face.

    Without --like weights have the names that closesesame gives them. A model that was imported from a folder
    of Hugging Face becomes such a folder again, if the name of the output has no suffix.

    Args:
        out: The file or the folder.

    Examples:
        sesame export REPAIRED weights.pt --like weights_of_the_vendor.pt
        sesame export REPAIRED weights.safetensors
        sesame export REPAIRED FOLDER
    """
    from closesesame.models.black_boxes import FILES, FileBody
    from closesesame.models.huggingface import is_pretrained, write_pretrained

    kind: Literal["file", "folder"] = "file" if out.suffix else "folder"
    if kind == "file" and out.suffix not in SUFFIXES:
        raise SettingError(f"{out} must end in {', '.join(SUFFIXES)}, which says how it is written")
    inputs = (model, *([like] if like else []))
    place = Destination(out, kind=kind, force=force, replaces=is_pretrained, inputs=inputs)
    classifier = load_model_on(model, "cpu")
    if isinstance(classifier.body, FileBody):
        kept = model / FILES[classifier.card.architecture]
        raise ModelError(f"{model} is a file that is run as it is, without weights to write: take {kept}")
    if kind == "folder":
        place.write(lambda folder: write_pretrained(classifier, folder))
        return Answer({"folder": str(out)})
    return _one_file(classifier, place, like)


def _one_file(classifier: "Classifier", place: Destination, like: Path | None) -> Answer:
    import torch
    from safetensors.torch import save_file

    from closesesame.models import read_checkpoint, weights_like
    from closesesame.models.files import file_sha256

    if like is None:
        state = {name: weight.detach().contiguous() for name, weight in classifier.state_dict().items()}
    else:
        state = weights_like(classifier, read_checkpoint(like))
    write = save_file if place.path.suffix == ".safetensors" else torch.save
    place.write(lambda path: write(state, path))
    return Answer({"file": str(place.path), "sha256": file_sha256(place.path), "weights": len(state)})
