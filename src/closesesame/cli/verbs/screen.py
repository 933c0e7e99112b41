"""The command that finds suspicious clips in a data set, for people to listen to, and copies the others."""

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter
from cyclopts.validators import Number

from closesesame._version import __version__
from closesesame.cli.app import command
from closesesame.cli.inputs import (
    clean_for,
    device_of,
    load_model_on,
    poisoned_in,
    settings_of,
)
from closesesame.cli.options import (
    AUDIO,
    AudioOptions,
    CleanOptions,
    Data,
    Device,
    Force,
    PartName,
    Set,
    paths_of,
)
from closesesame.cli.outputs import as_typed, data_folder, model_folder, now, size_of
from closesesame.cli.printing import Answer, facts, notes, table
from closesesame.cli.screening import ABOUT, ARCHITECTURE, About, Given, Work, gather, write_scores
from closesesame.core.disk import Destination, refuse_nested
from closesesame.core.errors import SettingError, listed
from closesesame.core.wording import NONE

if TYPE_CHECKING:
    from closesesame.core.types import Mask
    from closesesame.data import Dataset
    from closesesame.detection import Detection, Suspicion
    from closesesame.detection.decisions import Decisions
    from closesesame.detection.flagging import Flagging, Scores
    from closesesame.evaluation import Rate
    from closesesame.evaluation.measures import Measure
    from closesesame.evaluation.screening import Area, Screened
    from closesesame.models import Classifier

SHOWN = 10
"""Clips that are printed."""
FPR = 0.01
BESIDE = (
    "the threshold holds if the model knows the clean clips as well as it knows the clean ones among the "
    "screened clips: if it was trained on these and not on those, leave out --model to train one on both"
)
TABLE, PAGE = "suspicion.csv", "screening.html"
COLUMNS = ("id", "label", "score", "flagged")
Share = Number(gt=0, lt=1)


