"""Commands on models."""

import datetime as dt
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

from closesesame._version import __version__
from closesesame.core.disk import Destination
from closesesame.core.errors import DataError, ModelError

from .app import command
from .inputs import (
    Data,
    Device,
    Force,
    Fraction,
    Json,
    Parts,
    Reading,
    Set,
    device_of,
    exam_on,
    load,
    load_for,
    load_on,
    load_whole,
    settings_of,
    source_of,
)
from .outputs import answer, facts, notes, scores_table

if TYPE_CHECKING:
    from closesesame.data import Dataset
    from closesesame.models import Classifier
    from closesesame.removal import Repair

CLEAN_DATA_WARNING = (
    "Clean data alone cannot show that a backdoor is gone: clean accuracy says nothing about a trigger "
    "nobody has played."
)


def new_model_folder(out: Path, inputs: tuple[Path, ...], *, force: bool) -> Destination:
    """Where a model will be written."""
    from closesesame.models.files import is_model_folder

    return Destination(out, force=force, replaces=is_model_folder, inputs=inputs)


def history(by: str, **known: Any) -> dict[str, Any]:
    """What a model's card says of how the model came to be."""
    now = dt.datetime.now(dt.UTC).isoformat(timespec="seconds")
    return {"by": by, "version": __version__, "date": now} | known


@command
def train(
    source: Data,
    out: Path,
    *,
    model: str = "resnet",
    settings: Set = None,
    device: Device = "cpu",
    force: Force = False,
    how: Reading | None = None,
    json: Json = False,
) -> None:
    """Train a model on the training part of a data set, and measure it on the test part.

    Parameters
    ----------
    out
        Folder for the model: config.json and model.safetensors.
    model
        See 'sesame list model'. '--set' takes settings of the model and of the training; 'sesame show' lists
        them.
    """
    from closesesame.core.progress import shown
    from closesesame.evaluation import Exam
    from closesesame.models import ARCHITECTURES, save_model
    from closesesame.training import Training, fit, untrained

    given = settings_of(settings)
    of_training = {field: given.pop(field) for field in list(given) if field in Training.model_fields}
    training = Training.parse(of_training)
    architecture = ARCHITECTURES.make(model, given)
    how, device = how or Reading(), device_of(device)
    read_from = source_of(source, how)
    place = new_model_folder(out, read_from.inputs, force=force)
    with shown():
        splits = load(read_from)
        trained = untrained(architecture, splits.train, seed=how.seed, device=device)
        course = fit(trained, splits.train, training, seed=how.seed, validation=splits.validation)
        made = history(
            "sesame train",
            data=Path(source).name,
            task=read_from.task,
            training=training.settings(),
            seed=how.seed,
            seconds=round(course.seconds, 1),
        )
        place.write(lambda folder: save_model(trained, folder, made))
        try:
            scores = Exam(splits.test).score(trained)
        except ModelError as error:
            raise ModelError(f"{error}; it was written to {out}, and wants a longer training") from None
    found = {"model": str(out), "parameters": sum(p.numel() for p in trained.parameters())}
    answer(json, found | scores.as_json(), lambda: facts(found | {"ACC": scores.acc}))


@command
def evaluate(
    model: Path,
    source: Data,
    *,
    trigger: Path | None = None,
    reference: Path | None = None,
    before: Path | None = None,
    device: Device = "cpu",
    how: Parts | None = None,
    json: Json = False,
) -> None:
    """Measure ACC, ASR and RA of a model on the test part of a data set, and say what they mean.

    With a trigger also how much it changes the clips: SNR, log-spectral distance and, if the extra 'quality'
    is installed, PESQ and STOI.

    Parameters
    ----------
    model
        A model folder.
    trigger
        A trigger folder, as 'sesame poison' writes it.
    reference
        A model of the same kind that was never poisoned: its RA stands beside the model's.
    before
        The model before its repair, for DER.
    """
    from closesesame.core.progress import shown
    from closesesame.evaluation import stealth_of
    from closesesame.models.files import sha256_of
    from closesesame.report.verdict import verdict_of

    how, device = how or Parts(), device_of(device)
    with shown():
        judged = load_on(model, device)
        earlier = None if before is None else load_on(before, device)
        splits = load_for(judged.card, source, how)
        exam = exam_on(splits, trigger, reference, device)
        scores = exam.score(judged)
        first = None if earlier is None else exam.score(earlier)
        changes = stealth_of(exam)
    der = None if first is None else scores.der(first)
    verdict = verdict_of(scores, classes=len(judged.card.classes), before=first)
    found = scores.as_json() | {
        "der": der,
        "stealth": None if changes is None else changes.as_json(),
        "verdict": asdict(verdict),
        "target": None if exam.trigger is None else exam.trigger.target_name,
        "model": {"path": str(model), "sha256": sha256_of(model)},
    }

    def show() -> None:
        more = {} if changes is None else {"change_by_the_trigger": changes}
        scores_table([(str(model), scores, der)], **more)
        facts({"verdict": verdict})

    answer(json, found, show)


