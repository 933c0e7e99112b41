"""What an attacker who has the trigger makes of a repaired model, and of one that was never poisoned."""

import statistics
from collections.abc import Iterable, Mapping
from typing import Any

from closesesame.evaluation.measures import ADVERSARIES, RETUNE

from .against import OURS, PLANTED, USUAL, of_bench, place
from .rows import BARE, Row, measured, method_of, poisoned, table

Victims = dict[tuple[Any, ...], Row]
HEAD = ["model", "cases", "ASR", *(f"retuned on {clips}" for clips in RETUNE), "perturbed"]


def attacked_again(contents: Mapping[str, Mapping[str, Any]]) -> str:
    """The table of the test bench: means over the cases, in brackets those of the clean reference models.

    Args:
        contents: all result files by their names.

    Returns:
        Nothing if no model was attacked again.
    """
    found = _attacked(of_bench(contents).values())
    if OURS not in found:
        return ""
    order = sorted(found, key=lambda name: (name != OURS, name == BARE, _mean(found[name], "asr")))
    lines = [
        [
            "the victim itself" if name == BARE else f"`{name}`",
            str(len(found[name])),
            f"{100 * _mean(found[name], 'asr'):.1f}",
            *(
                f"{100 * _mean(found[name], own.key):.1f} ({100 * _mean(found[name], other.key):.1f})"
                for own, other in ADVERSARIES.items()
            ),
        ]
        for name in order
    ]
    return table(HEAD, lines)


def _attacked(grids: Iterable[Mapping[str, Any]]) -> dict[str, Victims]:
    """Rows of planted cases with the usual clean examples whose model was attacked again, by method."""
    first, found = next(iter(ADVERSARIES)).key, dict[str, Victims]()
    usual = [(None, None), (USUAL["clean_fraction"], USUAL["clean_from"])]
    for grid in grids:
        rows = poisoned(measured(grid["rows"]))
        planted = {
            (row["poisoning_rate"], *place(row))
            for row in rows
            if row["method"] == BARE and row["asr"] >= PLANTED
        }
        for row in rows:
            key = (row["poisoning_rate"], *place(row))
            if (
                key in planted
                and row.get(first) is not None
                and (row["clean_fraction"], row["clean_from"]) in usual
            ):
                found.setdefault(method_of(row), {})[key] = row
    return found


def _mean(rows: Victims, figure: str) -> float:
    return statistics.fmean(row[figure] for row in rows.values())
