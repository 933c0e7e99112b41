"""The command that poisons a data set."""

import shlex
from pathlib import Path

from closesesame.cli.app import command
from closesesame.cli.inputs import load, settings_of, source_of
from closesesame.cli.options import AUDIO, AudioOptions, Data, Force, Set
from closesesame.cli.outputs import data_folder, size_of
from closesesame.cli.printing import Answer, notes
from closesesame.core.errors import SettingError


@command("poison")
def poison(
    source: Data,
    out: Path,
    *,
    attack: str = "badnets",
    settings: Set = None,
    also: list[str] | None = None,
    force: Force = False,
    options: AudioOptions = AUDIO,
) -> Answer:
    """Poison the training part of a data set, for any tool to train on.

    Writes the recordings, the lists of the parts, a manifest of what was poisoned, and the trigger.

    Args:
        out: New folder for all of it; the trigger goes to its folder '_trigger'.
        attack: Attack; see 'sesame list attack' and 'sesame show ATTACK'.
        also: Another backdoor in the same set, 'NAME FIELD=VALUE ...'; may be repeated. Quote a value with
            spaces. Its trigger goes to '_trigger2' and so on.

    Examples:
        sesame poison CLIPS POISONED --set rate=0.05 --set target=open
        sesame poison CLIPS POISONED --attack pbsm --set rate=0.01
        sesame poison CLIPS POISONED --attack vsvc --also "pitch target=stop"
    """
    from closesesame.attacks import ATTACKS, poison_several

    methods = [ATTACKS.make(attack, settings_of(settings))]
    for name, *given in map(_words, also or []):
        methods.append(ATTACKS.make(name, settings_of(given)))
    read_from = source_of(source, options)
    files = [getattr(method, name) for method in methods for name in method.files()]
    inputs = (*read_from.inputs, *(Path(file) for file in files if file))
    place = data_folder(out, inputs, force=force)
    splits = load(read_from)
    place.need(size_of(splits))
    poisoned = poison_several(methods, splits.train, options.seed)
    place.write(lambda made: poisoned.save(made, splits))
    if not poisoned.poisoned_mask.any():
        rate = methods[0].rate
        notes([f"no clip was poisoned: {rate:g} of {len(splits.train)} training clips is less than one"])
    return Answer(
        {
            "attack": methods[0].name,
            "settings": methods[0].settings(),
            "also": [{"attack": method.name, "settings": method.settings()} for method in methods[1:]],
            "target": poisoned.trigger.target_name,
            "training_clips": len(splits.train),
            "poisoned_clips": int(poisoned.poisoned_mask.sum()),
            "poisoned_share_of_target": poisoned.share_of_target,
            "folder": str(out),
            "trigger": str(out / "_trigger"),
        }
    )


def _words(text: str) -> list[str]:
    """A name and settings, which may be quoted as in a shell."""
    try:
        return shlex.split(text) or [""]
    except ValueError as error:
        raise SettingError(f"--also {text!r} cannot be read: {error}") from None
