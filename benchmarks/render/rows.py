"""Rows of result files: which belong together, and one cell of a table from several seeds."""

import statistics
from collections.abc import Iterable, Sequence
from itertools import groupby
from typing import Any

from closesesame.evaluation import wilson
from closesesame.evaluation.measures import ACC, Measure
from closesesame.families import BY_NAME, Family

Row = dict[str, Any]
Rows = Sequence[Row]
BARE = "none"
"""Method and family of a suspect that no method was run on."""
UNKNOWN = "–"
DONE = "done"
POINT = 0.01


def table(head: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    """A Markdown table; columns that are empty in all lines are left out."""
    body = [list(line) for line in lines]
    kept = [number for number in range(len(head)) if any(line[number] not in {"", UNKNOWN} for line in body)]
    rows = [head, ["---"] * len(head), *body]
    return "\n".join(f"| {' | '.join(row[number] for number in kept)} |" for row in rows)


def measured(rows: Rows) -> list[Row]:
    """The rows that were measured without an error; a grid that was stopped has others, too."""
    return [row for row in rows if not row.get("error") and row.get("state", DONE) == DONE]


def families_of(rows: Rows) -> list[Family]:
    """The families that rows are of, in the order of the list of families."""
    found = {row.get("family") for row in rows}
    return [family for name, family in BY_NAME.items() if name in found]


def where(rows: Rows, **given: Any) -> list[Row]:
    """The rows with these values."""
    return [row for row in rows if all(row[key] == value for key, value in given.items())]


def poisoned(rows: Rows, wanted: bool = True) -> list[Row]:
    """The rows of suspects that were trained on poisoned data, or of those that were not."""
    return [row for row in rows if bool(row["poisoning_rate"]) == wanted]


def distinct(rows: Rows, *keys: str) -> list[tuple[Any, ...]]:
    """Every combination of values, in the order of the rows."""
    return list(dict.fromkeys(tuple(row[key] for key in keys) for row in rows))


def by_seed(rows: Rows) -> list[list[Row]]:
    """Rows that differ by their seed alone, methods behind their suspect in the order they were measured."""
    names = [BARE, *dict.fromkeys(method_of(row) for row in rows)]

    def key(row: Row) -> tuple[Any, ...]:
        place = row["data"], row["model"], row["attack"], row["poisoning_rate"]
        return *place, names.index(method_of(row)), row["clean_fraction"] or 0

    return [list(group) for _, group in groupby(sorted(rows, key=key), key)]


def method_of(row: Row) -> str:
    """The name of a method with the settings that are not its defaults."""
    changed = ", ".join(f"{name} {plain(given)}" for name, given in row["settings"].items())
    named = row["method"] != row["method_name"]
    return f"{row['method']} ({changed})" if changed and not named else str(row["method"])


def model_of(row: Row, rows: Rows) -> str:
    """The model of a row, with its data set where the rows have several."""
    several = len({other["data"] for other in rows}) > 1
    return f"{row['data']}, {row['model']}" if several else str(row["model"])


def seeds_of(rows: Rows) -> str:
    """How many seeds there are."""
    return str(len({row["seed"] for row in rows}))


def values(rows: Rows, measure: Measure) -> list[float]:
    """What was measured, one figure a row that has it."""
    return [float(row[measure.key]) for row in rows if row.get(measure.key) is not None]


def mean(rows: Rows, measure: Measure) -> float | None:
    """The mean over the seeds; None if nothing was measured."""
    found = values(rows, measure)
    return statistics.fmean(found) if found else None


def shown(rows: Rows, measure: Measure) -> str:
    """The mean over the seeds, as tables show it; empty if nothing was measured."""
    value = mean(rows, measure)
    return "" if value is None else measure.said(value)


def interval(rows: Rows, measure: Measure) -> str:
    """The mean, Wilson's interval on the trials of one seed, and the range over the seeds."""
    text, value = shown(rows, measure), mean(rows, measure)
    if value is not None and measure.of and rows[0].get(measure.of):
        low, high = wilson(value, rows[0][measure.of])
        text += f" [{measure.said(low)}, {measure.said(high)}]"
    return text + spread(rows, measure)


def spread(rows: Rows, measure: Measure) -> str:
    """The range over the seeds in brackets, where there are several."""
    found = values(rows, measure)
    return f" ({measure.said(min(found))} to {measure.said(max(found))})" if len(found) > 1 else ""


def short(rows: Rows, measures: Sequence[Measure]) -> str:
    """Means in whole percents between strokes; the first with its range where seeds differ by a point."""
    if not any(values(rows, measure) for measure in measures):
        return UNKNOWN
    first, *others = [_whole(mean(rows, measure), measure) for measure in measures]
    found = values(rows, measures[0])
    if measures[0].unit == "share" and found and max(found) - min(found) >= POINT:
        first += f" ({_whole(min(found), measures[0])}–{_whole(max(found), measures[0])})"
    return " / ".join([first, *others])


def _whole(value: float | None, measure: Measure) -> str:
    if value is None:
        return UNKNOWN
    return f"{abs(round(100 * value))}" if measure.unit == "share" else measure.said(value)


def lost_acc(rows: Rows, others: Rows) -> float | None:
    """By how much ACC is lower than that of the suspects that no method was run on, as a mean."""
    same = ("data", "model", "attack", "poisoning_rate", "seed")
    before = {tuple(row[key] for key in same): row[ACC.key] for row in others if row["method_name"] == BARE}
    gaps = [
        before[key] - row[ACC.key]
        for row in rows
        if row["method_name"] != BARE
        and row.get(ACC.key) is not None
        and (key := tuple(row[key] for key in same)) in before
    ]
    return statistics.fmean(gaps) if gaps else None


def points(share: float | None) -> str:
    """A difference of shares in points of percent."""
    return "" if share is None else ACC.said(share) if round(1000 * share) >= 0 else f"-{ACC.said(-share)}"


def plain(given: Any) -> str:
    """One field of a table of figures as they are."""
    if isinstance(given, list):
        return ", ".join(map(plain, given))
    if isinstance(given, float):
        digits = ".2g" if 1e-4 <= abs(given) < 0.1 else ".2f" if abs(given) < 100 else ".0f"
        return f"{given:{digits}}"
    return "" if given is None else str(given)
