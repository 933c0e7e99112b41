"""Rates as bars, and models on the plane of ACC and ASR."""

import math
from collections.abc import Sequence
from typing import TypeGuard

from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.patches import Wedge

from closesesame.evaluation import Rate
from closesesame.evaluation.measures import Measure

from .canvas import COLOURS, DASH, GOOD, INK, PAPER, WIDTH, axes_at, drawing, inline, short
from .labels import label


def bars(
    measure: Measure,
    names: Sequence[str],
    rates: Sequence[Rate | None],
    references: Sequence[Rate | None] = (),
) -> Markup:
    """Draws one rate of all entries as bars from 0 to 100 % with whiskers; the first bar is hollow.

    Args:
        measure: which rate it is; it chooses the colour.
        names: of the entries.
        rates: of the entries; an en dash stands for what is None or NaN.
        references: of the clean reference model, entry by entry, drawn as a dashed line.
    """
    row, below = 44, 22
    height = row * len(names) + below
    with drawing(height) as figure:
        axes = axes_at(figure, (4, below, WIDTH - 20, height - below))
        axes.set(xlim=(0, 100), ylim=(len(names), 0), yticks=[], xticks=[0, 25, 50, 75, 100])
        axes.set_xticklabels(["0", "25", "50", "75", "100"])
        for y, (name, rate) in enumerate(zip(names, rates, strict=True)):
            axes.text(18, y + 0.4, percent(rate), size=12, ha="right", weight="bold")
            axes.text(20.5, y + 0.4, short(name), size=12)
            if known(rate):
                _bar(axes, y + 0.7, rate, COLOURS[measure.key], hollow=y == 0)
        for y, reference in enumerate(references):
            if known(reference):
                at = 100 * reference.value
                axes.plot([at, at], [y, y + 1], color=INK, linewidth=1.3, linestyle=(0, (4, 3)), zorder=4)
        said = "; ".join(f"{name} {percent(rate)}" for name, rate in zip(names, rates, strict=True))
        return inline(figure, f"bars-{measure.key}", f"{measure.name} as bars: {said}")


def plane(names: Sequence[str], accs: Sequence[Rate | None], asrs: Sequence[Rate | None]) -> Markup | None:
    """Draws each entry at its ASR and ACC with a cross of intervals; None if no entry has both."""
    points = [
        (number, short(name), acc, asr)
        for number, (name, acc, asr) in enumerate(zip(names, accs, asrs, strict=True))
        if known(acc) and known(asr)
    ]
    if not points:
        return None
    height = 330
    lowest = 10 * math.floor(min(10 * acc.interval[0] for _, _, acc, _ in points))
    with drawing(height) as figure:
        axes = axes_at(figure, (48, 40, WIDTH - 58, height - 64))
        room = 100 - lowest
        axes.set_yticks(range(lowest, 101, 10 if room > 30 else 5 if room > 10 else 2))
        axes.set(xlim=(-3, 103), ylim=(lowest - 0.02 * room, 100 + 0.03 * room), xticks=[0, 25, 50, 75, 100])
        axes.set(
            xlabel="ASR, %: how often the trigger works", ylabel="ACC, %: how often clean clips are right"
        )
        corner = Wedge((0, 1), 0.36, 270, 360, transform=axes.transAxes, color=GOOD, alpha=0.13, linewidth=0)
        axes.add_artist(corner)
        axes.text(0, 1.025, "good corner", transform=axes.transAxes, color=GOOD, size=12)
        for number, _, acc, asr in points:
            _cross(axes, acc, asr, hollow=number == 0)
        label(axes, [(name, 100 * asr.value, 100 * acc.value) for _, name, acc, asr in points])
        said = "; ".join(f"{name} ASR {percent(asr)}, ACC {percent(acc)}" for _, name, acc, asr in points)
        return inline(figure, "plane", f"ACC over ASR: {said}")


def known(rate: Rate | None) -> TypeGuard[Rate]:
    """Whether there is a number to show."""
    return rate is not None and not math.isnan(rate.value)


def percent(rate: Rate | None) -> str:
    """`93.1 %`, or an en dash for None and NaN."""
    return f"{100 * rate.value:.1f} %" if known(rate) else DASH


def _bar(axes: Axes, y: float, rate: Rate, colour: str, *, hollow: bool) -> None:
    low, high = (100 * end for end in rate.interval)
    value = 100 * rate.value
    axes.barh(y, value, 0.3, color=PAPER if hollow else colour, edgecolor=colour, linewidth=1.3)
    axes.plot([low, high], [y, y], color=INK, linewidth=1.3)
    for end in (low, high):
        axes.plot([end, end], [y - 0.08, y + 0.08], color=INK, linewidth=1.3)


def _cross(axes: Axes, acc: Rate, asr: Rate, *, hollow: bool) -> None:
    x, y = 100 * asr.value, 100 * acc.value
    colour = COLOURS["acc"]
    axes.plot([100 * end for end in asr.interval], [y, y], color=colour, linewidth=1.3, alpha=0.6)
    axes.plot([x, x], [100 * end for end in acc.interval], color=colour, linewidth=1.3, alpha=0.6)
    axes.plot(x, y, "o", markersize=7.5, markeredgecolor=colour, color=PAPER if hollow else colour)
