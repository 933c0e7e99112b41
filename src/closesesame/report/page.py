"""The report as one HTML file: no network, no script; what names and labels say is shown, never obeyed."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import jinja2
from jaxtyping import Float32
from torch import Tensor

from closesesame._version import __version__
from closesesame.core.disk import write_whole
from closesesame.core.errors import DataError
from closesesame.evaluation import Rate, Scores

from . import canvas, figures
from .evidence import Section
from .shared import environment, writable

METRICS = {
    "acc": ("ACC", "clean accuracy", "higher is better"),
    "asr": ("ASR", "attack success rate", "lower is better"),
    "ra": ("RA", "robust accuracy", "higher is better"),
    "ra_reference": ("RA of reference", "", ""),
}


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One row: the suspect, or a repair of it.

    Attributes:
        name: of the model or the repair.
        about: a citation or a few words.
        scores: what was measured.
        der: defence effectiveness rating, 0 to 1.
        seconds: how long the repair took.
    """

    name: str
    about: str = ""
    scores: Scores
    der: float | None = None
    seconds: float | None = None


@dataclass(frozen=True, kw_only=True, eq=False)
class Sound:
    """One test clip, clean and triggered.

    Attributes:
        name: of the clip.
        label: its true label.
        clean: (time,), full scale at 1.
        triggered: (time,), as long.
        sample_rate: Hz.
        heard: by name of the model, what it predicts of the clean and of the triggered clip.

    Raises:
        DataError: if the clips are empty or not equally long.
    """

    name: str
    label: str
    clean: Float32[Tensor, " clean"]
    triggered: Float32[Tensor, " triggered"]
    sample_rate: int
    heard: Mapping[str, tuple[str, str]]

    def __post_init__(self) -> None:
        if not 0 < len(self.clean) == len(self.triggered):
            raise DataError(
                f"sound {self.name!r} has {len(self.clean)} clean and {len(self.triggered)} triggered "
                "samples; they must be equally many and not none"
            )


@dataclass(frozen=True, kw_only=True, eq=False)
class Report:
    """What the page says.

    Attributes:
        title: of the page.
        summary: one or two sentences.
        facts: how it was measured, by name.
        entries: the model before repair first.
        sounds: to see and to listen to; each adds about 250 kB for a second at 16 kHz.
        warnings: what the reader must know before the figures.
        sections: what a method rests on, each a heading with figures.
    """

    title: str
    summary: str
    facts: Mapping[str, str]
    entries: tuple[Entry, ...]
    sounds: tuple[Sound, ...] = ()
    warnings: tuple[str, ...] = ()
    sections: tuple[Section, ...] = ()


def render(report: Report) -> str:
    """Returns the page as HTML; the same report gives the same page."""
    names = [entry.name for entry in report.entries]
    rates = {key: [getattr(entry.scores, key) for entry in report.entries] for key in METRICS}
    page = _environment().get_template("page.html.j2")
    html = page.render(
        report=report,
        version=__version__,
        metrics=METRICS,
        clips={key: _clips(found) for key, found in rates.items()},
        bars={
            key: figures.bars(key, names, rates[key], rates["ra_reference"] if key == "ra" else ())
            for key in ("acc", "asr", "ra")
            if any(map(figures.known, rates[key]))
        },
        has_reference=any(map(figures.known, rates["ra_reference"])),
        plane=figures.plane(names, rates["acc"], rates["asr"]),
        panels=[
            figures.spectrograms(f"sound-{number}", sound.clean, sound.triggered, sound.sample_rate)
            for number, sound in enumerate(report.sounds)
        ],
    )
    return writable(html)


def write(report: Report, path: Path) -> Path:
    """Writes the page, whole or not at all; an old file there is replaced. Returns the path."""
    return write_whole(render(report), path)


def _environment() -> jinja2.Environment:
    made = environment()
    made.filters |= {
        "percent": figures.percent,
        "interval": _interval,
        "number": _number,
        "tidy": _tidy,
    }
    return made


def _interval(rate: Rate | None) -> str:
    if not figures.known(rate):
        return ""
    low, high = rate.interval
    return f"{100 * low:.1f} {canvas.DASH} {100 * high:.1f}"


def _number(value: float | None, digits: int) -> str:
    return canvas.DASH if value is None or not math.isfinite(value) else f"{value:,.{digits}f}"


def _tidy(text: str) -> str:
    """Keeps a number and its percent sign on one line."""
    return text.replace(" %", "\N{NO-BREAK SPACE}%")


def _clips(rates: list[Rate | None]) -> str:
    """On how many clips a rate was measured, over all entries."""
    counts = sorted({rate.of for rate in rates if rate is not None})
    if not counts:
        return ""
    few, many = counts[0], counts[-1]
    return f"{many:,}" if few == many else f"{few:,} to {many:,}"
