"""The command that removes a backdoor from a model."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from closesesame.cli.app import command
from closesesame.cli.inputs import (
    load_audio,
    load_clean,
    load_model_on,
    refuse_labelled,
    refuse_poisoned,
    settings_of,
)
from closesesame.cli.options import (
    CLEAN,
    SPLIT,
    CleanOptions,
    Device,
    Force,
    ModelFolder,
    Set,
    SplitOptions,
    Unlabelled,
)
from closesesame.cli.outputs import CLEAN_DATA_WARNING, history, model_folder
from closesesame.cli.printing import Answer, canary_table, facts, notes
from closesesame.core.errors import ClosesesameError, DataError

if TYPE_CHECKING:
    from closesesame.data import Dataset
    from closesesame.evaluation import CanaryReport
    from closesesame.models import Classifier, ModelCard
    from closesesame.removal import Choice, Removal, Repair


@command("remove")
def remove(
    model: ModelFolder,
    out: Path,
    *,
    clean: CleanOptions = CLEAN,
    audio: Unlabelled = None,
    method: str = "auto",
    settings: Set = None,
    canaries: bool = False,
    device: Device = "cpu",
    force: Force = False,
    options: SplitOptions = SPLIT,
) -> Answer:
    """Remove a backdoor from a model with a little clean data.

    Args:
        out: Folder for the repaired model.
        method: Removal; see 'sesame list removal' and 'sesame show METHOD'. By 'auto' it is restore with
            clean clips and clp without, and --set sets what that method has.
        canaries: Also plant backdoors of our own in a copy of the model, repair the copy in the same way, and
            say how many are gone. Takes a training more, a second repair, and ten held-out clips or more:
            about 110 clean clips of ten words with restore, or fewer with --set hold_out=0.3.

    Examples:
        sesame remove VICTIM REPAIRED --clean CLIPS
        sesame remove VICTIM REPAIRED --clean CLIPS --audio SPEECH
        sesame remove VICTIM REPAIRED --clean CLIPS --method ft --set steps=200
        sesame remove VICTIM REPAIRED --clean CLIPS --canaries
        sesame remove VICTIM REPAIRED --method clp
    """
    from closesesame.models import save_model
    from closesesame.models.files import sha256_of
    from closesesame.removal import REMOVALS
    from closesesame.removal.choice import AUTO, choose_removal, refuse_audio, removal_for

    given = settings_of(settings)
    if method == AUTO:
        removal = removal_for(given, clean=clean.clean is not None, audio=audio is not None)
    else:
        removal = REMOVALS.make(method, given)
    if clean.clean is None and not removal.data_free:
        raise DataError(f"{method} needs clean recordings: name them with --clean")
    if canaries:
        _refuse_canaries(removal, clean)
    refuse_poisoned(clean)
    if audio is not None:
        refuse_audio(removal)
        refuse_labelled(audio, clean)
    place = model_folder(out, (model, *clean.inputs, *([audio] if audio else [])), force=force)
    suspect = load_model_on(model, device)
    clips = _clean_clips(suspect.card, clean, options, removal, canaries=canaries)
    speech = None if audio is None else load_audio(suspect.card, audio, options)
    unlabelled = None if speech is None else speech.data
    choice = None
    if method == AUTO:
        choice = choose_removal(suspect, clips, unlabelled, given)
        notes([f"{choice.advice}{_more_clips(clean)}"] if choice.advice else [])
        unlabelled = choice.audio
    repair = removal.remove(suspect, clips, options.seed, audio=unlabelled)
    notes(repair.remarks)
    examined = None
    if canaries and clips is not None:
        examined = _examined(removal, suspect, clips, unlabelled, options.seed, repair)
    made = history(
        "sesame remove",
        task=suspect.card.made.get("task"),
        method=removal.full_name(),
        settings=removal.settings(),
        seed=options.seed,
        seconds=round(repair.seconds, 1),
        suspect_sha256=sha256_of(model),
        clean_clips=repair.tuned_on + repair.held_out,
        held_out_clips=repair.held_out,
    )
    if choice is not None:
        made["chosen_because"] = choice.because
    if unlabelled is not None:
        made["audio_clips"] = len(unlabelled)
    if examined is not None:
        made["canaries"] = examined.model_dump(mode="json")
    place.write(lambda folder: save_model(repair.model, folder, made))
    if clean.clean_part in {"test", "all"} and clean.clean is not None:
        notes(["the repair used the test part: what 'sesame evaluate' measures on it is now too good"])
    found = (
        {"model": str(out), "method": removal.name}
        | _why(choice)
        | {"settings": removal.settings()}
        | ({} if speech is None else {"audio_clips": len(speech.data), "audio_files": speech.recordings})
        | _found(repair)
    )
    if examined is None:
        return Answer(found, lambda: facts(_in_words(repair, found)))

    def show() -> None:
        facts(_in_words(repair, found))
        canary_table(examined)

    return Answer(found | {"canaries": examined.as_json()}, show)


def _refuse_canaries(removal: "Removal", clean: CleanOptions) -> None:
    """Refuses, before any work, to plant canaries where they cannot be.

    Raises:
        DataError: if there are no clean clips.
        SettingError: if the removal takes no clean clips.
    """
    from closesesame.evaluation.canaries import refuse_canaries

    if clean.clean is None:
        raise DataError("--canaries needs clean recordings: name them with --clean")
    refuse_canaries(removal)


def _clean_clips(
    card: "ModelCard", clean: CleanOptions, options: SplitOptions, removal: "Removal", *, canaries: bool
) -> "Dataset | None":
    """Reads the clean clips; too few of them for the canaries that are asked for are refused.

    Raises:
        DataError: if they are that.
    """
    from closesesame.evaluation.canaries import refuse_few
    from closesesame.removal.base import missing_sentence

    clips = load_clean(card, clean, options, missing_sentence)
    if canaries and clips is not None:
        try:
            refuse_few(removal, card, clips, options.seed)
        except DataError as error:
            raise DataError(f"{error}{_more_clips(clean)}") from None
    return clips


def _more_clips(clean: CleanOptions) -> str:
    """Where more clean clips are, behind a sentence that asks for some; nothing if none are left out."""
    return (
        ""
        if clean.clean is None or clean.clean_part == "all"
        else "; --clean-part all takes the clips of all parts"
    )


def _examined(
    removal: "Removal",
    suspect: "Classifier",
    clips: "Dataset",
    audio: "Dataset | None",
    seed: int,
    repair: "Repair",
) -> "CanaryReport | None":
    """What canaries say; None, and a note, if they cannot be planted: the repair itself is done."""
    from closesesame.evaluation import examine

    try:
        return examine(removal, suspect, clips, seed, audio=audio, repaired=repair.model)
    except ClosesesameError as error:
        notes([f"the model is repaired, and canaries say nothing of it: {error}"])
        return None


def _why(choice: "Choice | None") -> dict[str, Any]:
    """Why the method was taken, and what would help; nothing if it was named."""
    if choice is None:
        return {}
    return {"chosen_because": choice.because} | ({"advice": choice.advice} if choice.advice else {})


def _found(repair: "Repair") -> dict[str, Any]:
    return {
        "tuned_on": repair.tuned_on,
        "held_out": repair.held_out,
        "acc_before": repair.acc_before,
        "acc_after": repair.acc_after,
        "seconds": round(repair.seconds, 1),
        "chosen": repair.chosen,
        "remarks": list(repair.remarks),
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
        "advice",  # a note, as remarks are
        "remarks",
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