@command("screen")
def screen(
    source: Data,
    out: Path,
    *,
    model: Path | None = None,
    keep_model: Path | None = None,
    method: str = "dynamics",
    settings: Set = None,
    part: Annotated[PartName, Parameter(help="Part of the data set to screen.")] = "train",
    clean: str | None = None,
    clean_part: PartName | None = None,
    fpr: Annotated[float | None, Parameter(validator=Share)] = None,
    flag: Annotated[float | None, Parameter(validator=Share)] = None,
    decisions: Path | None = None,
    copy: Path | None = None,
    device: Device = "cpu",
    force: Force = False,
    options: AudioOptions = AUDIO,
) -> Answer:
    """Score how suspicious each clip of a data set is, and write a page to listen to the highest scores.

    The page marks clips as kept or dropped, and writes the marks to a file that '--decisions' reads back. A
    run that was killed goes on where it was if OUT is the same, and a finished one is not scored again: with
    '--force' its page is written again with another threshold or with decisions.

    If 'sesame poison' wrote the data set, its manifest tells which clips are poisoned. The method does not
    see it; it is compared with the scores, as a test of the method.

    Args:
        out: Folder for the page (screening.html), a table of all clips, the most suspicious first
            (suspicion.csv), and the scores for programs (suspicion.json, screening.json).
        model: The model to screen with, as 'sesame train' writes it: the one that was trained on these clips,
            or the one whose inputs they are. Without one, a plain model is trained on them first.
        keep_model: Folder to keep that plain model in.
        method: Detection; see 'sesame list detection' and 'sesame show METHOD'. The default trains several
            models on the clips; training_loss trains none, and finds far fewer of the poisoned clips.
        clean: Recordings known to be clean, as a data set, of the same kind as the others. They are scored
            beside them, to find the threshold that few of them exceed; a method that needs clean clips gets
            half of them.
        clean_part: Part of the clean data to use; by default all of it, or the validation part if it is the
            screened data set itself.
        fpr: Share of clean clips that may be flagged by mistake; by default 0.01 with --clean.
        flag: Flag this share of the clips, those with the highest scores, instead.
        decisions: List of kept and dropped clips, as the page writes it.
        copy: Folder for a copy of the data set without the flagged clips, as 'sesame poison' writes data
            sets; clips keep their names. Dropped clips are left out whatever their score, and kept ones are
            not.

    Examples:
        sesame screen CLIPS SCREENED
        sesame screen CLIPS SCREENED --clean CLEAN --fpr 0.02 --copy CLEANED
        sesame screen CLIPS SCREENED --model MODEL --flag 0.05 --json
        sesame screen CLIPS SCREENED --decisions LIST --copy CLEANED --force
    """
    from closesesame.detection import DETECTIONS
    from closesesame.detection.decisions import Decisions, load_decisions
    from closesesame.detection.flagging import refuse_few
    from closesesame.evaluation.screening import Screening
    from closesesame.models import save_model

    detection = DETECTIONS.make(method, settings_of(settings))
    _refuse_at_odds(detection, clean, fpr, flag, decisions, copy)
    if model is not None and keep_model is not None:
        raise SettingError("--keep-model keeps the model that is trained if none is named; leave out --model")
    known_part = clean_part or ("validation" if clean == source else "all")
    asked = CleanOptions(clean=clean, clean_part=known_part)
    known = clean_for(method, asked, needed=detection.needs_clean or (clean is not None and flag is None))
    inputs = [*paths_of(source), *known.inputs, *(path for path in (model, decisions) if path)]
    place, copied, kept = _places(out, copy, keep_model, inputs, force=force)
    suspect, device = (None, device_of(device)) if model is None else (load_model_on(model, device), device)
    given = gather(source, part, known, detection, suspect, options, threshold=flag is None)
    decided = Decisions() if decisions is None else load_decisions(decisions, given.examples.ids)
    if given.beside is not None:
        refuse_few(len(given.beside), fpr or FPR)
    used = _looked_at(given, detection, model, suspect)
    if copied is not None:
        copied.need(size_of(given.splits))
    work = Work(out, detection, given, suspect, device)
    suspicion, clean_scores = work.scores()
    flagging = _flagging(suspicion, clean_scores, fpr, flag)
    flagged = flagging.flagged(suspicion.scores)
    rows = _ranked(suspicion, given.examples, flagged)
    about = About(key=work.key, threshold=flagging.threshold, why=flagging.why)
    page = _page(given, suspicion, flagging, clean_scores, decided, used)
    left_out = decided.applied(suspicion.ids, flagged)
    if kept is not None:
        kept.write(lambda made: save_model(work.model, made))
    if copied is not None:
        _copy(copied, given, left_out)

    def write(made: Path) -> None:
        write_scores(made, suspicion, clean_scores, about)
        _write_table(rows, made / TABLE)
        (made / PAGE).write_text(page, encoding="utf-8")

    place.write(write)
    work.forget()
    found: dict[str, Any] = {
        "folder": str(out),
        "page": str(out / PAGE),
        "clips": len(rows),
        "flagged": int(flagged.sum()),
        "threshold": flagging.threshold,
        "why": flagging.why,
        "clean_clips": len(clean_scores),
        "method": detection.name,
        "settings": detection.settings(),
        "model": used,
        "kept_model": None if keep_model is None else str(keep_model),
        "seconds": round(suspicion.seconds, 1),
        "most_suspicious": rows[:SHOWN],
        "kept": len(decided.kept),
        "dropped": len(decided.dropped),
        "copy": None if copy is None else {"folder": str(copy), "left_out": int(left_out.sum())},
    }
    truth = poisoned_in(source, suspicion.ids)
    screened = None if truth is None else Screening(truth).score(suspicion)
    if truth is not None and screened is not None:
        found["test_of_the_method"] = {"poisoned_clips": sum(truth.values())} | screened.as_json()
    return Answer(found, lambda: _print(found, screened))


def _looked_at(given: Given, detection: "Detection", model: Path | None, suspect: "Classifier | None") -> str:
    """The model that decides, in words; a note says if that is not the named one, or what is asked of it."""
    trained = f"a plain {ARCHITECTURE}, trained on these clips"
    if suspect is None:
        return trained
    if instead := detection.in_place_of(suspect, given.examples):
        notes([f"{detection.name} does not look at {model}, but at {instead}"])
        return trained
    if given.beside is not None:
        notes([BESIDE])
    return str(model)


def _refuse_at_odds(
    detection: "Detection",
    clean: str | None,
    fpr: float | None,
    flag: float | None,
    decisions: Path | None,
    copy: Path | None,
) -> None:
    """Refuses, before any work, options that do not go together.

    Raises:
        SettingError: with the remedy.
    """
    if fpr is not None and flag is not None:
        raise SettingError("--fpr and --flag are two thresholds; give one of them")
    if fpr is not None and clean is None:
        raise SettingError("--fpr is measured on clean recordings: name some with --clean")
    flags = flag is not None or clean is not None or detection.flags_above() is not None
    if copy is not None and not flags and decisions is None:
        raise SettingError(
            f"nothing would be left out of the copy, since {detection.name} names no threshold; name clean "
            "recordings with --clean, a share with --flag, or a list with --decisions"
        )


