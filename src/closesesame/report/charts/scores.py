"""Suspicion scores as a histogram, with the threshold."""

import numpy as np
import torch
from jaxtyping import Float64
from markupsafe import Markup
from torch import Tensor

from closesesame.core.types import Mask

from .canvas import COLOURS, INK, WIDTH, axes_at, drawing, inline

BINS = 48
TAIL = 0.2
"""If nine tenths of the scores lie within this share of the axis, it is logarithmic on both sides of 0."""
FLAGGED, OTHER = COLOURS["asr"], COLOURS["acc"]


def histogram(
    key: str,
    scores: Float64[Tensor, " n"],
    flagged: Mask,
    threshold: float | None,
    clean: Float64[Tensor, " c"] | None = None,
) -> Markup:
    """Draws how many clips have which score; the axis of counts is logarithmic, so that one clip can be seen.

    Args:
        key: a name of letters, digits and hyphens that no other figure of the page has.
        scores: of all clips, finite.
        flagged: which of them are.
        threshold: a dashed line, if there is one.
        clean: scores of clean clips, which are drawn as a line.
    """
    height, known = 230, scores if clean is None else torch.cat([scores, clean])
    low, high = float(known.min()), float(known.max())
    high = high if high > low else low + 1.0
    with drawing(height) as figure:
        axes = axes_at(figure, (40, 40, WIDTH - 52, height - 50))
        axes.set_yscale("log")
        if _has_tail(known, high - low):
            axes.set_xscale("symlog", linthresh=_least(known))
        scale = axes.xaxis.get_transform()
        first, last = scale.transform([low, high])
        edges = np.linspace(first, last, BINS + 1)

        def counts(values: Float64[Tensor, " k"]) -> np.ndarray:
            return np.histogram(scale.transform(values.numpy()), edges)[0]

        others, suspicious = counts(scores[~flagged]), counts(scores[flagged])
        at = scale.inverted().transform(edges)
        axes.bar(at[:-1], others, np.diff(at), align="edge", color=OTHER)
        axes.bar(at[:-1], suspicious, np.diff(at), bottom=others, align="edge", color=FLAGGED)
        if clean is not None:
            axes.stairs(counts(clean), at, color=INK, linewidth=1.2)
        if threshold is not None:
            axes.axvline(threshold, color=INK, linewidth=1.2, linestyle=(0, (4, 3)))
        axes.set(xlim=(low, high), ylim=(0.7, 1.6 * float((others + suspicious).max())))
        axes.set(xlabel="suspicion score", ylabel="clips")
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
        axes.minorticks_off()
        ticks = np.asarray(axes.get_xticks())
        inside = ticks[(ticks >= low) & (ticks <= high)]
        axes.set_xticks(inside[:: max(1, round(len(inside) / 5))])
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
        said = f"{len(scores):,} scores from {low:.3g} to {high:.3g}"
        if threshold is not None:
            said += f"; {int(flagged.sum()):,} above the threshold, {threshold:.3g}"
        return inline(figure, key, said)


def _has_tail(scores: Float64[Tensor, " n"], reach: float) -> bool:
    """Whether most scores lie so near to each other that a linear axis could not tell them apart."""
    ordered = scores.sort().values
    first, last = (ordered[round(share * (len(ordered) - 1))] for share in (0.05, 0.95))
    return float(last - first) < TAIL * reach


def _least(scores: Float64[Tensor, " n"]) -> float:
    """A score near to 0, from which on the scale is logarithmic."""
    sizes = scores.abs()[scores != 0].sort().values
    return float(sizes[len(sizes) // 1000]) if len(sizes) else 1.0
