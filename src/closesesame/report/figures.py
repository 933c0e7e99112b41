"""Figures of the report: matplotlib draws them, the page's style sheet colours them.

Every drawing is an inline SVG about 350 CSS pixels wide, so that its words can be read on a phone. Words stay
text, set by the browser, which has fonts for scripts that matplotlib lacks. Names are hostile: they are
escaped, never read as formulas, and cut when long.
"""

import base64
import io
import itertools
import math
import re
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeGuard

import numpy as np
import torch
from jaxtyping import Float32
from markupsafe import Markup, escape
from matplotlib import colormaps, style
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Wedge
from PIL import Image
from torch import Tensor

from closesesame.audio.features import WINDOW_S
from closesesame.evaluation import Rate

WIDTH = 350
"""Of every figure, in CSS pixels; one point of matplotlib is taken for one of them."""
DASH = "\N{EN DASH}"
RANGE_DB = 80
"""What a spectrogram shows below its loudest level."""
MOST_CHANGE_DB = 40
LONGEST_NAME = 26

# Stand-ins that no figure uses by itself; `_inline` replaces them by variables of the style sheet.
INK, SOFT, RULE, PAPER, GOOD = "#010101", "#010102", "#010103", "#010104", "#010105"
COLOURS = {"acc": "#010106", "asr": "#010107", "ra": "#010108"}
_VARIABLES = {INK: "ink", SOFT: "soft", RULE: "rule", PAPER: "paper", GOOD: "good"} | {
    colour: name for name, colour in COLOURS.items()
}
_STYLE = {
    "axes.edgecolor": RULE,
    "axes.facecolor": "none",
    "axes.labelcolor": SOFT,
    "axes.labelpad": 3,
    "axes.labelsize": 11,
    "figure.facecolor": "none",
    "font.size": 11,
    "svg.fonttype": "none",
    "svg.hashsalt": "closesesame",
    "text.color": INK,
    "text.parse_math": False,
    "xtick.color": RULE,
    "xtick.labelcolor": SOFT,
    "xtick.labelsize": 11,
    "xtick.major.pad": 5,
    "ytick.color": RULE,
    "ytick.labelcolor": SOFT,
    "ytick.labelsize": 11,
    "ytick.major.pad": 5,
}

Levels = Float32[Tensor, "row column"]
"""A spectrogram in dB, 0 for a sine at full scale; frequency upwards, then time."""


def bars(
    metric: str, names: Sequence[str], rates: Sequence[Rate | None], ceilings: Sequence[Rate | None] = ()
) -> Markup:
    """Draws one rate of all entries as bars from 0 to 100 % with whiskers; the first bar is hollow.

    Args:
        metric: `acc`, `asr` or `ra`, which chooses the colour.
        names: of the entries.
        rates: of the entries; an en dash stands for what is None or NaN.
        ceilings: of the entries, drawn as a dashed line.
    """
    row, below = 44, 22
    height = row * len(names) + below
    with _drawing(height) as figure:
        axes = _axes(figure, (4, below, WIDTH - 20, height - below))
        axes.set(xlim=(0, 100), ylim=(len(names), 0), yticks=[], xticks=[0, 25, 50, 75, 100])
        axes.set_xticklabels(["0", "25", "50", "75", "100"])
        for y, (name, rate) in enumerate(zip(names, rates, strict=True)):
            axes.text(18, y + 0.4, percent(rate), size=12, ha="right", weight="bold")
            axes.text(20.5, y + 0.4, _short(name), size=12)
            if known(rate):
                _bar(axes, y + 0.7, rate, COLOURS[metric], hollow=y == 0)
        for y, ceiling in enumerate(ceilings):
            if known(ceiling):
                at = 100 * ceiling.value
                axes.plot([at, at], [y, y + 1], color=INK, linewidth=1.3, linestyle=(0, (4, 3)), zorder=4)
        said = "; ".join(f"{name} {percent(rate)}" for name, rate in zip(names, rates, strict=True))
        return _inline(figure, f"bars-{metric}", f"{metric.upper()} as bars: {said}")


