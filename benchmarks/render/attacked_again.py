"""What an attacker who has the trigger makes of a repaired model, and of one that was never poisoned.

The latter was repaired in the same way: a repair alone may make a model learn faster or slower.
"""

import statistics
from collections.abc import Iterable, Mapping
from typing import Any

from closesesame.evaluation.measures import ADVERSARIES, RETUNE

from .against import OURS, PLANTED, has_usual_clips, of_bench, place
from .rows import BARE, Row, measured, method_of, poisoned, table

Victims = dict[tuple[Any, ...], tuple[Row, Row]]
"""By case, the row of the model and that of the one that was never poisoned."""
HEAD = ["model", "cases", "ASR", *(f"retuned on {clips}" for clips in RETUNE), "perturbed"]


def attacked_again(contents: Mapping[str, Mapping[str, Any]]) -> str:
    """The table of the test bench: means over the cases, in brackets those of models never poisoned.

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
                f"{100 * _mean(found[name], own.key):.1f} ({100 * _mean(found[name], own.key, 1):.1f})"
                for own in ADVERSARIES
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
        rows = [row for row in measured(grid["rows"]) if row.get(first) is not None]
        bare = {_case(row): row for row in rows if row["method"] == BARE}
        clean = {_alike(row): row for row in poisoned(rows, wanted=False)}
        for row in poisoned(rows):
            key = _case(row)
            planted = key in bare and bare[key]["asr"] >= PLANTED
            if has_usual_clips(row) and planted and _alike(row) in clean:
                found.setdefault(method_of(row), {})[key] = row, clean[_alike(row)]
                if row["method"] == OURS:
                    found.setdefault(BARE, {})[key] = bare[key], clean[_alike(bare[key])]
    return found


def _case(row: Row) -> tuple[Any, ...]:
    return (row["poisoning_rate"], *place(row))


def _alike(row: Row) -> tuple[Any, ...]:
    """What a row and that of the model that was never poisoned have in common."""
    return (*place(row), method_of(row), row["clean_fraction"], row["clean_from"])


def _mean(rows: Victims, figure: str, which: int = 0) -> float:
    return statistics.fmean(pair[which][figure] for pair in rows.values())
