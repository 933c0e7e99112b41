"""The figure that shows why restore works: features of clean and of triggered clips, before and after."""

from collections.abc import Iterator, Mapping
from typing import Any

from .rows import Row, distinct, where
from .svg import AFTER, BEFORE, COST, FAINT, INK, document, dot, line, text

PANEL, STRIP, LEFT, TOP, GAP, WORDS, BOTTOM = 190, 34, 24, 56, 26, 62, 48
COLOURS = {"other": BEFORE, "target": COST, "triggered": AFTER}
KEY = {
    "other": "clean clips of other classes",
    "target": "clean clips of the target label",
    "triggered": "clips of other classes with the trigger",
}
SIZE = 1.8
TITLE = (
    "Features of clean and of triggered clips in a victim, its repaired models and a clean reference model"
)


def why(content: Mapping[str, Any]) -> str:
    """An SVG: one row an attack, one panel a model, below it how far the trigger turns the features."""
    rows = content["rows"]
    attacks, models = (
        [name for (name,) in distinct(rows, "attack")],
        [name for (name,) in distinct(rows, "model")],
    )
    tall = PANEL + STRIP + WORDS + GAP
    width = LEFT + len(models) * (PANEL + GAP)
    height = TOP + len(attacks) * tall + BOTTOM
    marks = [
        text(LEFT + PANEL / 2 + number * (PANEL + GAP), 22, name, "middle", weight="600")
        for number, name in enumerate(models)
    ]
    for down, attack in enumerate(attacks):
        top = TOP + down * tall
        marks.append(text(LEFT, top - 8, attack, "start", weight="600"))
        for across, model in enumerate(models):
            mine = where(rows, attack=attack, model=model)
            drawn = where(content["drawn"], attack=attack, model=model)
            if mine:
                marks += _panel(LEFT + across * (PANEL + GAP), top, mine[0], drawn[0])
    marks += _key(height - 36)
    return document(width, height, TITLE, marks)


def _panel(left: float, top: float, row: Row, drawn: Mapping[str, Any]) -> Iterator[str]:
    yield f'<rect x="{left}" y="{top}" width="{PANEL}" height="{PANEL}" fill="none" stroke="#e4e4e4"/>'
    every = [point for name in COLOURS for point in drawn[name]]
    lows, highs = ([pick(point[axis] for point in every) for axis in (0, 1)] for pick in (min, max))
    scale = (PANEL - 16) / max(1e-9, *(high - low for low, high in zip(lows, highs, strict=True)))
    middle = [(low + high) / 2 for low, high in zip(lows, highs, strict=True)]
    for name, colour in COLOURS.items():
        for x, y in drawn[name]:
            at = left + PANEL / 2 + scale * (x - middle[0]), top + PANEL / 2 - scale * (y - middle[1])
            yield dot(*at, colour, radius=SIZE + (name != "other"))
    yield from _strip(left, top + PANEL + 4, row, drawn["cosines"])
    y = top + PANEL + STRIP + 32
    yield text(left, y, f"ASR {100 * row['asr']:.0f} %, RA {100 * row['ra']:.0f} %", "start", size=11)
    near = f"nearest: target {100 * row['nearest_target']:.0f} %, own class {100 * row['nearest_own']:.0f} %"
    yield text(left, y + 14, near, "start", size=11)
    if row["distance"]:
        moved = f"weights moved {100 * row['distance']:.0f} %, CKA {row['cka']:.2f}"
        yield text(left, y + 28, moved, "start", size=11)


def _strip(left: float, top: float, row: Row, counts: list[int]) -> Iterator[str]:
    """How many clips have which cosine, 0 to 1; a line where two clips of different classes have theirs."""
    wide, most = PANEL / len(counts), max(1, *counts)
    for number, count in enumerate(counts):
        if count:
            tall = (STRIP - 2) * count / most
            place = f'x="{left + wide * number:.1f}" y="{top + STRIP - tall:.1f}"'
            yield f'<rect {place} width="{wide - 1:.1f}" height="{tall:.1f}" fill="{AFTER}"/>'
    yield line(left, top + STRIP, to_x=left + PANEL)
    between = left + PANEL * min(1.0, max(0.0, row["cosine_of_classes"]))
    yield line(between, top, to_y=top + STRIP, dashed=True)
    for share, words, side in ((0, "0", "start"), (1, "1", "end")):
        yield text(left + PANEL * share, top + STRIP + 12, words, side, FAINT, size=10)
    said = f"cosine with and without: {row['cosine']:.2f}"
    yield text(left + PANEL / 2, top + STRIP + 12, said, "middle", FAINT, size=10)


def _key(y: float) -> Iterator[str]:
    x = float(LEFT)
    for name, colour in COLOURS.items():
        yield dot(x + 4, y - 4, colour, radius=4)
        yield text(x + 14, y, KEY[name], "start", INK, size=11)
        x += 34 + 6 * len(KEY[name])
    said = "Bars: how many clips have which cosine; dashed: that of two clean clips of different classes"
    yield text(LEFT, y + 20, said, "start", FAINT, size=11)
