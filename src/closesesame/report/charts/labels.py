"""Names beside points, where they cover least of the drawing."""

import itertools
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from matplotlib.axes import Axes

from .canvas import SOFT

LETTER, LINE = 6.4, 13.0
"""About how wide a letter and how high a line is, in pixels."""
GAP, STEP = 11.0, 9.0
"""How far a name stands from its point, and by how much it moves away to make room, in pixels."""
OUTSIDE = 50.0
"""A pixel outside of the axes counts as much as so many covered square pixels."""


class Box(NamedTuple):
    """A rectangle in pixels."""

    left: float
    bottom: float
    right: float
    top: float

    def overlap(self, other: "Box") -> float:
        """The area that both share."""
        across = min(self.right, other.right) - max(self.left, other.left)
        up = min(self.top, other.top) - max(self.bottom, other.bottom)
        return max(0.0, across) * max(0.0, up)

    def outside(self, frame: "Box") -> float:
        """By how many pixels it leaves a frame."""
        return max(
            0.0,
            frame.left - self.left,
            frame.bottom - self.bottom,
            self.right - frame.right,
            self.top - frame.top,
        )


class Spot(NamedTuple):
    """A place for a name: its box, the side of the point it is on (1 right, -1 left), how far it is away."""

    box: Box
    side: int
    away: float


def label(axes: Axes, points: Sequence[tuple[str, float, float]]) -> None:
    """Writes names near their points (name, x, y), one after the other.

    Each stands where it covers least of points, lines and earlier names. One that stands away from its point
    gets a line to it.
    """
    to_pixels, to_data = axes.transData.transform, axes.transData.inverted().transform
    places = [tuple(map(float, to_pixels((x, y)))) for _, x, y in points]
    taken = [Box(x - 6, y - 6, x + 6, y + 6) for x, y in places]
    for line in axes.lines:
        (left, bottom), (right, top) = to_pixels(line.get_xydata())[[0, -1]]
        taken.append(Box(left - 1, bottom - 1, right + 1, top + 1))
    frame = Box(*axes.bbox.extents)
    for (name, *_), (x, y) in zip(points, places, strict=True):
        spots = _spots(x, y, LETTER * len(name))
        best = min(spots, key=lambda spot: (_cost(spot.box, taken, frame), spot.away))
        taken.append(best.box)
        start = best.box.left if best.side > 0 else best.box.right
        middle = (best.box.bottom + best.box.top) / 2
        if best.away >= 1:
            ends = to_data([(x, y), (start - 2 * best.side, middle)])
            axes.plot(ends[:, 0], ends[:, 1], color=SOFT, linewidth=0.8, zorder=1.9)
        at = to_data((start, middle))
        axes.text(at[0], at[1], name, ha="left" if best.side > 0 else "right", va="center")


def _spots(x: float, y: float, width: float) -> Iterator[Spot]:
    """Where the name of a point may stand: on either side, up to three lines up or down, near or far."""
    for side, up, far in itertools.product((1, -1), (0, 1, -1, 2, -2, 3, -3), range(4)):
        left = x + side * (GAP + STEP * far) - (width if side < 0 else 0)
        bottom = y + up * LINE - LINE / 2
        away = abs(up) + 0.6 * far + 0.5 * (side < 0)
        yield Spot(Box(left, bottom, left + width, bottom + LINE), side, away)


def _cost(box: Box, taken: Sequence[Box], frame: Box) -> float:
    return sum(box.overlap(other) for other in taken) + OUTSIDE * box.outside(frame)
