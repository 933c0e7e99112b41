"""The report as one HTML file: no network, no script; what names and labels say is shown, never obeyed."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import jinja2
from jaxtyping import Float32
from torch import Tensor

from closesesame._version import __version__
from closesesame.core.disk import write_whole
from closesesame.core.errors import DataError
from closesesame.evaluation import Rate, Scores
from closesesame.report.charts import canvas, rates
from closesesame.report.charts.spectrograms import spectrograms
from closesesame.report.evidence import Section
from closesesame.report.shared import environment, writable
from closesesame.report.verdict import NO_TRIGGER, ONE_TRIGGER, Verdict

METRICS = {
    "acc": ("ACC", "clean accuracy", "higher is better"),
    "asr": ("ASR", "attack success rate", "lower is better"),
    "ra": ("RA", "robust accuracy", "higher is better"),
    "ra_reference": ("RA of reference", "", ""),
}
SHORT_HASH = 12
HOW_TO_TEST = """\
sesame poison CLIPS POISONED
sesame train POISONED VICTIM
sesame train CLIPS REFERENCE
sesame remove VICTIM REPAIRED --clean CLIPS --part validation
sesame report CLIPS PAGE --before VICTIM --after REPAIRED \\
    --trigger POISONED/_trigger --reference REFERENCE"""
"""Commands for whoever has no trigger: a backdoor of one's own, and what a repair does to it."""


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One row: the suspect, or a repair of it.

    Attributes:
        name: of the model or the repair.
        about: a citation or a few words.
        scores: what was measured.
        der: defence effectiveness rating, 0 to 1.
        verdict: what the scores mean.
        source: where the model lies, as the user typed it.
        sha256: of its weights.
        architecture: its name.
        seconds: how long the repair took.
        made: what else is known of how it was made, in words, such as the method.
    """

    name: str
    about: str = ""
    scores: Scores
    der: float | None = None
    verdict: Verdict | None = None
    source: str = ""
    sha256: str = ""
    architecture: str = ""
    seconds: float | None = None
    made: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class ClassRow:
    """The clean accuracy of all entries, in their order, on the test clips of one class."""

    name: str
    accs: tuple[Rate, ...]


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
        entries: the model before repair first.
        classes: clean accuracy class by class.
        target_label: what the trigger makes of a clip; empty without a trigger.
        made: when.
        command: that made the page, as it was typed.
        version: of this program.
        seed: of everything drawn.
        data: name of the data set.
        tested: what was measured, in sentences.
        untested: what was not, though a reader might think so.
        facts: how it was measured, by name.
        sounds: to see and to listen to; each adds about 250 kB for a second at 16 kHz.
        warnings: what the reader must know before the rates.
        sections: what a method rests on, each a heading with rates.
    """

    title: str
    entries: tuple[Entry, ...]
    classes: tuple[ClassRow, ...] = ()
    target_label: str = ""
    made: str = ""
    command: str = ""
    version: str = __version__
    seed: int | None = None
    data: str = ""
    tested: tuple[str, ...] = ()
    untested: tuple[str, ...] = ()
    facts: Mapping[str, str] = field(default_factory=dict)
    sounds: tuple[Sound, ...] = ()
    warnings: tuple[str, ...] = ()
    sections: tuple[Section, ...] = ()

    @property
    def origin(self) -> dict[str, str]:
        """When and with what the page was made, as far as that is known."""
        seed = "" if self.seed is None else str(self.seed)
        found = {"Data set": self.data, "Date": self.made, "closesesame": self.version, "Seed": seed}
        return {name: value for name, value in found.items() if value}


def render(report: Report) -> str:
    """Returns the page as HTML; the same report gives the same page."""
    names = [entry.name for entry in report.entries]
    measured = {key: [getattr(entry.scores, key) for entry in report.entries] for key in METRICS}
    shown = [key for key, found in measured.items() if any(map(rates.known, found))]
    page = _environment().get_template("page.html.j2")
    html = page.render(
        report=report,
        metrics={key: METRICS[key] for key in shown},
        clips={key: _clips(found) for key, found in measured.items()},
        bars={
            key: rates.bars(key, names, measured[key], measured["ra_reference"] if key == "ra" else ())
            for key in ("acc", "asr", "ra")
            if key in shown
        },
        plane=rates.plane(names, measured["acc"], measured["asr"]),
        has_trigger=any(rate is not None for rate in measured["asr"]),
        has_reference="ra_reference" in shown,
        has_der=any(entry.der is not None and math.isfinite(entry.der) for entry in report.entries),
        has_seconds=any(entry.seconds is not None for entry in report.entries),
        one_trigger=ONE_TRIGGER,
        no_trigger=NO_TRIGGER,
        how_to_test=HOW_TO_TEST,
        panels=[
            spectrograms(f"sound-{number}", sound.clean, sound.triggered, sound.sample_rate)
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
        "percent": rates.percent,
        "interval": _interval,
        "number": _number,
        "tidy": _tidy,
        "short_hash": lambda sha256: sha256[:SHORT_HASH],
    }
    return made


def _interval(rate: Rate | None) -> str:
    if not rates.known(rate):
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
