"""What is learned first: tables and the figure of robust trainings that were watched epoch by epoch."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from closesesame.evaluation.measures import ACC, ASR, RA

from .rows import UNKNOWN, Row, distinct, table, where
from .svg import AFTER, BEFORE, FAINT, document, line, path, text

PLAIN = "plain"
FITTED = {"clean_fitted": BEFORE, "poisoned_fitted": AFTER}
LEARNED = 0.5
"""Share of clips with their given label from which on they count as learned."""
AHEAD = 0.1
"""How far one kind is ahead in the epoch in which both are learned, to count as the first."""
EARLY = 3
PANEL, TALL, GAP, LEFT, TOP, ACROSS, BOTTOM = 150, 90, 34, 40, 40, 4, 34
TITLE = "Shares of clean and of poisoned training clips with their given label, by epoch of plain training"


def section(content: Mapping[str, Any]) -> list[str]:
    """What is learned first in plain training, and what each stage of the others leaves."""
    rows = content["rows"]
    parts = [content["about"], learned_first(where(rows, method=PLAIN))]
    parts.append(f"![{TITLE}]({content['recipe']}.svg)")
    if others := [row for row in rows if row["method"] != PLAIN]:
        parts += [stages_about(others), by_stage(others), by_epoch(others)]
    return parts


def learned_first(rows: Sequence[Row]) -> str:
    """A line an attack: how far clean and poisoned clips are learned after the first epochs."""
    first = [f"epoch {epoch}" for epoch in range(1, EARLY + 1)]
    head = ["model", "attack", "seed", *first, "last epoch", "clean, learned in", "poisoned", "first"]
    lines = []
    for row in rows:
        course = row["course"]["training"]
        pairs = list(zip(course["clean_fitted"], course["poisoned_fitted"], strict=True))
        cells = [row["model"], row["attack"], str(row["seed"])]
        cells += [f"{_said(clean)} / {_said(poisoned)}" for clean, poisoned in [*pairs[:EARLY], pairs[-1]]]
        if row["poisoning_rate"]:
            both = fitted(row)
            lines.append([*cells, *(_epoch(epoch_of(one)) for one in both), first_of(*both)])
    about = (
        "Plain training, in %: clean / poisoned training clips with their given label after an epoch; and "
        f"the epoch after which {100 * LEARNED:g} % of either have it. First: those of the earlier epoch; if "
        f"it is the same, those of which {100 * AHEAD:g} points more have their label after it."
    )
    return f"{about}\n\n{table(head, lines)}"


def orders(rows: Sequence[Row]) -> dict[str, list[str]]:
    """By which kind of clip plain training learns first, the attacks."""
    found: dict[str, list[str]] = {}
    for row in where(rows, method=PLAIN):
        if row["poisoning_rate"]:
            found.setdefault(first_of(*fitted(row)), []).append(row["attack"])
    return found


def fitted(row: Row) -> list[list[float]]:
    """The shares of clean and of poisoned clips with their label, after each epoch of plain training."""
    return [row["course"]["training"][name] for name in FITTED]


def epoch_of(fitted: Sequence[float | None]) -> int | None:
    """The first epoch, from 1, after which enough clips have their label; None if there is none."""
    return next((n for n, share in enumerate(fitted, 1) if share is not None and share >= LEARNED), None)


def first_of(clean: Sequence[float], poisoned: Sequence[float]) -> str:
    """Which kind of clip is learned first, from the shares with their label after each epoch."""
    own, others = epoch_of(clean), epoch_of(poisoned)
    if others is None or (own is not None and own < others):
        return "clean"
    if own is None or others < own:
        return "poisoned"
    ahead = poisoned[own - 1] - clean[own - 1]
    return "together" if abs(ahead) < AHEAD else "poisoned" if ahead > 0 else "clean"


def stages_about(rows: Sequence[Row]) -> str:
    """How to read the table of stages."""
    names = ", ".join(dict.fromkeys(row["method"] for row in rows))
    return f"{names}: {ACC.name} / {ASR.name} / {RA.name} in % at the end of each stage, and of half of it."


def by_stage(rows: Sequence[Row]) -> str:
    """A line an attack and method, and two columns a stage."""
    stages = list(dict.fromkeys(stage for row in rows for stage in row["course"]))
    head = ["model", "method", "attack", "poisoning rate", "seed"]
    head += [name for stage in stages for name in (f"{stage}, half", stage)]
    lines = []
    for row in rows:
        cells = [row["model"], row["method"], row["attack"]]
        cells += [f"{100 * row['poisoning_rate']:g} %", str(row["seed"])]
        for stage in stages:
            course = row["course"].get(stage)
            lasting = len(course["acc"]) if course else 0
            cells += [_at(course, lasting // 2 - 1), _at(course, lasting - 1)]
        lines.append(cells)
    return table(head, lines)


def by_epoch(rows: Sequence[Row]) -> str:
    """A line an attack, method and stage: ACC and ASR after each epoch of it."""
    lines = []
    for row in rows:
        for stage, course in row["course"].items():
            pairs = zip(course["acc"], course["asr"], strict=True)
            cells = [row["model"], row["method"], row["attack"], f"{100 * row['poisoning_rate']:g} %"]
            lines.append([*cells, stage, ", ".join(f"{_said(acc)}/{_said(asr)}" for acc, asr in pairs)])
    head = ["model", "method", "attack", "poisoning rate", "stage", "after each epoch"]
    words = f"{ACC.name} / {ASR.name} after every epoch"
    return f"<details><summary>{words}</summary>\n\n{table(head, lines)}\n\n</details>"


def _at(course: Mapping[str, Sequence[float | None]] | None, epoch: int) -> str:
    if course is None or epoch < 0:
        return UNKNOWN
    return " / ".join(_said(course[name][epoch]) for name in ("acc", "asr", "ra"))


def _said(share: float | None) -> str:
    return UNKNOWN if share is None else f"{100 * share:.0f}"


def _epoch(number: int | None) -> str:
    return UNKNOWN if number is None else str(number)


def learned(content: Mapping[str, Any]) -> str:
    """An SVG: one panel an attack, one line for clean and one for poisoned clips."""
    rows = [row for row in where(content["rows"], method=PLAIN) if row["poisoning_rate"]]
    panels = distinct(rows, "data", "model", "attack")
    down = -(-len(panels) // ACROSS)
    width = LEFT + min(ACROSS, max(1, len(panels))) * (PANEL + GAP)
    height = TOP + down * (TALL + GAP + 20) + BOTTOM
    marks = [text(LEFT, 22, "share of training clips with their given label", "start", FAINT, size=11)]
    for number, (data, model, attack) in enumerate(panels):
        left = LEFT + number % ACROSS * (PANEL + GAP)
        top = TOP + number // ACROSS * (TALL + GAP + 20) + 16
        mine = where(rows, data=data, model=model, attack=attack)
        marks += _panel(left, top, str(attack), mine)
    y = height - 14
    for x, (name, colour) in zip((LEFT, LEFT + 150), FITTED.items(), strict=True):
        marks += [path([(x, y - 4), (x + 20, y - 4)], colour)]
        marks += [text(x + 26, y, f"{name.removesuffix('_fitted')} clips", "start", size=11)]
    return document(width, height, TITLE, marks)


def _panel(left: float, top: float, attack: str, rows: Sequence[Row]) -> Iterator[str]:
    yield text(left, top - 6, attack, "start", weight="600", size=11)
    for share in (0, 0.5, 1):
        y = top + TALL * (1 - share)
        yield line(left, y, to_x=left + PANEL)
        yield text(left - 4, y + 4, f"{100 * share:.0f}", "end", FAINT, size=10)
    last = max(len(row["course"]["training"]["acc"]) for row in rows)
    for row in rows:
        for name, colour in FITTED.items():
            shares = enumerate(row["course"]["training"][name], 1)
            places = [
                (left + PANEL * epoch / last, top + TALL * (1 - share))
                for epoch, share in shares
                if share is not None
            ]
            yield path(places, colour)
    yield text(left + PANEL, top + TALL + 13, f"epoch {last}", "end", FAINT, size=10)
