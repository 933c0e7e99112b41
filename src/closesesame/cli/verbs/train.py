"""The command that trains a model."""

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from closesesame.cli.app import command
from closesesame.cli.inputs import clean_for, device_of, load, settings_of, source_of
from closesesame.cli.options import AUDIO, AudioOptions, CleanOptions, Data, Device, Force, Set
from closesesame.cli.outputs import history, model_folder
from closesesame.cli.printing import Answer, facts, notes
from closesesame.core.errors import DivergedError, ModelError, SettingError, cut, nearest

if TYPE_CHECKING:
    from closesesame.core.method import Method
    from closesesame.data import Dataset, Splits
    from closesesame.models import Architecture, Classifier
    from closesesame.robust_training import RobustTraining
    from closesesame.training import Training

SAFE = "safe"
"""The robust training if none is named."""
MOST_SETTINGS = 100
"""So many are all named to one who asks for another."""


@command("train")
def train(
    source: Data,
    out: Path,
    *,
    model: str = "resnet",
    untrusted: bool = False,
    method: str | None = None,
    settings: Set = None,
    clean: str | None = None,
    device: Device = "cpu",
    force: Force = False,
    options: AudioOptions = AUDIO,
) -> Answer:
    """Train a model on the training part of a data set, and measure it on the test part.

    With '--untrusted' or a method the training set is not trusted: the method tries to learn no backdoor from
    it. A model that cannot be measured, since it answers the same to every clip, is written, and the command
    ends with an error.

    Args:
        out: Folder for the model: config.json and model.safetensors.
        model: Architecture; see 'sesame list model'. '--set' takes settings of the architecture, of the
            training and of the method; 'sesame show' lists them.
        untrusted: Train by the method 'safe', which needs nothing but the untrusted recordings.
        method: Another robust training; see 'sesame list robust_training' and 'sesame show METHOD'.
        clean: Recordings known to be clean, as a data set, for a method that needs some; their training part
            is used.

    Examples:
        sesame train CLIPS MODEL
        sesame train POISONED VICTIM --model kwt --set epochs=20 --seed 1
        sesame train CLIPS MODEL --untrusted
        sesame train POISONED MODEL --method dlp
        sesame train CLIPS MODEL --task speaker --sample-rate 8000
    """
    from closesesame.evaluation import Exam
    from closesesame.models import save_model

    if untrusted and method is None:
        method = SAFE
    given = {"device": device_of(device), **settings_of(settings)}
    architecture, training, robust = _methods(model, method, given)
    known = clean_for(
        method or "ordinary training",
        CleanOptions(clean=clean),
        needed=robust is not None and robust.wants_clean(),
    )
    read_from = source_of(source, options)
    place = model_folder(out, (*read_from.inputs, *known.inputs), force=force)
    splits = load(read_from)
    if robust is None:
        trained, made = _ordinary(architecture, training, splits, options.seed)
    else:
        examples = None if known.clean is None else load(source_of(known.clean, options)).train
        trained, made = _robust(architecture, robust, splits.train, examples, options.seed)
    about = history("sesame train", data=Path(source).name, task=read_from.task, seed=options.seed, **made)
    place.write(lambda folder: save_model(trained, folder, about))
    try:
        scores = Exam(splits.test).score(trained)
    except ModelError as error:
        longer = "" if isinstance(error, DivergedError) else "train longer (--set epochs=...), and "
        raise ModelError(
            f"{error}; it was written to {out} to be looked at: {longer}replace it there with --force"
        ) from None
    found = {"model": str(out), "parameters": sum(p.numel() for p in trained.parameters())}
    found |= {name: made[name] for name in ("method", "chosen") if name in made}
    remarks = {"remarks": made["remarks"]} if "remarks" in made else {}  # notes already, but in the JSON
    return Answer(found | remarks | scores.as_json(), lambda: facts(found | {"ACC": scores.acc}))


def _methods(
    model: str, method: str | None, given: dict[str, object]
) -> "tuple[Architecture, Training, RobustTraining | None]":
    """What the settings are of: the training, the method if there is one, and the rest the architecture.

    Raises:
        SettingError: if one is of none of them.
    """
    from closesesame.models import ARCHITECTURES
    from closesesame.robust_training import ROBUST_TRAININGS
    from closesesame.training import Training

    robust_kind = [] if method is None else [ROBUST_TRAININGS[method]]
    _refuse_unknown(given, [*robust_kind, Training, ARCHITECTURES[model]])
    training = Training.parse(_taken(given, Training.model_fields))
    robust = None
    if method is not None:
        own = _taken(given, ROBUST_TRAININGS[method].model_fields)
        robust = ROBUST_TRAININGS.make(method, {"training": training} | own)
    return ARCHITECTURES.make(model, given), training, robust


def _refuse_unknown(given: Collection[str], kinds: "Sequence[type[Method]]") -> None:
    """Refuses a setting that none of these has; it names what they all have.

    Raises:
        SettingError: if there is one.
    """
    known = {name for kind in kinds for name in kind.model_fields}
    unknown = [name for name in given if name not in known]
    if unknown:
        *names, last = (kind.__name__ for kind in kinds)
        said = nearest(unknown[0], known, MOST_SETTINGS)
        raise SettingError(f"neither {', '.join(names)} nor {last} has a setting {cut(unknown[0])!r}; {said}")


def _taken(given: dict[str, object], fields: Collection[str]) -> dict[str, object]:
    """The settings that are among the fields; they are taken out of what was given."""
    return {name: given.pop(name) for name in [*given] if name in fields}


def _ordinary(
    architecture: "Architecture", training: "Training", splits: "Splits", seed: int
) -> "tuple[Classifier, dict[str, Any]]":
    from closesesame.training import fit, untrained

    model = untrained(architecture, splits.train, seed=seed, device=training.device)
    course = fit(model, splits.train, training, seed=seed, validation=splits.validation)
    return model, {"training": training.settings(), "seconds": round(course.seconds, 1)}


def _robust(
    architecture: "Architecture",
    method: "RobustTraining",
    untrusted: "Dataset",
    clean: "Dataset | None",
    seed: int,
) -> "tuple[Classifier, dict[str, Any]]":
    found = method.train(architecture, untrusted, seed, clean=clean)
    notes(found.remarks)
    made = {"method": method.full_name(), "settings": method.settings(), "chosen": found.chosen}
    made |= {"remarks": list(found.remarks)} if found.remarks else {}
    return found.model, made | {"seconds": round(found.seconds, 1)}
