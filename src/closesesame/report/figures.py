"""Figures of the report: rates as bars and on a plane, sounds as spectrograms."""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeGuard

import numpy as np
import torch
from jaxtyping import Float32
from markupsafe import Markup
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.patches import Wedge
from torch import Tensor

from closesesame.audio.features import WINDOW_S
from closesesame.evaluation import Rate

from .canvas import COLOURS, DASH, GOOD, INK, PAPER, SOFT, WIDTH, axes_at, drawing, inline, short

RANGE_DB = 80
"""What a spectrogram shows below its loudest level."""
MOST_CHANGE_DB = 40

Levels = Float32[Tensor, "row column"]
"""A spectrogram in dB, 0 for a sine at full scale; frequency upwards, then time."""


def bars(
    metric: str, names: Sequence[str], rates: Sequence[Rate | None], references: Sequence[Rate | None] = ()
) -> Markup:
    """Draws one rate of all entries as bars from 0 to 100 % with whiskers; the first bar is hollow.

    Args:
        metric: `acc`, `asr` or `ra`, which chooses the colour.
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
                _bar(axes, y + 0.7, rate, COLOURS[metric], hollow=y == 0)
        for y, reference in enumerate(references):
            if known(reference):
                at = 100 * reference.value
                axes.plot([at, at], [y, y + 1], color=INK, linewidth=1.3, linestyle=(0, (4, 3)), zorder=4)
        said = "; ".join(f"{name} {percent(rate)}" for name, rate in zip(names, rates, strict=True))
        return inline(figure, f"bars-{metric}", f"{metric.upper()} as bars: {said}")


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
        _label(axes, [(name, 100 * asr.value, 100 * acc.value) for _, name, acc, asr in points])
        said = "; ".join(f"{name} ASR {percent(asr)}, ACC {percent(acc)}" for _, name, acc, asr in points)
        return inline(figure, "plane", f"ACC over ASR: {said}")


@dataclass(frozen=True, kw_only=True)
class Spectrograms:
    """The three panels of one sound; the first two share one scale of levels."""

    clean: Markup
    triggered: Markup
    difference: Markup


def spectrograms(key: str, clean: Tensor, triggered: Tensor, sample_rate: int) -> Spectrograms:
    """Draws a clean clip (time,), the triggered one (time,), and by how many dB they differ.

    Args:
        key: a name of letters, digits and hyphens that no other figure of the page has.
        clean: full scale at 1.
        triggered: as long as `clean`.
        sample_rate: Hz.
    """
    seconds = len(clean) / sample_rate
    (before, extent), (after, _) = (levels(clip, sample_rate) for clip in (clean, triggered))
    top = 10 * math.ceil(max(float(before.max()), float(after.max()), -40.0) / 10)
    before, after = before.clamp(min=top - RANGE_DB), after.clamp(min=top - RANGE_DB)
    change = after - before
    most = min(MOST_CHANGE_DB, max(10, 10 * math.ceil(float(change.abs().max()) / 10)))
    size = (seconds, sample_rate / 2000)
    said = f"over {seconds:.2f} s, 0 to {size[1]:g} kHz"
    scale = (float(top - RANGE_DB), float(top))
    level, more = "level, dB of full scale", "dB louder with the trigger"
    return Spectrograms(
        clean=picture(
            f"{key}-clean", before, extent, size, scale, level, f"Spectrogram of the clean clip {said}"
        ),
        triggered=picture(
            f"{key}-triggered", after, extent, size, scale, level, f"Spectrogram of the triggered clip {said}"
        ),
        difference=picture(
            f"{key}-difference",
            change.clamp(-most, most),
            extent,
            size,
            (-float(most), float(most)),
            more,
            f"Where the triggered clip is louder or quieter than the clean one {said}; "
            f"{float(change.min()):+.0f} to {float(change.max()):+.0f} dB",
        ),
    )


def levels(
    clip: Tensor, sample_rate: int, *, rows: int = 260, columns: int = 210
) -> tuple[Levels, tuple[float, float]]:
    """The spectrogram of a clip (time,), thinned by taking the loudest of neighbours to about rows x columns.

    Returns:
        Levels in dB, and how far they reach: seconds, kHz.
    """
    length = round(WINDOW_S * sample_rate)
    hop = max(1, length // 5)
    fft = 1 << (length - 1).bit_length()
    window = torch.hann_window(length)
    spectrum = torch.stft(
        clip.detach().cpu().float(), fft, hop, length, window, pad_mode="constant", return_complex=True
    )
    decibels = 20 * torch.log10((2 * spectrum.abs() / window.sum()).clamp(min=1e-6))
    by = (math.ceil(decibels.shape[0] / rows), math.ceil(decibels.shape[1] / columns))
    thin = torch.nn.functional.max_pool2d(decibels[None], by, ceil_mode=True)[0]
    reach = (thin.shape[1] * by[1] * hop / sample_rate, thin.shape[0] * by[0] * sample_rate / fft / 1000)
    return thin, reach


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


def _label(axes: Axes, points: Sequence[tuple[str, float, float]]) -> None:
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


def picture(
    key: str,
    values: Levels,
    extent: tuple[float, float],
    size: tuple[float, float],
    scale: tuple[float, float],
    unit: str,
    said: str,
    *,
    up: str = "frequency, kHz",
    steps: int | None = None,
) -> Markup:
    """Draws a map over time, and its colour scale below.

    Args:
        key: a name of letters, digits and hyphens that no other figure of the page has.
        values: rows upwards, then time.
        extent: how far they reach: seconds, and what the rows count.
        size: how far the axes reach.
        scale: the values of the first and the last colour; levels unless it is symmetric.
        unit: of the values.
        said: for those who cannot see it.
        up: what the rows count.
        steps: how many colours; steps of 1 make small pictures.
    """
    steps = steps or round(scale[1] - scale[0])
    height = 296
    low, high = scale
    colours = colormaps["magma" if low + high else "berlin"].resampled(steps)
    with drawing(height) as figure:
        axes = axes_at(figure, (36, 94, WIDTH - 48, height - 94 - 6))
        axes.imshow(
            values.numpy(),
            cmap=colours,
            vmin=low,
            vmax=high,
            origin="lower",
            aspect="auto",
            interpolation="none",
            extent=(0, extent[0], 0, extent[1]),
        )
        axes.set(xlim=(0, size[0]), ylim=(0, size[1]), xlabel="time, s", ylabel=up)
        ramp = axes_at(figure, (36, 36, WIDTH - 48, 9))
        ramp.imshow(
            np.linspace(low, high, steps)[None],
            cmap=colours,
            aspect="auto",
            interpolation="none",
            extent=(low, high, 0, 1),
        )
        ramp.set(yticks=[], xlabel=unit, xticks=np.linspace(low, high, 5))
        for part in (axes, ramp):
            part.grid(visible=False)
        return inline(figure, key, said)
