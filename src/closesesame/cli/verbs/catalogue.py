"""The command that writes a page for each attack."""

from pathlib import Path

from closesesame.cli.app import command
from closesesame.cli.inputs import load, source_of
from closesesame.cli.options import AUDIO, SYNTHETIC, AudioOptions, Data, Force
from closesesame.cli.printing import Answer, facts
from closesesame.core.disk import Destination


@command("catalogue")
def catalogue(
    out: Path,
    *,
    data: Data = SYNTHETIC,
    attack: list[str] | None = None,
    force: Force = False,
    options: AudioOptions = AUDIO,
) -> Answer:
    """Write a page for each attack: what it does, how it sounds and looks, its settings, how to use it.

    Attacks that train a model of their own take a minute each.

    Args:
        out: New folder for the pages; begin with its index.html.
        data: What the attacks are played on, as a data set.
        attack: Only this attack; may be repeated.

    Examples:
        sesame catalogue PAGES
        sesame catalogue PAGES --data CLIPS --attack pbsm --attack ultrasonic
    """
    from closesesame.report.pages.catalogue import INDEX, asked_for, is_catalogue, survey, write_catalogue

    read_from = source_of(data, options)
    place = Destination(out, force=force, replaces=is_catalogue, inputs=read_from.inputs)
    asked = asked_for(attack or ())
    clips = "synthetic speech" if data == SYNTHETIC else f"recordings of {Path(data).name}"
    entries = survey(load(read_from), asked, options.seed)
    place.write(lambda made: write_catalogue(entries, made, clips))
    rows = [
        {
            "attack": entry.method.name,
            "page": str(out / entry.file),
            "stealth": None if entry.stealth is None else entry.stealth.as_json(),
            "problem": entry.problem or None,
        }
        for entry in entries
    ]
    index = {"index": str(out / INDEX)}
    problems = {entry.method.name: entry.problem for entry in entries if entry.problem}
    return Answer(index | {"attacks": rows}, lambda: facts(index | problems))
