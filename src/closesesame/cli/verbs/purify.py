"""The command that makes a purifier."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from closesesame.cli.app import command
from closesesame.cli.inputs import (
    load_model_on,
    load_part,
    refuse_poisoned,
    settings_of,
    source_as_asked,
    source_of,
)
from closesesame.cli.options import (
    AUDIO,
    AudioOptions,
    CleanOptions,
    Data,
    Force,
    Fraction,
    Part,
    Set,
    paths_of,
)
from closesesame.cli.outputs import history, model_folder, purifier_folder
from closesesame.cli.printing import Answer


@command("purify")
def purify(
    source: Data,
    out: Path,
    *,
    method: str = "lowpass",
    before: Annotated[
        Path | None,
        Parameter(
            help="A model folder. What is written is then this model with the purifier in front, as a model "
            "folder, and recordings are read as the model takes them."
        ),
    ] = None,
    settings: Set = None,
    part: Part = "train",
    fraction: Fraction = 1.0,
    force: Force = False,
    options: AudioOptions = AUDIO,
) -> Answer:
    """Make a purifier from clean clips: it takes triggers out of recordings, in front of a model.

    Commands put it there with --purifier; the model is not changed. With --before, both become one model,
    which every command takes, 'sesame remove' too.

    Args:
        source: Recordings known to be clean, as a data set. A method that learns nothing takes their sample
            rate and length alone.
        out: Folder for the purifier, or for the model behind it.
        method: Purification; see 'sesame list purification' and 'sesame show METHOD'.

    Examples:
        sesame purify CLIPS PURIFIER
        sesame purify CLIPS PURIFIER --method lowpass --set cutoff_hz=3000
        sesame purify CLIPS PURIFIED --method noise_gate --before MODEL
    """
    from closesesame.models import save_model
    from closesesame.models.files import sha256_of
    from closesesame.purification import PURIFICATIONS

    purification = PURIFICATIONS.make(method, settings_of(settings))
    refuse_poisoned(CleanOptions(clean=source, clean_part=part))
    if before is None:
        read_from, model = source_of(source, options), None
        place = purifier_folder(out, read_from.inputs, force=force)
    else:
        place = model_folder(out, (before, *paths_of(source)), force=force)
        model = load_model_on(before, "cpu")
        read_from = source_as_asked(model.card, source, options)
    clean = load_part(read_from, part).sample(fraction, options.seed)
    purifier = purification.fit(clean, options.seed)
    found = {
        "method": purification.full_name(),
        "settings": purifier.purification.settings(),
        "clean_clips": len(clean),
        "seconds": round(purifier.seconds, 1),
        "chosen": purifier.chosen,
    }
    if model is None:
        place.write(purifier.save)
        return Answer({"purifier": str(out)} | found)
    purified = purifier.before(model)
    task, sha256 = model.card.made.get("task"), sha256_of(model)
    made = history("sesame purify", task=task, seed=options.seed, before_sha256=sha256, **found)
    place.write(lambda folder: save_model(purified, folder, made))
    return Answer({"model": str(out)} | found)
