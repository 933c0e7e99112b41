"""What a grid found, as plain rows: one a cell, numbers or the error."""

import csv
import io
import json
import os
import platform
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from closesesame import __version__
from closesesame.core.errors import DataError
from closesesame.evaluation import STEALTH

from .identity import Machine
from .plan import SCORE, WHERE
from .queue.store import Row, Store
from .recipe import Recipe

Cell = dict[str, Any]
STEPS = ("train", "repair", "score")
"""The jobs behind a row; each computed in a precision of its own, which its row states."""
FIELDS = (
    *("data", "task", "model", "attack", "poisoning_rate", "clean_fraction", "defence", "seed", "state"),
    *("acc", "asr", "ra", "ra_reference", "ra_reference_repaired", "der"),
    *("clean_from", "held_out", "held_out_acc_before", "held_out_acc", "seconds", "peak_mb"),
    *(f"precision_{step}" for step in STEPS),
    *STEALTH,
    *(
        "training_clips",
        "poisoned_clips",
        "poisoned_share_of_target",
        "test_clips",
        "triggered_clips",
        "error",
    ),
)


def cells(store: Store, ids: set[str] | None = None) -> list[Cell]:
    """One row a cell, in the order of the recipe.

    Args:
        store: the grid's.
        ids: the score jobs to take; all if None.
    """
    rows = {row.job.id: row for row in store.rows()}
    scores = [row for row in rows.values() if row.job.task == SCORE and (ids is None or row.job.id in ids)]
    bare = {_victim_key(row): row for row in scores if row.job.payload["defence"] is None}
    never_poisoned = {_repair_key(row): row for row in scores if not _rate(row)}
    return [_cell(row, rows, bare[_victim_key(row)], never_poisoned.get(_repair_key(row))) for row in scores]


def _rate(row: Row) -> float:
    return float(row.job.payload["attack"]["all_settings"]["rate"])


def _repair_key(row: Row) -> str:
    """What a row has in common with the row of the never-poisoned model after the same repair."""
    about = row.job.payload
    names = (
        "data",
        "model",
        "training",
        "trigger",
        "defence",
        "clean_fraction",
        "clean_from",
        "seed",
        "machine",
    )
    return json.dumps([about.get(name) for name in names], sort_keys=True)


def _victim_key(row: Row) -> str:
    about = row.job.payload
    names = ("data", "model", "training", "attack", "attack_label", "seed", "machine")
    return json.dumps([about[name] for name in names], sort_keys=True)


def _cell(row: Row, rows: Mapping[str, Row], bare: Row, reference: Row | None) -> Cell:
    about, defence = row.job.payload, row.job.payload["defence"]
    judged, victim = rows[about["judged"]], rows[bare.job.payload["judged"]]
    scores, before, made = row.result or {}, bare.result or {}, victim.result or {}
    repair = {} if defence is None else judged.result or {}
    precision = dict(zip(STEPS, (made, repair, scores), strict=True))
    return {
        "id": row.job.id,
        "data": about["data"]["name"],
        "task": about["data"]["task"],
        "model": about.get("model_label", about["model"]["name"]),
        "attack": about["attack_label"],
        "poisoning_rate": about["attack"]["all_settings"]["rate"],
        "clean_fraction": about.get("clean_fraction"),
        "clean_from": None if defence is None else _source(about),
        "defence": "none" if defence is None else defence["label"],
        "defence_name": "none" if defence is None else defence["name"],
        "seed": about["seed"],
        "state": row.state,
        **{
            name: scores.get(name)
            for name in ("acc", "asr", "ra", "ra_reference", "test_clips", "triggered_clips")
        },
        "ra_reference_repaired": None if reference is None else (reference.result or {}).get("ra"),
        "der": None if defence is None else _der(before, scores),
        **{name: before.get(name) for name in STEALTH},
        "held_out": repair.get("held_out"),
        "held_out_acc_before": repair.get("acc_before"),
        "held_out_acc": repair.get("acc_after"),
        "seconds": judged.seconds if defence is None else repair.get("seconds"),
        "peak_mb": judged.peak_mb,
        "training_clips": made.get("training_clips"),
        "poisoned_clips": made.get("poisoned_clips"),
        "poisoned_share_of_target": made.get("poisoned_share_of_target"),
        **{f"precision_{step}": result.get("precision") for step, result in precision.items()},
        "settings": {} if defence is None else defence["settings"],
        "attack_settings": {
            "name": about["attack"]["name"],
            **about["attack"]["settings"],
            **{field: Path(place).name for field, place in about[WHERE].get("sounds", {}).items()},
        },
        "training_settings": about["training"],
        "chosen": repair.get("chosen", {}),
        "error": row.error,
    }


def _source(about: Mapping[str, Any]) -> str:
    return "untrusted" if about["defence"]["untrusted"] else str(about["clean_from"])


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
                first.setdefault(
                    precision, f"{step} of {row['attack']}, {row['defence']}, seed {row['seed']}"
                )
    if len(first) > 1:
        found = "; ".join(f"{precision}: {what}" for precision, what in first.items())
        raise DataError(
            f"one table has one precision, and these rows have {len(first)} ({found}); "
            "set precision = 'fp32' in [protocol] and run the grid again"
        )


def _der(before: Mapping[str, Any], after: Mapping[str, Any]) -> float | None:
    from closesesame.evaluation import der

    if before.get("asr") is None or after.get("asr") is None:
        return None
    return der(before["acc"], before["asr"], after["acc"], after["asr"])


def as_csv(rows: list[Cell]) -> str:
    """The plain fields of all rows as CSV."""
    text = io.StringIO()
    writer = csv.DictWriter(text, FIELDS, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def result_file(
    recipe: Recipe, rows: list[Cell], machine: Machine, code: Mapping[str, str]
) -> dict[str, Any]:
    """The content of a file of `benchmarks/results`; `check` of `grid` compares it with what is there now.

    Args:
        recipe: what was run.
        rows: its cells.
        machine: what they were computed on.
        code: a hash of each module that took part.

    Raises:
        DataError: if the rows were computed in more than one precision.
    """
    refuse_mixed(rows)
    return {
        "recipe": recipe.name,
        "about": recipe.about,
        "version": __version__,
        "protocol": recipe.protocol.about(),
        "tuned_on": recipe.tuned_on,
        "host": host(),
        "machine": machine.settings(),
        "recipe_settings": recipe.model_dump(mode="json"),
        "code": dict(code),
        "rows": rows,
    }


def host() -> dict[str, Any]:
    """What the figures were measured on."""
    import torch

    return {
        "processor": torch.cpu.get_capabilities().get("cpu_name", platform.processor()),
        "cores": os.cpu_count(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "python": platform.python_version(),
        "torch": torch.__version__,
    }
