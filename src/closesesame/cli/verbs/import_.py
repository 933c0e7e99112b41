"""The command that makes a model folder of what others hand over."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter
from cyclopts.validators import Number

from closesesame.cli.app import command
from closesesame.cli.inputs import findings_in, settings_of
from closesesame.cli.options import Duration, Force, Set
from closesesame.cli.outputs import history, model_folder
from closesesame.cli.printing import Answer, notes
from closesesame.core.bounds import LEAST_HZ, MOST_HZ, Task, check_classes
from closesesame.core.errors import DataError, SettingError, listed

if TYPE_CHECKING:
    from closesesame.models import BlackBox, Classifier
    from closesesame.models.checkpoints import Handed

DEFAULT, RATE_HZ = "resnet", 16_000


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
    model: Annotated[
        str | None,
        Parameter(
            help=f"Architecture that the weights are of, by default {DEFAULT}; see 'sesame list model'."
        ),
    ] = None,
    settings: Set = None,
    sample_rate: Annotated[
        int | None,
        Parameter(
            help=f"Sample rate in Hz that the model takes, by default {RATE_HZ:,}. A folder of Hugging Face "
            "names it itself.",
            validator=Number(gte=LEAST_HZ, lte=MOST_HZ),
        ),
    ] = None,
    duration_s: Duration = 1.0,
    task: Task = "word",
    force: Force = False,
) -> Answer:
    """Make a model folder of what others hand over; no code in it is run, and no network is asked.

    That is a file of weights, .safetensors, .pt, .pth or .ckpt, of an architecture of closesesame or of a
    network of your own, MODULE:NAME, whose module --import imports. Of a .nemo file or a folder of
    SpeechBrain the weights alone are read, never the YAML; those of SpeechBrain are called as their file
    and then as in it.

    Or it is a folder of Hugging Face with an audio classifier, which names its classes, its sample rate and
    its architecture. Of a large one, 'frozen_layers' keeps the first layers as they are in every repair, and
    'recompute' trains in less memory. 'sesame export' writes the same again. Whatever the weights come from,
    their network must answer a clip before it is written.

    A model in an .onnx or .tflite file is kept as it is and run by onnxruntime or LiteRT, which the extras
    'onnx' and 'tflite' install. It can be measured, and a purifier can stand in front of it; a repair needs
    weights. What is noteworthy in an ONNX graph besides its weights is said. Settings say how it is asked
    where that cannot be found out: 'input', 'output', 'answers' (logits or probabilities), and 'frame', 'hop'
    and 'pooling' (last, mean or max) for a model that takes a clip frame by frame. One score for two classes
    is that of the second.

    Args:
        file: The weights, the folder, or the model.
        out: Folder for the model.
        task: What the model tells apart.

    Examples:
        sesame import weights.pt MODEL --model kwt --classes labels.txt
        sesame import weights.safetensors MODEL --classes yes,no,stop
        sesame import FOLDER MODEL --duration-s 1
        sesame import FOLDER MODEL --set frozen_layers=9 --set recompute=true
        sesame import asr.nemo MODEL --model kwt --classes labels.txt
        sesame import model.onnx MODEL --classes labels.txt
        sesame import vad.onnx MODEL --classes no,yes --set frame=576 --set hop=512
    """
    from closesesame.models import BlackBox, fit_weights, save_model
    from closesesame.models.black_boxes import FILES
    from closesesame.models.checkpoints import unused
    from closesesame.models.files import sha256_of
    from closesesame.models.trying import try_once

    place = model_folder(out, (file,), force=force)
    if file.suffix.removeprefix(".") in FILES:
        if model is not None:
            raise SettingError(f"{file} is a whole model, not weights of an architecture; leave out --model")
        box = BlackBox(**settings_of(settings))
        named = names_of(classes, file)
        imported, about = _as_it_is(file, box, named, sample_rate or RATE_HZ, duration_s)
    else:
        given = _read(file, model, settings, classes, sample_rate)
        if given.checkpoint.left:
            notes([f"of {file} this is left out, since it is no weight: {listed(given.checkpoint.left)}"])
        shape = (round(given.sample_rate * duration_s),)
        imported = fit_weights(given.checkpoint, given.architecture, given.classes, shape, given.sample_rate)
        try_once(imported, file, given.remedy)
        notes(given.notes)
        if more := unused(given.checkpoint, imported):
            notes([f"{file} has weights that the model has no use for: {listed(more)}"])
        about = {"file": str(given.checkpoint.path)}
    card = imported.card
    made = history("sesame import", task=task, **card.made)
    place.write(lambda folder: save_model(imported, folder, made))
    return Answer(
        {
            "model": str(out),
            "sha256": sha256_of(out),
            **about,
            "file_sha256": card.made["file_sha256"],
            "format": card.made["format"],
            "architecture": card.architecture,
            "sample_rate": card.sample_rate,
            "weights": sum(weight.numel() for weight in imported.parameters()),
            "classes": list(card.classes),
        }
    )


def _read(
    file: Path, model: str | None, settings: list[str] | None, classes: str | None, sample_rate: int | None
) -> "Handed":
    """Weights and what they are of: a folder says of itself what must be said of a file."""
    from closesesame.models import ARCHITECTURES, read_checkpoint
    from closesesame.models.checkpoints import Handed
    from closesesame.models.pretrained import is_pretrained, read_pretrained

    if is_pretrained(file):
        if classes is not None or model is not None:
            raise SettingError(f"{file} names its classes and its sizes; leave out --classes and --model")
        if sample_rate is not None:
            raise SettingError(f"{file} names its sample rate; leave out --sample-rate")
        return read_pretrained(file, settings_of(settings))
    names = names_of(classes, file)
    architecture = ARCHITECTURES.make(model or DEFAULT, settings_of(settings))
    return Handed(architecture, names, sample_rate or RATE_HZ, read_checkpoint(file))


def _as_it_is(
    file: Path, box: "BlackBox", classes: tuple[str, ...], sample_rate: int, duration_s: float
) -> "tuple[Classifier, dict[str, Any]]":
    """A model that is run as it is, and what is said of it besides; notes on its graph are printed."""
    from closesesame.models import adapt_file

    model = adapt_file(file, classes, (round(sample_rate * duration_s),), sample_rate, box)
    findings = findings_in(model)
    notes(findings)
    return model, {"file": str(file), "asked": model.card.settings, "findings": findings}


def names_of(classes: str | None, file: Path) -> tuple[str, ...]:
    """Names of classes, from a text file with one a line or from a list with commas.

    Raises:
        SettingError: if none are named for the file that is imported.
        DataError: if there are fewer than two, two are equal, one cannot be shown, or a folder is named.
    """
    from closesesame.data.lists import read_text

    if classes is None:
        raise SettingError(f"{file} does not say what its classes are called; name them with --classes")
    place = Path(classes)
    if place.is_dir():
        raise DataError(f"{classes} is a folder; name the classes in a text file, one a line")
    lines = read_text(place).splitlines() if place.is_file() else classes.split(",")
    names = tuple(name for line in lines if (name := line.strip()))
    if len(names) < 2:
        said = "" if place.is_file() else " is no file; as a list it"
        raise DataError(
            f"{classes}{said} names {len(names)} of the classes, and a model tells two or more apart; name "
            "all of them, one a line in a file or with commas between"
        )
    check_classes(names, f"--classes {classes}")
    return names
