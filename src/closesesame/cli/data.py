"""Commands on data sets."""

import math
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from closesesame.core.disk import Destination
from closesesame.core.errors import SettingError

from .app import command
from .inputs import Data, Force, Json, Reading, Set, load, read, settings_of, source_of
from .outputs import answer, facts, notes, table

if TYPE_CHECKING:
    from closesesame.data import Splits


def size_of(splits: "Splits") -> int:
    """Bytes of all clips in 16 bits: more than they take as FLAC."""
    return sum(2 * math.prod(part.inputs.shape) for part in splits)


@command
def data(
    source: Data,
    *,
    out: Path | None = None,
    force: Force = False,
    how: Reading | None = None,
    json: Json = False,
) -> None:
    """Read a data set and say what is in it, one row a class; refuse what cannot be used.

    Read are folders with one folder a class, in it recordings or folders of speakers; the same in folders
    'train', 'validation' and 'test'; Speech Commands; and a table (.csv) with columns path, label and, if
    known, speaker and part.

    Parameters
    ----------
    out
        Also write it as a folder of recordings: resampled, cut or padded, with the lists of its parts.
    """
    from closesesame.core.progress import shown
    from closesesame.data.export import export

    how = how or Reading()
    read_from = source_of(source, how)
    place = None if out is None else _new_data_folder(out, read_from.inputs, force=force)
    with shown():
        read_data = read(read_from)
        splits, report = read_data.splits, read_data.report
        if place is not None:
            place.need(size_of(splits))
            place.write(lambda made: export(splits, made))
    found: dict[str, Any] = report.as_json() | {"written_to": None if out is None else str(out)}

    def show() -> None:
        rows = report.by_class()
        table([name for name in rows[0] if any(row[name] for row in rows)], rows)
        parts = report.parts()
        if parts:
            table(tuple(parts[0]), parts)
        facts(
            {
                "read": f"{len(report.clips)} clips of {report.duration_s:g} s at {report.sample_rate:,} Hz",
                "split": f"{report.split}: {report.why}",
            }
        )
        for fact in report.facts:
            facts({"also": fact})
        notes(report.surprises())

    answer(json, found, show)


@command
def poison(
    source: Data,
    out: Path,
    *,
    attack: str = "badnets",
    settings: Set = None,
    also: Annotated[list[str] | None, Parameter(negative="")] = None,
    force: Force = False,
    how: Reading | None = None,
    json: Json = False,
) -> None:
    """Poison the training part of a data set, for any tool to train on.

    Written are the recordings, the lists of the parts, a manifest with what was poisoned, and the trigger.

    Parameters
    ----------
    out
        New folder for all of it; the trigger goes to its folder '_trigger'.
    attack
        See 'sesame list attack' and 'sesame show ATTACK'.
    also
        A further backdoor in the same set, 'NAME FIELD=VALUE ...'; may be repeated. A value with spaces
        stands in quotes. Its trigger goes to '_trigger2' and so on.
    """
    from closesesame.attacks import ATTACKS, poison_several
    from closesesame.core.progress import shown

    methods = [ATTACKS.make(attack, settings_of(settings))]
    for words in also or []:
        name, *given = _words(words)
        methods.append(ATTACKS.make(name, settings_of(given)))
    how = how or Reading()
    read_from = source_of(source, how)
    sounds = [
        Path(getattr(method, name)) for method in methods for name in method.files() if getattr(method, name)
    ]
    place = _new_data_folder(out, (*read_from.inputs, *sounds), force=force)
    with shown():
        splits = load(read_from)
        place.need(size_of(splits))
        poisoned = poison_several(methods, splits.train, how.seed)
        place.write(lambda made: poisoned.save(made, splits))
    if not poisoned.poisoned_mask.any():
        rate = methods[0].rate
        notes([f"no clip was poisoned: {rate:g} of {len(splits.train)} training clips is less than one"])
    found = {
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
    answer(json, found, lambda: facts(found))


def _words(text: str) -> list[str]:
    """A name and settings, which may be quoted as in a shell."""
    try:
        return shlex.split(text) or [""]
    except ValueError as error:
        raise SettingError(f"--also {text!r} cannot be read: {error}") from None


def _new_data_folder(out: Path, inputs: tuple[Path, ...], *, force: bool) -> Destination:
    from closesesame.data.export import is_export

    return Destination(out, force=force, replaces=is_export, inputs=inputs)
