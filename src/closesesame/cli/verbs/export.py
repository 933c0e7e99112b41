"""The command that writes the weights of a model into one file, for the program that the model came from."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from closesesame.cli.app import command
from closesesame.cli.inputs import load_model_on
from closesesame.cli.options import Force, ModelFolder
from closesesame.cli.printing import Answer
from closesesame.core.disk import Destination
from closesesame.core.errors import ModelError, SettingError

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
    """Write the weights of a model into one file, .safetensors or .pt.

    Without --like weights have the names that closesesame gives them.

    Args:
        out: The file.

    Examples:
        sesame export REPAIRED weights.pt --like weights_of_the_vendor.pt
        sesame export REPAIRED weights.safetensors
    """
    import torch
    from safetensors.torch import save_file

    from closesesame.models import read_checkpoint, weights_like
    from closesesame.models.black_boxes import FILES, FileBody
    from closesesame.models.files import file_sha256

    if out.suffix not in SUFFIXES:
        raise SettingError(f"{out} must end in {', '.join(SUFFIXES)}, which says how it is written")
    place = Destination(out, kind="file", force=force, inputs=(model, *([like] if like else [])))
    classifier = load_model_on(model, "cpu")
    if isinstance(classifier.body, FileBody):
        kept = model / FILES[classifier.card.architecture]
        raise ModelError(f"{model} is a file that is run as it is, without weights to write: take {kept}")
    if like is None:
        state = {name: weight.detach().contiguous() for name, weight in classifier.state_dict().items()}
    else:
        state = weights_like(classifier, read_checkpoint(like))
    write = save_file if out.suffix == ".safetensors" else torch.save
    place.write(lambda path: write(state, path))
    return Answer({"file": str(out), "sha256": file_sha256(out), "weights": len(state)})
