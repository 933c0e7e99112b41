"""What a grid found, as plain rows: one a cell, with figures or the error."""

import csv
import io
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from closesesame.core.errors import DataError
from closesesame.evaluation import der
from closesesame.evaluation.measures import (
    ACC,
    ADVERSARIES,
    ASR,
    DER,
    MEASURES,
    OF_TRIGGERS,
    PEAK_MB,
    RA,
    RA_REFERENCE_REPAIRED,
    SECONDS,
)

from .cells import JudgeCell
from .queue.store import Row as Job
from .queue.store import Store
from .stages import JUDGES, NO_METHOD

Row = dict[str, Any]
STEPS = ("train", "method", "judge")
"""The jobs behind a row; each computed in a precision of its own, which its row states."""
OF_METHOD = ("tuned_on", "held_out", "held_out_acc_before", "held_out_acc", "chosen")
"""What a method says of itself."""
OF_JUDGE = ("test_clips", "triggered_clips", "clean_clips")
"""How many clips the figures are shares of."""
OF_POISON = ("training_clips", "poisoned_clips", "poisoned_share_of_target")
FIELDS = (
    *("data", "task", "model", "attack", "poisoning_rate", "clean_fraction", "family", "method", "seed"),
    *("state", *MEASURES, *OF_JUDGE, "clean_from", *OF_METHOD[:-1], *OF_POISON),
    *(f"precision_{step}" for step in STEPS),
    "error",
)
"""The columns of a table as CSV."""


def rows_of(store: Store, ids: set[str] | None = None) -> list[Row]:
    """One row a cell, in the order of the recipe.

    Args:
        store: the grid's.
        ids: the judge jobs to take; all if None.
    """
    jobs = {row.job.id: row for row in store.rows()}
    asked = [row for row in jobs.values() if row.job.task in JUDGES and (ids is None or row.job.id in ids)]
    return [_row(row, jobs) for row in asked]


def _row(judged: Job, jobs: Mapping[str, Job]) -> Row:
    cell = JudgeCell.read(judged.job.payload)
    made_by, found = jobs[cell.judged], judged.result or {}
    bare = judged if cell.bare is None else jobs[cell.bare]
    reference = judged if cell.on_reference is None else jobs[cell.on_reference]
    attacked = _bare_reference(bare, jobs).result or {}
    suspect, before = jobs[cell.suspect].result or {}, bare.result or {}
    poisoned = {} if cell.poisoned is None else jobs[cell.poisoned].result or {}
    said = {} if cell.method is None else made_by.result or {}
    precision = dict(zip(STEPS, (suspect, said, found), strict=True))
    seconds = made_by.seconds if said.get("seconds") is None else said["seconds"]
    measured = {key: found.get(key) for key in MEASURES} | {
        DER.key: None if cell.method is None else _der(before, found),
        RA_REFERENCE_REPAIRED.key: (reference.result or {}).get(RA.key),
        **{
            beside.key: None if found.get(own.key) is None else attacked.get(own.key)
            for own, beside in ADVERSARIES.items()
        },
        SECONDS.key: seconds,
        PEAK_MB.key: made_by.peak_mb,
        **{measure.key: before.get(measure.key) for measure in OF_TRIGGERS},
    }
    return {
        "id": judged.job.id,
        "data": cell.data.entry.name,
        "task": cell.data.entry.task,
        "model": cell.labels["model"],
        "attack": cell.labels["attack"],
        "poisoning_rate": cell.attack.rate,
        "clean_fraction": cell.clean_fraction,
        "clean_from": cell.clean_from,
        "family": cell.family,
        "method": cell.labels["method"],
        "method_name": NO_METHOD if cell.method is None else cell.method.name,
        "seed": cell.seed,
        "state": judged.state,
        **measured,
        **{name: found.get(name) for name in OF_JUDGE},
        **{name: said.get(name) for name in OF_METHOD},
        **{name: poisoned.get(name) for name in OF_POISON},
        "training_clips": suspect.get("training_clips"),
        "poisoned_clips": poisoned.get("poisoned_clips", 0),
        **{f"precision_{step}": result.get("precision") for step, result in precision.items()},
        "settings": {} if cell.method is None else cell.method.settings,
        "attack_settings": {
            "name": cell.attack.name,
            **cell.attack.settings,
            **{name: Path(place).name for name, place in cell.where.sounds.items()},
        },
        "training_settings": cell.training,
        "error": judged.error,
    }


def _bare_reference(bare: Job, jobs: Mapping[str, Job]) -> Job:
    """The row of the clean reference model as it is, beside that of a suspect as it is."""
    on_reference = JudgeCell.read(bare.job.payload).on_reference
    return bare if on_reference is None else jobs[on_reference]


def precisions(rows: Iterable[Mapping[str, Any]]) -> set[str]:
    """All precisions that the jobs behind these rows computed in."""
    found = {row.get(f"precision_{step}") for row in rows for step in STEPS}
    return {name for name in found if name is not None}


def refuse_mixed(rows: Iterable[Mapping[str, Any]]) -> None:
    """Refuses rows of more than one precision: their differences say nothing of the methods.

    Raises:
        DataError: naming a row of each precision.
    """
    first: dict[str, str] = {}
    for row in rows:
        for step in STEPS:
            precision = row.get(f"precision_{step}")
            if precision is not None:
                first.setdefault(precision, f"{step} of {row['attack']}, {row['method']}, seed {row['seed']}")
    if len(first) > 1:
        found = "; ".join(f"{precision}: {what}" for precision, what in first.items())
        raise DataError(
            f"one table has one precision, and these rows have {len(first)} ({found}); "
            "set precision = 'fp32' in [protocol] and run the grid again"
        )


def _der(before: Mapping[str, Any], after: Mapping[str, Any]) -> float | None:
    if before.get(ASR.key) is None or after.get(ASR.key) is None:
        return None
    return der(before[ACC.key], before[ASR.key], after[ACC.key], after[ASR.key])


def as_csv(rows: list[Row]) -> str:
    """The plain fields of all rows as CSV."""
    text = io.StringIO()
    writer = csv.DictWriter(text, FIELDS, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()
