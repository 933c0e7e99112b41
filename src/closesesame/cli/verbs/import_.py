"""The command that makes a model folder of a file of weights."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from closesesame.cli.app import command
from closesesame.cli.inputs import settings_of
from closesesame.cli.options import Duration, Force, SampleRate, Set
from closesesame.cli.outputs import history, model_folder
from closesesame.cli.printing import Answer, notes
from closesesame.core.bounds import Task
from closesesame.core.errors import DataError, listed


@command("import")
def import_(
    file: Path,
    out: Path,
    *,
    classes: Annotated[
        str,
        Parameter(
            help="Names of the classes in the order of the model's answers: a text file with one a line, or "
            "the names with commas between."
        ),
    ],
    model: str = "resnet",
    settings: Set = None,
    sample_rate: SampleRate = 16_000,
    duration_s: Duration = 1.0,
    task: Task = "word",
    force: Force = False,
) -> Answer:
    """Make a model folder of weights that others hand over; no code in the file is run.

    Weights are read from .safetensors, .pt and .pth files. They must be those of an architecture of
    closesesame or of a network of your own, MODULE:NAME, whose module --import imports. 'sesame export'
    writes such a file again.

    Args:
        file: The weights.
        out: Folder for the model.
        model: Architecture that the weights are of; see 'sesame list model'.
        task: What the model tells apart.

    Examples:
        sesame import weights.pt MODEL --model kwt --classes labels.txt
        sesame import weights.safetensors MODEL --classes yes,no,stop
    """
    from closesesame.models import ARCHITECTURES, fit_weights, read_checkpoint, save_model
    from closesesame.models.files import sha256_of

    place = model_folder(out, (file,), force=force)
    architecture = ARCHITECTURES.make(model, settings_of(settings))
    names = names_of(classes)
    checkpoint = read_checkpoint(file)
    if checkpoint.left:
        notes([f"of {file} this is left out, since it is no weight: {listed(checkpoint.left)}"])
    shape = (round(sample_rate * duration_s),)
    imported = fit_weights(checkpoint, architecture, names, shape, sample_rate)
    made = history("sesame import", task=task, **imported.card.made)
    place.write(lambda folder: save_model(imported, folder, made))
    return Answer(
        {
            "model": str(out),
            "sha256": sha256_of(out),
            "file": str(file),
            "file_sha256": checkpoint.sha256,
            "format": checkpoint.format,
            "architecture": architecture.full_name(),
            "weights": sum(weight.numel() for weight in imported.parameters()),
            "classes": list(names),
        }
    )


def names_of(classes: str) -> tuple[str, ...]:
    """Names of classes, from a text file with one a line or from a list with commas.

    Raises:
        DataError: if there are fewer than two.
    """
    from closesesame.data.lists import read_text

    file = Path(classes)
    lines = read_text(file).splitlines() if file.is_file() else classes.split(",")
    names = tuple(name for line in lines if (name := line.strip()))
    if len(names) < 2:
        raise DataError(
            f"{classes} names {len(names)} of the classes, and a model tells two or more apart; name all of "
            "them, one a line in a file or with commas between"
        )
    return names
