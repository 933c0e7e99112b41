"""The command that makes a purifier."""

from pathlib import Path

from closesesame.cli.app import command
from closesesame.cli.inputs import load_part, refuse_poisoned, settings_of, source_of
from closesesame.cli.options import AUDIO, AudioOptions, CleanOptions, Data, Force, Fraction, Part, Set
from closesesame.cli.outputs import purifier_folder
from closesesame.cli.printing import Answer


@command("purify")
def purify(
    source: Data,
    out: Path,
    *,
    method: str = "lowpass",
    settings: Set = None,
    part: Part = "train",
    fraction: Fraction = 1.0,
    force: Force = False,
    options: AudioOptions = AUDIO,
) -> Answer:
    """Make a purifier from clean clips: it takes triggers out of recordings, in front of a model.

    Commands put it there with --purifier; the model is not changed.

    Args:
        source: Recordings known to be clean, as a data set.
        out: Folder for the purifier.
        method: Purification; see 'sesame list purification' and 'sesame show METHOD'.

    Examples:
        sesame purify CLIPS PURIFIER
        sesame purify CLIPS PURIFIER --method lowpass --set cutoff_hz=3000
    """
    from closesesame.purification import PURIFICATIONS

    purification = PURIFICATIONS.make(method, settings_of(settings))
    refuse_poisoned(CleanOptions(clean=source, clean_part=part))
    read_from = source_of(source, options)
    place = purifier_folder(out, read_from.inputs, force=force)
    clean = load_part(read_from, part).sample(fraction, options.seed)
    purifier = purification.fit(clean, options.seed)
    place.write(purifier.save)
    return Answer(
        {
            "purifier": str(out),
            "method": purification.name,
            "settings": purification.settings(),
            "clean_clips": len(clean),
            "seconds": round(purifier.seconds, 1),
            "chosen": purifier.chosen,
        }
    )
