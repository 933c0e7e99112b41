"""What a method shows of how it works: points by group, distributions, changes, series, maps."""

import torch
from markupsafe import Markup

from closesesame.core.evidence import Changes, Distributions, Map, Points, Series, Shape

from .canvas import COLOURS, INK, PAPER, SOFT, WIDTH, axes_at, drawing, inline, short
from .spectrograms import picture

SUSPICIOUS, OTHER = COLOURS["asr"], COLOURS["acc"]
MAP_COLOURS = 40
TENTH = 0.1
"""Of a series, over which its running mean is taken."""


def draw(key: str, shape: Shape) -> Markup:
    """Draws evidence.

    Args:
        key: a name of letters, digits and hyphens that no other figure of the page has.
        shape: what to draw.
    """
    if isinstance(shape, Points):
        return points(key, shape)
    if isinstance(shape, Changes):
        return changes(key, shape)
    if isinstance(shape, Series):
        return series(key, shape)
    return distributions(key, shape) if isinstance(shape, Distributions) else over_time(key, shape)


def points(key: str, shape: Points) -> Markup:
    """Draws each group as a strip of dots with a line at its median; suspicious ones have another colour."""
    strip, below = 32, 46
    height = strip * len(shape.groups) + below
    rng = torch.Generator().manual_seed(0)  # dots are spread upwards, so that equal ones do not cover
    said = []
    with drawing(height) as figure:
        axes = axes_at(figure, (8, 40, WIDTH - 20, height - below))
        unit = shape.unit if shape.threshold is None else f"{shape.unit}; dashed: threshold"
        axes.set(ylim=(len(shape.groups), 0), yticks=[], xlabel=unit)
        if shape.logarithmic:
            axes.set_xscale("log")
            axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
        for row, group in enumerate(shape.groups):
            values, suspicious = group.values.cpu(), group.suspicious.cpu()
            heights = row + 0.5 + 0.4 * torch.rand(len(values), generator=rng)
            for own, colour in ((~suspicious, OTHER), (suspicious, SUSPICIOUS)):
                axes.plot(values[own], heights[own], ".", color=colour, alpha=0.5, markersize=4)
            if len(values):
                middle = float(values.median())
                axes.plot([middle, middle], [row + 0.45, row + 0.95], color=INK, linewidth=1.6)
                said.append(f"{group.name} {middle:.2g}")
            name = f"{short(group.name)} ({len(values)})"
            axes.text(0, row + 0.36, name, size=11, transform=axes.get_yaxis_transform())
        if shape.threshold is not None:
            dashed = (0, (4, 3))
            axes.axvline(shape.threshold, color=INK, linewidth=1, linestyle=dashed)
        return inline(figure, key, f"{shape.caption}; medians: {', '.join(said)}")


def distributions(key: str, shape: Distributions) -> Markup:
    """Draws densities over one axis, each scaled to its own peak: a narrow one would hide the others."""
    height = 190
    with drawing(height) as figure:
        axes = axes_at(figure, (8, 40, WIDTH - 20, height - 52))
        axes.set(ylim=(0, 1.2), yticks=[], xlabel=shape.unit)
        for row, curve in enumerate(shape.curves):
            colour = SUSPICIOUS if curve.suspicious else OTHER
            axes.plot(curve.at.cpu(), curve.density.cpu() / curve.density.cpu().max(), color=colour)
            name = short(curve.name)
            axes.text(1, 0.9 - 0.11 * row, name, color=colour, ha="right", transform=axes.transAxes)
        return inline(figure, key, shape.caption)


def changes(key: str, shape: Changes) -> Markup:
    """Draws each change as an arrow from a hollow dot to a full one; a line across marks the reference."""
    strip, below = 40, 64
    height = strip * len(shape.rows) + below
    with drawing(height) as figure:
        axes = axes_at(figure, (12, below - 6, WIDTH - 28, height - below))
        axes.set(xlim=(0, 100), ylim=(len(shape.rows), 0), yticks=[], xticks=[0, 25, 50, 75, 100])
        for row, one in enumerate(shape.rows):
            y = row + 0.72
            axes.text(
                0, row + 0.4, short(one.name, longest=45), size=11, transform=axes.get_yaxis_transform()
            )
            axes.plot([one.before, one.after], [y, y], color=SOFT, linewidth=1.3)
            axes.plot([one.reference] * 2, [y - 0.22, y + 0.22], color=INK, linewidth=1.6, clip_on=False)
            for value, filling in ((one.before, PAPER), (one.after, SUSPICIOUS)):
                axes.plot(
                    value, y, "o", markersize=7, color=filling, markeredgecolor=SUSPICIOUS, clip_on=False
                )
        axes.set_xlabel(f"{shape.unit}\nhollow: {shape.before}; full: {shape.after}; line: {shape.reference}")
        said = "; ".join(
            f"{one.name} {one.before:.0f}, then {one.after:.0f}, {shape.reference} {one.reference:.0f}"
            for one in shape.rows
        )
        return inline(figure, key, f"{shape.caption}: {said}")


def series(key: str, shape: Series) -> Markup:
    """Draws each value as a dot, and a line through the running means."""
    height, values = 190, shape.values.cpu().double()
    wide = max(1, round(TENTH * len(values)))
    means = values.unfold(0, wide, 1).mean(1)
    with drawing(height) as figure:
        axes = axes_at(figure, (44, 40, WIDTH - 56, height - 52))
        axes.set(xlabel=shape.times, ylabel=shape.unit)
        axes.plot(range(1, len(values) + 1), values, ".", color=OTHER, alpha=0.5, markersize=4)
        middles = torch.arange(len(means)) + (wide + 1) / 2
        axes.plot(middles, means, color=INK, linewidth=1.6)
        said = f"{means[0]:.2g} at first, {means[-1]:.2g} at last, as means over a tenth"
        return inline(figure, key, f"{shape.caption}: {said}")


def over_time(key: str, shape: Map) -> Markup:
    """Draws a map with its colour scale; values outside the scale get its first or last colour."""
    reach = (shape.seconds, float(len(shape.values)))
    values = shape.values.cpu().float()
    return picture(
        key, values, reach, reach, shape.scale, shape.unit, shape.caption, up=shape.rows, steps=MAP_COLOURS
    )
