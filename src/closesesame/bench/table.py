"""What a grid found, as plain rows: one a cell, numbers or the error."""

import csv
import io
import json
import os
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from closesesame import __version__

from .plan import SCORE
from .recipe import Recipe
from .store import Row, Store

Cell = dict[str, Any]
STEALTH = ("snr_db", "lsd_db", "pesq", "stoi")
"""How much the trigger changes clips."""
FIELDS = (
    *("data", "task", "model", "attack", "poisoning_rate", "clean_fraction", "defence", "seed", "state"),
    *("acc", "asr", "ra", "ra_ceiling", "der", "held_out", "held_out_acc_before", "held_out_acc"),
    *("seconds", "peak_mb", "precision"),
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
    return [_cell(row, rows, bare[_victim_key(row)]) for row in scores]


def _victim_key(row: Row) -> str:
    about = row.job.payload
    return json.dumps(
        [about[name] for name in ("data", "model", "training", "attack", "attack_label", "seed")]
    )


def _cell(row: Row, rows: Mapping[str, Row], bare: Row) -> Cell:
    about, defence = row.job.payload, row.job.payload["defence"]
    judged, victim = rows[about["judged"]], rows[bare.job.payload["judged"]]
    scores, before, made = row.result or {}, bare.result or {}, victim.result or {}
    repair = {} if defence is None else judged.result or {}
    rate = about["attack"]["settings"].get("rate", 0.05)
    return {
        "id": row.job.id,
        "data": about["data"]["name"],
        "task": about["data"]["task"],
        "model": about["model"]["name"],
        "attack": about["attack_label"],
        "poisoning_rate": rate,
        "clean_fraction": about.get("clean_fraction"),
        "defence": about.get("defence_label", "none"),
        "defence_name": "none" if defence is None else defence["name"],
        "seed": about["seed"],
        "state": row.state,
        **{
            name: scores.get(name)
            for name in ("acc", "asr", "ra", "ra_ceiling", "test_clips", "triggered_clips")
        },
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
        "precision": made.get("precision"),
        "settings": {} if defence is None else defence["settings"],
        "attack_settings": {"name": about["attack"]["name"], **_without_folders(about["attack"]["settings"])},
        "training_settings": about["training"],
        "chosen": repair.get("chosen", {}),
        "error": row.error,
    }


def _without_folders(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Recordings by their name alone: where they lie is nobody's business but this machine's."""
    return {
        field: Path(value).name if isinstance(value, str) and Path(value).is_absolute() else value
        for field, value in settings.items()
    }


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


def result_file(recipe: Recipe, rows: list[Cell]) -> dict[str, Any]:
    """The content of a file of `benchmarks/results`."""
    return {
        "recipe": recipe.name,
        "about": recipe.about,
        "version": __version__,
        "host": host(),
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