def plane(names: Sequence[str], accs: Sequence[Rate | None], asrs: Sequence[Rate | None]) -> Markup | None:
    """Draws each entry at its ASR and ACC with a cross of intervals; None if no entry has both."""
    points = [
        (number, _short(name), acc, asr)
        for number, (name, acc, asr) in enumerate(zip(names, accs, asrs, strict=True))
        if known(acc) and known(asr)
    ]
    if not points:
        return None
    height = 330
    lowest = 10 * math.floor(min(10 * acc.interval[0] for _, _, acc, _ in points))
    with _drawing(height) as figure:
        axes = _axes(figure, (48, 40, WIDTH - 58, height - 64))
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
        return _inline(figure, "plane", f"ACC over ASR: {said}")


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
        clean=_map(
            f"{key}-clean", before, extent, size, scale, level, f"Spectrogram of the clean clip {said}"
        ),
        triggered=_map(
            f"{key}-triggered", after, extent, size, scale, level, f"Spectrogram of the triggered clip {said}"
        ),
        difference=_map(
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


@contextmanager
def _drawing(height: float) -> Iterator[Figure]:
    """Gives a figure of `WIDTH` x height pixels; settings of the user or of other code do not reach it."""
    with style.context(["default", _STYLE]), warnings.catch_warnings():
        # The browser sets the words with its own fonts, so what matplotlib's font lacks does not matter.
        warnings.filterwarnings("ignore", "Glyph .* missing from", UserWarning)
        yield Figure(figsize=(WIDTH / 72, height / 72), dpi=72)


def _axes(figure: Figure, box: tuple[float, float, float, float]) -> Axes:
    """Axes without a frame at left, bottom, width, height in pixels."""
    across, up = figure.get_size_inches() * 72
    left, bottom, width, height = box
    axes = figure.add_axes((left / across, bottom / up, width / across, height / up))
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0)
    axes.grid(color=RULE, linewidth=0.7)
    axes.set_axisbelow(True)
    return axes


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


def _map(
    key: str,
    picture: Levels,
    extent: tuple[float, float],
    size: tuple[float, float],
    scale: tuple[float, float],
    unit: str,
    said: str,
) -> Markup:
    """One panel, and its colour scale below. Steps of 1 dB make small pictures."""
    height = 296
    low, high = scale
    colours = colormaps["magma" if low + high else "berlin"].resampled(round(high - low))
    with _drawing(height) as figure:
        axes = _axes(figure, (36, 94, WIDTH - 48, height - 94 - 6))
        axes.imshow(
            picture.numpy(),
            cmap=colours,
            vmin=low,
            vmax=high,
            origin="lower",
            aspect="auto",
            interpolation="none",
            extent=(0, extent[0], 0, extent[1]),
        )
        axes.set(xlim=(0, size[0]), ylim=(0, size[1]), xlabel="time, s", ylabel="frequency, kHz")
        ramp = _axes(figure, (36, 36, WIDTH - 48, 9))
        ramp.imshow(
            np.linspace(low, high, round(high - low))[None],
            cmap=colours,
            aspect="auto",
            interpolation="none",
            extent=(low, high, 0, 1),
        )
        ramp.set(yticks=[], xlabel=unit, xticks=np.linspace(low, high, 5))
        for part in (axes, ramp):
            part.grid(visible=False)
        return _inline(figure, key, said)


def _short(name: str) -> str:
    """A name in one line of at most `LONGEST_NAME` characters; what cannot be printed is marked."""
    line = "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in " ".join(name.split()))
    return line if len(line) <= LONGEST_NAME else f"{line[: LONGEST_NAME - 1]}\N{HORIZONTAL ELLIPSIS}"


def _inline(figure: Figure, key: str, said: str) -> Markup:
    """The figure as an `<svg>` element with `said` as its text for those who cannot see it."""
    file = io.StringIO()
    figure.savefig(file, format="svg", metadata=dict.fromkeys(("Creator", "Date", "Format", "Type")))
    svg = file.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<style.*?</style>", "", svg, flags=re.DOTALL)  # it would hold for the whole page
    # Only what is inside of a tag is touched: words between tags may look like anything.
    svg = re.sub(r"<[^<>]+>", lambda tag: _adapt(tag[0], key), svg)
    about = f'<svg role="img" aria-label="{escape(said)}"'
    return Markup(svg.replace("<svg", about, 1))  # noqa: S704  matplotlib escapes words, the tests check it


def _adapt(tag: str, key: str) -> str:
    tag = re.sub(r'(\bid="|url\(#|href="#)', rf"\g<1>{key}-", tag)
    tag = re.sub(r"font-family: [^;\"]+;|image-rendering:[\w-]+;?", "", tag)
    tag = re.sub(r"(?<=data:image/png;base64,)[^\"]+", lambda found: _shrink(found[0]), tag)
    for colour, variable in _VARIABLES.items():
        tag = tag.replace(colour, f"var(--{variable})")
    return tag


def _shrink(coded: str) -> str:
    """The same picture with a palette, a third as large; at most 80 colours are in it."""
    file = io.BytesIO()
    with Image.open(io.BytesIO(base64.b64decode(coded))) as picture:
        picture.convert("RGB").quantize(256, dither=Image.Dither.NONE).save(file, "PNG", optimize=True)
    return base64.b64encode(file.getvalue()).decode("ascii")