def _places(
    out: Path, copy: Path | None, keep_model: Path | None, inputs: Sequence[Path], *, force: bool
) -> tuple[Destination, Destination | None, Destination | None]:
    """Where the screening, the copy and the model will be.

    Raises:
        DataError: if one of them cannot be made, or lies in another.
    """
    refuse_nested((out, copy, keep_model))
    return (
        Destination(out, force=force, replaces=_is_screening, inputs=inputs),
        None if copy is None else data_folder(copy, inputs, force=force),
        None if keep_model is None else model_folder(keep_model, inputs, force=force),
    )


def _is_screening(folder: Path) -> bool:
    from closesesame.detection.base import SCORES

    return {path.name for path in folder.iterdir()} == {TABLE, PAGE, SCORES, ABOUT}


def _flagging(suspicion: "Suspicion", clean: "Scores", fpr: float | None, flag: float | None) -> "Flagging":
    """What is asked for, or else what clean clips say, or else what the method says."""
    from closesesame.detection import flagging

    if flag is not None:
        return flagging.by_share(suspicion.scores, flag)
    if len(clean):
        return flagging.by_clean(clean, fpr or FPR)
    return flagging.by_method(suspicion.flagged_above)


def _page(
    given: Given,
    suspicion: "Suspicion",
    flagging: "Flagging",
    clean: "Scores",
    decided: "Decisions",
    model: str,
) -> str:
    from closesesame.report.from_scores import screening_of
    from closesesame.report.pages.screening import screening_html

    about = {
        "Data set": given.data,
        "Part": given.part,
        "Method": suspicion.method,
        "Settings": suspicion.settings,
        "Model": model,
        "Seed": given.seed,
        "Date": now(),
        "closesesame": __version__,
    }
    page = screening_of(
        data=given.examples,
        suspicion=suspicion,
        flagging=flagging,
        title=f"Suspicious clips of {given.data}",
        clean=clean if len(clean) else None,
        decisions=decided,
        lengths_s=given.lengths_s,
        facts=about,
        command=as_typed(),
    )
    return screening_html(page)


def _copy(place: Destination, given: Given, left_out: "Mask") -> None:
    """Writes the data set without some clips; says if that is none, or all training clips of a class."""
    from closesesame.data.export import export

    splits = given.without(left_out)
    everyone = [name for part in given.splits for name in part.ids]
    place.write(lambda made: export(splits, made, originals=everyone))
    if not left_out.any():
        notes(["the copy holds every clip, since none was flagged or dropped"])
    emptied = sorted({*splits.train.missing()} - {*given.splits.train.missing()})
    if emptied:
        classes = listed([repr(name) for name in emptied])
        notes([f"the copy has no training clip of {classes}: all of them were left out"])


def _ranked(suspicion: "Suspicion", examples: "Dataset", flagged: "Mask") -> list[dict[str, Any]]:
    """A row a clip, the most suspicious first."""
    names = [examples.classes[label] for label in examples.labels.tolist()]
    found = zip(suspicion.ids, names, suspicion.scores.tolist(), flagged.int().tolist(), strict=True)
    rows = [dict(zip(COLUMNS, values, strict=True)) for values in found]
    return sorted(rows, key=lambda row: row["score"], reverse=True)


def _write_table(rows: list[dict[str, Any]], file: Path) -> None:
    with file.open("w", newline="", encoding="utf-8", errors="backslashreplace") as opened:
        writer = csv.DictWriter(opened, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def _print(found: dict[str, Any], screened: "Screened | None") -> None:
    from closesesame.evaluation.measures import OF_SCORES

    shown = [row | {"flagged": bool(row["flagged"])} for row in found["most_suspicious"]]
    table(COLUMNS, shown)
    facts(
        {name: found[name] for name in ("clips", "flagged", "why", "method", "settings", "model", "seconds")}
    )
    if found["kept"] or found["dropped"]:
        facts({"decided": f"{found['kept']:,} kept, {found['dropped']:,} dropped"})
    if found["kept_model"]:
        facts({"model kept in": found["kept_model"]})
    if found["copy"]:
        facts({"copy": f"{found['copy']['folder']}, without {found['copy']['left_out']:,} clips"})
    facts({"page": found["page"]})
    if screened is not None:
        poisoned = found["test_of_the_method"]["poisoned_clips"]
        facts({"test of the method": f"'sesame poison' says that {poisoned} of these clips are poisoned"})
        facts({measure.heading: _interval(measure, getattr(screened, measure.key)) for measure in OF_SCORES})


def _interval(measure: "Measure", value: "Area | Rate | None") -> str:
    """A figure with its interval."""
    if value is None:
        return NONE
    low, high = map(measure.said, value.interval)
    return f"{measure.said(value.value)} [{low}, {high}]"
