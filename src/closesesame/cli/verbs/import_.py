"""The command that makes a model folder of a file of weights, or of a file that is run as it is."""

from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from closesesame.cli.app import command
from closesesame.cli.inputs import findings_in, settings_of
from closesesame.cli.options import Duration, Force, SampleRate, Set
from closesesame.cli.outputs import history, model_folder
from closesesame.cli.printing import Answer, notes
from closesesame.core.bounds import Task
from closesesame.core.disk import Destination
from closesesame.core.errors import DataError, SettingError, listed


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
    model: Annotated[
        str | None,
        Parameter(help="Architecture that the weights are of, by default resnet; see 'sesame list model'."),
    ] = None,
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

    A model in an .onnx or .tflite file is kept as it is and run by onnxruntime or LiteRT, which the extras
    'onnx' and 'tflite' install. It can be measured, and a purifier can stand in front of it; a repair needs
    weights. What is noteworthy in an ONNX graph besides its weights is said. Settings say how it is asked
    where that cannot be found out: 'input', 'output', 'answers' (logits or probabilities), and 'frame', 'hop'
    and 'pooling' (last, mean or max) for a model that hears a clip frame by frame. One score for two classes
    is that of the second.

    Args:
        file: The weights, or the model.
        out: Folder for the model.
        task: What the model tells apart.

    Examples:
        sesame import weights.pt MODEL --model kwt --classes labels.txt
        sesame import weights.safetensors MODEL --classes yes,no,stop
        sesame import model.onnx MODEL --classes labels.txt
        sesame import vad.onnx MODEL --classes noise,speech --set frame=576 --set hop=512 --set pooling=max
    """
    from closesesame.models import ARCHITECTURES, fit_weights, read_checkpoint, save_model
    from closesesame.models.black_boxes import FILES
    from closesesame.models.files import sha256_of

    place = model_folder(out, (file,), force=force)
    names = names_of(classes)
    if file.suffix.removeprefix(".") in FILES:
        if model is not None:
            raise SettingError(f"{file} is a whole model, not weights of an architecture; leave out --model")
        return _as_it_is(file, place, names, settings_of(settings), sample_rate, duration_s, task)
    architecture = ARCHITECTURES.make(model or "resnet", settings_of(settings))
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


def _as_it_is(
    file: Path,
    place: Destination,
    classes: tuple[str, ...],
    settings: dict[str, Any],
    sample_rate: int,
    duration_s: float,
    task: Task,
) -> Answer:
    """The same for a file that is run as it is."""
    from closesesame.models import BlackBox, adapt_file, save_model

    model = adapt_file(file, classes, (round(sample_rate * duration_s),), sample_rate, BlackBox(**settings))
    made = history("sesame import", task=task, **model.card.made)
    place.write(lambda folder: save_model(model, folder, made))
    findings = findings_in(model)
    notes(findings)
    return Answer(
        {
            "model": str(place.path),
            "sha256": model.card.made["file_sha256"],
            "file": str(file),
            "format": model.card.architecture,
            "asked": model.card.settings,
            "classes": list(classes),
            "findings": findings,
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
