"""The command that removes a backdoor from a model."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from closesesame.cli.app import command
from closesesame.cli.inputs import load_clean, load_model_on, refuse_poisoned, settings_of
from closesesame.cli.options import (
    CLEAN,
    SPLIT,
    CleanOptions,
    Device,
    Force,
    ModelFolder,
    Set,
    SplitOptions,
)
from closesesame.cli.outputs import CLEAN_DATA_WARNING, history, model_folder
from closesesame.cli.printing import Answer, facts, notes
from closesesame.core.errors import DataError

if TYPE_CHECKING:
    from closesesame.removal import Repair


@command("remove")
def remove(
    model: ModelFolder,
    out: Path,
    *,
    clean: CleanOptions = CLEAN,
    method: str = "ft_augmented",
    settings: Set = None,
    device: Device = "cpu",
    force: Force = False,
    options: SplitOptions = SPLIT,
) -> Answer:
    """Remove a backdoor from a model with a little clean data.

    Args:
        out: Folder for the repaired model.
        method: Removal; see 'sesame list removal' and 'sesame show METHOD'.

    Examples:
        sesame remove VICTIM REPAIRED --clean CLIPS
        sesame remove VICTIM REPAIRED --clean CLIPS --clean-part validation --set steps=200
        sesame remove VICTIM REPAIRED --method clp
    """
    from closesesame.models import save_model
    from closesesame.models.files import sha256_of
    from closesesame.removal import REMOVALS
    from closesesame.removal.base import missing_sentence

    removal = REMOVALS.make(method, settings_of(settings))
    if clean.clean is None and not removal.data_free:
        raise DataError(f"{method} needs clean recordings: name them with --clean")
    refuse_poisoned(clean)
    place = model_folder(out, (model, *clean.inputs), force=force)
    suspect = load_model_on(model, device)
    repair = removal.remove(suspect, load_clean(suspect.card, clean, options, missing_sentence), options.seed)
    made = history(
        "sesame remove",
        task=suspect.card.made.get("task"),
        method=removal.full_name(),
        settings=removal.settings(),
        seed=options.seed,
        seconds=round(repair.seconds, 1),
        suspect_sha256=sha256_of(model),
        clean_clips=repair.tuned_on,
        held_out_clips=repair.held_out,
    )
    place.write(lambda folder: save_model(repair.model, folder, made))
    if clean.clean_part in {"test", "all"} and clean.clean is not None:
        notes(["the repair used the test part: what 'sesame evaluate' measures on it is now too good"])
    found = {"model": str(out), "method": removal.name, "settings": removal.settings()} | _found(repair)
    return Answer(found, lambda: facts(_in_words(repair, found)))


def _found(repair: "Repair") -> dict[str, Any]:
    return {
        "tuned_on": repair.tuned_on,
        "held_out": repair.held_out,
        "acc_before": repair.acc_before,
        "acc_after": repair.acc_after,
        "seconds": round(repair.seconds, 1),
        "chosen": repair.chosen,
        "classes_without_clean_clips": list(repair.missing),
        "classes_without_held_out_clips": list(repair.unchecked),
        "warning": CLEAN_DATA_WARNING,
    } | ({} if repair.harm is None else {"harm": repair.harm})


def _in_words(repair: "Repair", found: dict[str, Any]) -> dict[str, Any]:
    """The facts for people: held-out accuracy with its interval, and what was not checked."""
    from closesesame.evaluation import Rate

    last = {name: found[name] for name in ("warning", "harm") if name in found}
    hidden = (
        *last,
        "acc_before",
        "acc_after",
        "classes_without_clean_clips",
        "classes_without_held_out_clips",
    )
    shown = {name.replace("_", " "): value for name, value in found.items() if name not in hidden}
    for name, share in (("before", repair.acc_before), ("after", repair.acc_after)):
        if share is not None:
            rate = Rate(round(share * repair.held_out), repair.held_out)
            shown[f"accuracy {name}, on held-out clips"] = rate
    if repair.unchecked:
        shown["not checked, for want of held-out clips"] = list(repair.unchecked)
    return shown | last