@command
def remove(
    model: Path,
    out: Path,
    *,
    clean: Annotated[str | None, Parameter(help="Recordings known to be clean, as a data set.")] = None,
    method: str = "ft_augmented",
    settings: Set = None,
    part: Literal["train", "validation", "test", "all"] = "train",
    fraction: Fraction = 1.0,
    partial: Annotated[bool, Parameter(negative="")] = False,
    device: Device = "cpu",
    force: Force = False,
    how: Parts | None = None,
    json: Json = False,
) -> None:
    """Take a backdoor out of a model with a little clean data.

    Parameters
    ----------
    model
        The suspect, a model folder.
    out
        Folder for the repaired model.
    clean
        Recordings known to be clean, as a data set; needed by all methods but those that are data-free.
    method
        See 'sesame list removal' and 'sesame show METHOD'.
    part
        Which part of the clean data to use; 'train' leaves the test part for 'sesame evaluate'.
    fraction
        Share of that part to use, drawn at random.
    partial
        Accept clean data without a recording of some classes; the model may forget these.
    """
    from closesesame.core.progress import shown
    from closesesame.models import save_model
    from closesesame.models.files import sha256_of
    from closesesame.removal import REMOVALS

    removal = REMOVALS.make(method, settings_of(settings))
    if clean is None and not removal.data_free:
        raise DataError(f"{method} needs clean recordings: name them with --clean")
    if clean is not None:
        _refuse_poisoned(Path(clean), part)
    how, device = how or Parts(), device_of(device)
    place = new_model_folder(out, (model, *([Path(clean)] if clean else [])), force=force)
    with shown():
        suspect = load_on(model, device)
        examples = None if clean is None else _clean_examples(suspect, clean, part, fraction, how)
        if examples is not None and not partial:
            _refuse_missing(examples)
        repair = _repair(removal, suspect, examples, how.seed)
        made = history(
            "sesame remove",
            task=suspect.card.made.get("task"),
            method=removal.full_name(),
            settings=removal.settings(),
            seed=how.seed,
            seconds=round(repair.seconds, 1),
            suspect_sha256=sha256_of(model),
            clean_clips=repair.tuned_on,
            held_out_clips=repair.held_out,
        )
        place.write(lambda folder: save_model(repair.model, folder, made))
    if part in {"test", "all"} and examples is not None:
        notes(
            ["the repair used the test part: what 'sesame evaluate' measures on it now flatters the repair"]
        )
    found = _found(repair, out) | {"method": removal.name, "settings": removal.settings()}
    answer(json, found, lambda: facts(_in_words(repair, found)))


def _clean_examples(suspect: "Classifier", clean: str, part: str, fraction: float, how: Parts) -> "Dataset":
    whole = (
        load_whole(suspect.card, clean, how)
        if part == "all"
        else getattr(load_for(suspect.card, clean, how), part)
    )
    examples: Dataset = whole.sample(fraction, how.seed)
    return examples


def _refuse_poisoned(clean: Path, part: str) -> None:
    """Refuses the training part of what `sesame poison` wrote."""
    folder = clean if clean.is_dir() else clean.parent
    if part in {"train", "all"} and (folder / "_trigger").is_dir():
        raise DataError(
            f"{clean} holds clips that 'sesame poison' poisoned; name clean ones, or take its --part "
            "validation"
        )


def _refuse_missing(examples: "Dataset") -> None:
    from closesesame.removal.base import missing_sentence

    missing = examples.missing()
    if missing:
        sentence = missing_sentence(missing, len(examples.classes))
        raise DataError(f"{sentence}, or accept that with --partial")


def _repair(removal: Any, suspect: "Classifier", examples: "Dataset | None", seed: int) -> "Repair":
    """Repairs; what surprises is said on standard error."""
    import warnings

    from closesesame.core.errors import DataWarning

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", DataWarning)
        repair: Repair = removal.remove(suspect, examples, seed)
    notes(str(warning.message) for warning in caught)
    return repair


def _found(repair: "Repair", out: Path) -> dict[str, Any]:
    found = {
        "model": str(out),
        "tuned_on": repair.tuned_on,
        "held_out": repair.held_out,
        "acc_before": repair.acc_before,
        "acc_after": repair.acc_after,
        "seconds": round(repair.seconds, 1),
        "chosen": repair.chosen,
        "classes_without_clean_clips": list(repair.missing),
        "classes_without_held_out_clips": list(repair.unchecked),
        "warning": CLEAN_DATA_WARNING,
    }
    if repair.lost > 1:  # one may be chance
        found["harm"] = (
            f"The repair turned {repair.lost} of {repair.held_out} held-out clips wrong: do not use this "
            "model; try milder settings, another method or more clean clips."
        )
    return found


def _in_words(repair: "Repair", found: dict[str, Any]) -> dict[str, Any]:
    """What is shown: held-out accuracy with its interval, and what was not checked."""
    from closesesame.evaluation import Rate

    shown = {name: value for name, value in found.items() if not name.startswith(("acc_", "classes_"))}
    for name, share in (("before", repair.acc_before), ("after", repair.acc_after)):
        if share is not None:
            rate = Rate(round(share * repair.held_out), repair.held_out)
            shown[f"accuracy {name}, on held-out clips"] = rate
    if repair.unchecked:
        shown["not checked, for want of held-out clips"] = list(repair.unchecked)
    last = {name: shown.pop(name) for name in ("warning", "harm") if name in shown}
    return {name.replace("_", " "): value for name, value in shown.items()} | last
