"""The command that makes a model folder of a file of weights."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from closesesame.cli.app import command
from closesesame.cli.inputs import settings_of
from closesesame.cli.options import Duration, Force, SampleRate, Set
from closesesame.cli.outputs import history, model_folder
from closesesame.cli.printing import Answer, notes
from closesesame.core.bounds import Task
from closesesame.core.errors import DataError, SettingError, listed

if TYPE_CHECKING:
    from closesesame.models.checkpoints import Handed


@command("import")
def import_(
    file: Path,
    out: Path,
    *,
    classes: Annotated[
        str | None,
        Parameter(
            help="Names of the classes in the order of the model's answers: a text file with one a line, or "
            "the names with commas between. A folder of Hugging Face names them itself."
        ),
    ] = None,
    model: str = "resnet",
    settings: Set = None,
    sample_rate: SampleRate = 16_000,
    duration_s: Duration = 1.0,
    task: Task = "word",
    force: Force = False,
) -> Answer:
    """Make a model folder of what others hand over; no code in it is run, and no network is asked.

    That is a file of weights, .safetensors, .pt or .pth, of an architecture of closesesame or of a network of
    your own, MODULE:NAME, whose module --import imports. Or it is a folder of Hugging Face with an audio
    classifier, which names its classes, its sample rate and its architecture. 'sesame export' writes the
    same again.

    Args:
        file: The weights, or the folder.
        out: Folder for the model.
        model: Architecture that the weights are of; see 'sesame list model'.
        task: What the model tells apart.

    Examples:
        sesame import weights.pt MODEL --model kwt --classes labels.txt
        sesame import weights.safetensors MODEL --classes yes,no,stop
        sesame import FOLDER MODEL --duration-s 1
    """
    from closesesame.models import fit_weights, save_model
    from closesesame.models.files import sha256_of

    place = model_folder(out, (file,), force=force)
    given = _read(file, model, settings, classes, sample_rate)
    if given.checkpoint.left:
        notes([f"of {file} this is left out, since it is no weight: {listed(given.checkpoint.left)}"])
    shape = (round(given.sample_rate * duration_s),)
    imported = fit_weights(given.checkpoint, given.architecture, given.classes, shape, given.sample_rate)
    made = history("sesame import", task=task, **imported.card.made)
    place.write(lambda folder: save_model(imported, folder, made))
    return Answer(
        {
            "model": str(out),
            "sha256": sha256_of(out),
            "file": str(given.checkpoint.path),
            "file_sha256": given.checkpoint.sha256,
            "format": given.checkpoint.format,
            "architecture": given.architecture.full_name(),
            "sample_rate": given.sample_rate,
            "weights": sum(weight.numel() for weight in imported.parameters()),
            "classes": list(given.classes),
        }
    )


def _read(
    file: Path, model: str, settings: list[str] | None, classes: str | None, sample_rate: int
) -> "Handed":
    """What is handed over: a folder says of itself what must be said of a file."""
    from closesesame.models import ARCHITECTURES, read_checkpoint
    from closesesame.models.checkpoints import Handed
    from closesesame.models.huggingface import is_pretrained, read_pretrained

    if is_pretrained(file):
        if classes is not None or settings:
            raise SettingError(f"{file} names its classes and its sizes; leave out --classes and --set")
        return read_pretrained(file)
    if classes is None:
        raise SettingError(f"{file} does not say what its classes are called; name them with --classes")
    architecture = ARCHITECTURES.make(model, settings_of(settings))
    return Handed(architecture, names_of(classes), sample_rate, read_checkpoint(file))


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
