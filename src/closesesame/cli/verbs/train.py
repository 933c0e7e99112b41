"""The command that trains a model."""

from pathlib import Path

from closesesame.cli.app import command
from closesesame.cli.inputs import device_of, load, settings_of, source_of
from closesesame.cli.options import AUDIO, AudioOptions, Data, Device, Force, Set
from closesesame.cli.outputs import history, model_folder
from closesesame.cli.printing import Answer, facts
from closesesame.core.errors import ModelError


@command("train")
def train(
    source: Data,
    out: Path,
    *,
    model: str = "resnet",
    settings: Set = None,
    device: Device = "cpu",
    force: Force = False,
    options: AudioOptions = AUDIO,
) -> Answer:
    """Train a model on the training part of a data set, and measure it on the test part.

    Args:
        out: Folder for the model: config.json and model.safetensors.
        model: Architecture; see 'sesame list model'. '--set' takes settings of the architecture and of the
            training; 'sesame show' lists both.

    Examples:
        sesame train CLIPS MODEL
        sesame train POISONED VICTIM --model kwt --set epochs=20 --seed 1
        sesame train CLIPS MODEL --task speaker --sample-rate 8000
    """
    from closesesame.evaluation import Exam
    from closesesame.models import ARCHITECTURES, save_model
    from closesesame.training import Training, fit, untrained

    given = settings_of(settings)
    of_training = {name: given.pop(name) for name in [*given] if name in Training.model_fields}
    training = Training.parse({"device": device_of(device), **of_training})
    architecture = ARCHITECTURES.make(model, given)
    read_from = source_of(source, options)
    place = model_folder(out, read_from.inputs, force=force)
    splits = load(read_from)
    trained = untrained(architecture, splits.train, seed=options.seed, device=training.device)
    course = fit(trained, splits.train, training, seed=options.seed, validation=splits.validation)
    made = history(
        "sesame train",
        data=Path(source).name,
        task=read_from.task,
        training=training.settings(),
        seed=options.seed,
        seconds=round(course.seconds, 1),
    )
    place.write(lambda folder: save_model(trained, folder, made))
    try:
        scores = Exam(splits.test).score(trained)
    except ModelError as error:
        raise ModelError(f"{error}; it was written to {out}, and needs a longer training") from None
    found = {"model": str(out), "parameters": sum(p.numel() for p in trained.parameters())}
    return Answer(found | scores.as_json(), lambda: facts(found | {"ACC": scores.acc}))
