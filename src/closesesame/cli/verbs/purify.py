"""The command that makes a purifier."""

from pathlib import Path

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
    Force,
    Fraction,
    Part,
    Set,
    paths_of,
)
from closesesame.cli.outputs import history, model_folder, purifier_folder
from closesesame.cli.printing import Answer
from closesesame.core.errors import DataError, SettingError


@command("purify")
def purify(
    source: str,
    out: Path,
    *,
    clean: str | None = None,
    method: str = "lowpass",
    settings: Set = None,
    part: Part = "train",
    fraction: Fraction = 1.0,
    force: Force = False,
    options: AudioOptions = AUDIO,
) -> Answer:
    """Put a purifier in front of a model: it takes triggers out of recordings.

    Of a model folder, the model is written with the purifier in front, and every command takes it,
    'sesame remove' too. Of recordings, the purifier alone is written, and commands put it in front of a model
    with --purifier.

    Args:
        source: A model folder, as 'sesame train' writes it; or recordings known to be clean, as a data set.
        out: Folder for the model behind the purifier, or for the purifier.
        clean: Recordings known to be clean, as a data set, where SOURCE is a model and the method learns
            from clips. They are read as the model takes them.
        method: Purification; see 'sesame list purification' and 'sesame show METHOD'.

    Examples:
        sesame purify MODEL PURIFIED --method enhance
        sesame purify MODEL PURIFIED --method autoencoder --clean CLIPS
        sesame purify CLIPS PURIFIER
        sesame purify CLIPS PURIFIER --method lowpass --set cutoff_hz=3000
    """
    from closesesame.models import save_model
    from closesesame.models.files import CONFIG, sha256_of
    from closesesame.purification import PURIFICATIONS

    purification = PURIFICATIONS.make(method, settings_of(settings))
    folder = Path(source) if (Path(source) / CONFIG).is_file() else None
    if folder is None:
        if clean is not None:
            raise SettingError(
                f"--clean goes with a model, and {source} is none: its recordings are the clean ones"
            )
        clean = source
    elif clean is None and not purification.data_free:
        raise DataError(f"{method} needs clean recordings: name them with --clean")
    refuse_poisoned(CleanOptions(clean=clean, clean_part=part))
    inputs = () if clean is None else paths_of(clean)
    if folder is None:
        model, place = None, purifier_folder(out, inputs, force=force)
    else:
        place = model_folder(out, (folder, *inputs), force=force)
        model = load_model_on(folder, "cpu")
    clips = None
    if clean is not None:
        read_from = (
            source_of(clean, options) if model is None else source_as_asked(model.card, clean, options)
        )
        clips = load_part(read_from, part).sample(fraction, options.seed)
    purifier = purification.fit(clips, options.seed, card=None if model is None else model.card)
    found = {
        "method": purification.full_name(),
        "settings": purifier.purification.settings(),
        "clean_clips": 0 if clips is None else len(clips),
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
