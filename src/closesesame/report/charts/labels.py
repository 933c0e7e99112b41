"""Names beside points, where they cover least of the drawing."""

import itertools
from collections.abc import Sequence

from matplotlib.axes import Axes

from .canvas import SOFT


def label(axes: Axes, points: Sequence[tuple[str, float, float]]) -> None:
    """Writes names near their points: each in turn where it covers least of points and of earlier names."""
    to_pixels, to_data = axes.transData.transform, axes.transData.inverted().transform
    spots = [tuple(to_pixels((x, y))) for _, x, y in points]
    taken = [(x - 6, y - 6, x + 6, y + 6) for x, y in spots]
    for arm in axes.lines:
        (left, base), (right, top) = to_pixels(arm.get_xydata())[[0, -1]]
        taken.append((left - 1, base - 1, right + 1, top + 1))
    frame = axes.bbox.extents
    for (name, *_), (x, y) in zip(points, spots, strict=True):
        wide, high = 6.4 * len(name), 13
        choices = []
        for right, up, far in itertools.product((1, -1), (0, 1, -1, 2, -2, 3, -3), (0, 1, 2, 3)):
            left = x + right * (11 + 9 * far) - (wide if right < 0 else 0)
            base = y + up * 13 - high / 2
            area = (left, base, left + wide, base + high)
            outside = max(
                0.0, frame[0] - left, left + wide - frame[2], base + high - frame[3], frame[1] - base
            )
            covered = sum(_overlap(area, other) for other in taken)
            choices.append((covered + 50 * outside, abs(up) + 0.6 * far + 0.5 * (right < 0), right, up, area))
        _, away, right, up, area = min(choices)
        taken.append(area)
        start, base = area[0] if right > 0 else area[2], (area[1] + area[3]) / 2
        if away >= 1:
            ends = to_data([(x, y), (start - 2 * right, base)])
            axes.plot(ends[:, 0], ends[:, 1], color=SOFT, linewidth=0.8, zorder=1.9)
        at = to_data((start, base))
        axes.text(at[0], at[1], name, ha="left" if right > 0 else "right", va="center")


Box = tuple[float, float, float, float]


def _overlap(one: Box, other: Box) -> float:
    """The area that two boxes (left, bottom, right, top) share."""
    across = min(one[2], other[2]) - max(one[0], other[0])
    up = min(one[3], other[3]) - max(one[1], other[1])
    return max(0.0, across) * max(0.0, up)
