"""Sounds as spectrograms, and any other map over time."""

import base64
import io
import math
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float32
from markupsafe import Markup
from matplotlib import colormaps
from PIL import Image
from torch import Tensor

from closesesame.audio.features import WINDOW_S

from .canvas import WIDTH, axes_at, drawing, inline

RANGE_DB = 80
"""What a spectrogram shows below its loudest level."""
MOST_CHANGE_DB = 40
SMALL_COLOURS = 64

Levels = Float32[Tensor, "row column"]
"""A spectrogram in dB, 0 for a sine at full scale; frequency upwards, then time."""


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


def small_picture(values: Levels, top: float) -> Markup:
    """A spectrogram without axes, a pixel a value, as a URI that holds the whole PNG file.

    Args:
        values: levels in dB; frequency upwards, then time.
        top: the level of the brightest colour; the darkest is `RANGE_DB` below it.
    """
    share = ((values - top) / RANGE_DB + 1).clamp(0, 1).flip(0)
    drawn = Image.fromarray((share * (SMALL_COLOURS - 1)).round().byte().numpy(), "L").convert("P")
    colours = colormaps["magma"](np.linspace(0, 1, SMALL_COLOURS), bytes=True)[:, :3]
    drawn.putpalette(colours.tobytes())
    file = io.BytesIO()
    drawn.save(file, "PNG", optimize=True)
    coded = base64.b64encode(file.getvalue()).decode("ascii")
    return Markup(f"data:image/png;base64,{coded}")  # noqa: S704  base64 has no character to escape


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
