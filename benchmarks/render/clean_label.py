"""The figure of attacks that move clips: how far these are from their anchors, and what the agent learned."""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from .svg import AFTER, BEFORE, COST, FAINT, INK, document, dot, line, path, text

ROW, LEFT, TOP, PANEL, GAP, CURVE, BOTTOM = 66, 265, 40, 300, 50, 220, 50
COLOURS = {"clean": BEFORE, "carried": COST, "moved": AFTER}
KEY = {"clean": "clean clips", "carried": "before they are moved", "moved": "poisoned clips"}
TITLE = "Distances of clips of the target class from their anchors, and the rewards of the agent by episode"


def clean_label(content: Mapping[str, Any]) -> str:
    """An SVG: one row an attack; to the right the learning curve of an agent."""
    drawn: Sequence[Mapping[str, Any]] = content["drawn"]
    every = [value for one in drawn for name in COLOURS for value in one[name]]
    low, high = (math.log10(max(1e-4, pick(every))) for pick in (min, max))
    low, high = math.floor(low), math.ceil(high)
    width, height = LEFT + PANEL + GAP + CURVE + GAP, TOP + ROW * len(drawn) + BOTTOM

    def across(value: float) -> float:
        share = (math.log10(max(1e-4, value)) - low) / max(1, high - low)
        return LEFT + PANEL * share

    marks = [text(LEFT + PANEL / 2, 22, "Distance from the anchor", "middle", weight="600")]
    marks.append(text(LEFT + PANEL + GAP + CURVE / 2, 22, "Reward by episode", "middle", weight="600"))
    for power in range(low, high + 1):
        marks.append(line(across(10**power), TOP, to_y=TOP + ROW * len(drawn)))
        marks.append(text(across(10**power), TOP + ROW * len(drawn) + 14, f"{10**power:g}", "middle", FAINT))
    for number, one in enumerate(drawn):
        top = TOP + ROW * number
        marks.append(text(LEFT - 12, top + ROW / 2 + 4, one["attack"], "end"))
        for place, (name, colour) in enumerate(COLOURS.items()):
            ends = [(across(value), top + 14 + 18 * place) for value in one[name]]
            marks.append(path([ends[0], ends[-1]], colour))
            marks.append(dot(*ends[1], colour, radius=5))
        marks += _curve(LEFT + PANEL + GAP, top + 8, one["curve"])
    marks += _key(height - 10)
    return document(width, height, TITLE, marks)


def _curve(left: float, top: float, values: Sequence[float]) -> Iterator[str]:
    if not values:
        return
    least, most = min(values), max(values)
    tall, wide = ROW - 20, CURVE / max(1, len(values) - 1)
    scale = tall / max(1e-9, most - least)
    yield path(
        [(left + wide * n, top + tall - scale * (value - least)) for n, value in enumerate(values)], INK
    )
    yield text(left + CURVE + 4, top + 8, f"{most:.2f}", "start", FAINT, size=10)
    yield text(left + CURVE + 4, top + tall, f"{least:.2f}", "start", FAINT, size=10)


def _key(y: float) -> Iterator[str]:
    x = 24.0
    for name, colour in COLOURS.items():
        yield dot(x + 4, y - 4, colour, radius=5)
        yield text(x + 14, y, KEY[name], "start", INK, size=11)
        x += 34 + 6 * len(KEY[name])
    yield text(x, y, "dot: median; line: from the tenth to the ninetieth of 100", "start", FAINT, size=11)
