"""The command that scores how suspicious clips are."""

import csv
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from closesesame.cli.app import command
from closesesame.cli.inputs import clean_for, load_model_on, load_part_for, poisoned_in, settings_of
from closesesame.cli.options import (
    SPLIT,
    CleanOptions,
    Data,
    Device,
    Force,
    ModelFolder,
    PartName,
    Set,
    SplitOptions,
    paths_of,
)
from closesesame.cli.printing import Answer, facts, table
from closesesame.core.disk import Destination
from closesesame.core.wording import NONE

if TYPE_CHECKING:
    from closesesame.data import Dataset
    from closesesame.detection import Suspicion
    from closesesame.evaluation import Rate
    from closesesame.evaluation.measures import Measure
    from closesesame.evaluation.screening import Area, Screened

SHOWN = 10
"""Clips that are printed."""


@command("detect")
def detect(
    model: ModelFolder,
    source: Data,
    out: Path,
    *,
    method: str = "training_loss",
    settings: Set = None,
    part: Annotated[PartName, Parameter(help="Part of the data set to score.")] = "train",
    clean: str | None = None,
    clean_part: Annotated[PartName, Parameter(help="Part of the clean data to use.")] = "validation",
    device: Device = "cpu",
    force: Force = False,
    options: SplitOptions = SPLIT,
) -> Answer:
    """Score how suspicious each clip of a data set is: poisoned training clips, or triggered inputs.

    Prints the most suspicious clips. If 'sesame poison' wrote the data set, its manifest tells which clips
    are poisoned. The method does not see it; it is compared with the scores, as a test of the method.

    Args:
        out: CSV file for all scores, the most suspicious first: id, label, score.
        method: Detection; see 'sesame list detection' and 'sesame show METHOD'.
        clean: Recordings known to be clean, as a data set, for a method that needs some.

    Examples:
        sesame detect MODEL CLIPS scores.csv
        sesame detect VICTIM POISONED scores.csv --method training_loss --json
        sesame detect MODEL CLIPS scores.csv --part test --clean CLEAN
    """
    from closesesame.detection import DETECTIONS
    from closesesame.evaluation.screening import Screening

    detection = DETECTIONS.make(method, settings_of(settings))
    known = clean_for(method, CleanOptions(clean=clean, clean_part=clean_part), needed=detection.needs_clean)
    place = Destination(out, kind="file", force=force, inputs=(model, *paths_of(source), *known.inputs))
    suspect = load_model_on(model, device)
    examples = load_part_for(suspect.card, source, part, options)
    trusted = None if known.clean is None else load_part_for(suspect.card, known.clean, clean_part, options)
    suspicion = detection.score(suspect, examples, trusted, options.seed)
    rows = _ranked(suspicion, examples)
    place.write(lambda made: _write(rows, made))
    found = {
        "scores": str(out),
        "clips": len(rows),
        "method": detection.name,
        "settings": detection.settings(),
        "seconds": round(suspicion.seconds, 1),
        "most_suspicious": rows[:SHOWN],
    }
    truth = poisoned_in(source, suspicion.ids)
    screened = None if truth is None else Screening(truth).score(suspicion)
    if truth is not None and screened is not None:
        found["test_of_the_method"] = {"poisoned_clips": sum(truth.values())} | screened.as_json()
    return Answer(found, lambda: _print(found, screened))


def _ranked(suspicion: "Suspicion", examples: "Dataset") -> list[dict[str, Any]]:
    """A row a clip, the most suspicious first."""
    names = [examples.classes[label] for label in examples.labels.tolist()]
    found = zip(suspicion.ids, names, suspicion.scores.tolist(), strict=True)
    rows = [{"id": name, "label": label, "score": score} for name, label, score in found]
    return sorted(rows, key=lambda row: row["score"], reverse=True)


def _write(rows: list[dict[str, Any]], file: Path) -> None:
    with file.open("w", newline="", encoding="utf-8", errors="backslashreplace") as opened:
        writer = csv.DictWriter(opened, ("id", "label", "score"), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def _print(found: dict[str, Any], screened: "Screened | None") -> None:
    from closesesame.evaluation.measures import OF_SCORES

    table(("id", "label", "score"), found["most_suspicious"])
    facts({name: found[name] for name in ("clips", "method", "settings", "seconds", "scores")})
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
