"""What an attacker who has the trigger makes of a repaired model, and of one that was never poisoned."""

import statistics
from collections.abc import Iterable, Mapping
from typing import Any

from closesesame.evaluation.measures import ADVERSARIES, RETUNE

from .against import OURS, PLANTED, has_usual_clips, of_bench, place
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
    """Rows of planted cases with the usual clean examples whose model was attacked again, by method.

    The rows of victims themselves are of those that our own removal repaired: grids on another machine, or
    with other clean clips, have others.
    """
    first, found = next(iter(ADVERSARIES)).key, dict[str, Victims]()
    for grid in grids:
        rows = poisoned(measured(grid["rows"]))
        bare = {_case(row): row for row in rows if row["method"] == BARE}
        for row in rows:
            key, victim = _case(row), bare.get(_case(row))
            planted = victim is not None and victim["asr"] >= PLANTED
            if has_usual_clips(row) and planted and row.get(first) is not None:
                found.setdefault(method_of(row), {})[key] = row
                if row["method"] == OURS:
                    found.setdefault(BARE, {})[key] = bare[key]
    return found


def _case(row: Row) -> tuple[Any, ...]:
    return (row["poisoning_rate"], *place(row))


def _mean(rows: Victims, figure: str) -> float:
    return statistics.fmean(row[figure] for row in rows.values())
