"""Models before and after removal as one HTML file: no network, no script, all names escaped."""

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
from closesesame.core.evidence import Evidence
from closesesame.evaluation import Rate, Scores
from closesesame.evaluation.measures import ACC, ASR, DER, OF_MODELS, RA, RA_REFERENCE, SECONDS, Measure
from closesesame.report.charts import canvas, rates
from closesesame.report.charts.distributions import draw
from closesesame.report.charts.spectrograms import spectrograms
from closesesame.report.shared import environment, writable
from closesesame.report.verdict import NO_TRIGGER, ONE_TRIGGER, Verdict

COLUMNS = (*OF_MODELS, SECONDS)
"""Measures that the table shows, where any model has them."""
BARS = (ACC, ASR, RA)
SHORT_HASH = 12
HOW_TO_TEST = """\
sesame poison CLIPS POISONED
sesame train POISONED VICTIM
sesame train CLIPS REFERENCE
sesame remove VICTIM REPAIRED --clean CLIPS --clean-part validation
sesame report CLIPS PAGE --before VICTIM --after REPAIRED \\
    --trigger POISONED/_trigger --reference REFERENCE"""
"""Commands for users without a trigger: plant a backdoor, remove it, compare."""


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One row: the suspect, or a repaired model.

    Attributes:
        name: of the model.
        about: a citation or a few words.
        scores: what was measured.
        der: defence effectiveness rating, 0 to 1.
        verdict: what the scores mean.
        source: its path, as the user typed it.
        sha256: of its weights.
        architecture: its name.
        seconds: how long the removal took.
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

    def measured(self, measure: Measure) -> Rate | float | None:
        """One figure; None if it was not measured."""
        figures = {**vars(self.scores), DER.key: self.der, SECONDS.key: self.seconds}
        return figures.get(measure.key)


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
        predicted: by name of the model, the labels it gives to the clean and to the triggered clip.

    Raises:
        DataError: if the clips are empty or not equally long.
    """

    name: str
    label: str
    clean: Float32[Tensor, " clean"]
    triggered: Float32[Tensor, " triggered"]
    sample_rate: int
    predicted: Mapping[str, tuple[str, str]]

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
        entries: the model before removal first.
        classes: clean accuracy class by class.
        target_label: of the trigger; empty without one.
        made: when.
        command: that made the page, as it was typed.
        version: of this program.
        seed: of everything drawn.
        data: name of the data set.
        tested: what was measured, in sentences.
        untested: what was not, though a reader might think so.
        facts: how it was measured, by name.
        sounds: clips to see and to listen to; each adds about 250 kB for a second at 16 kHz.
        warnings: what the reader must know before the figures.
        evidence: what methods show of how they work.
        standards: entries of the catalogues of security teams that this is about, with their numbers.
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
    evidence: tuple[Evidence, ...] = ()
    standards: tuple[str, ...] = ()

    @property
    def origin(self) -> dict[str, str]:
        """When and with what the page was made, as far as that is known."""
        seed = "" if self.seed is None else str(self.seed)
        found = {"Data set": self.data, "Date": self.made, "closesesame": self.version, "Seed": seed}
        return {name: value for name, value in found.items() if value}


def report_html(report: Report) -> str:
    """Returns the page; the same report gives the same page."""
    names = [entry.name for entry in report.entries]
    found = {measure: [entry.measured(measure) for entry in report.entries] for measure in COLUMNS}
    columns = [measure for measure in COLUMNS if any(map(_known, found[measure]))]
    rates_of = {m: [value if isinstance(value, Rate) else None for value in found[m]] for m in COLUMNS}
    references = {RA: rates_of[RA_REFERENCE]}
    html = (
        _environment()
        .get_template("page.html.j2")
        .render(
            report=report,
            columns=columns,
            clips={measure.key: _clips(rates_of[measure]) for measure in columns},
            bars={
                measure: rates.bars(measure, names, rates_of[measure], references.get(measure, ()))
                for measure in BARS
                if measure in columns
            },
            plane=rates.plane(names, rates_of[ACC], rates_of[ASR]),
            has_trigger=any(rate is not None for rate in rates_of[ASR]),
            has_reference=RA_REFERENCE in columns,
            one_trigger=ONE_TRIGGER,
            no_trigger=NO_TRIGGER,
            how_to_test=HOW_TO_TEST,
            panels=[
                spectrograms(f"sound-{number}", sound.clean, sound.triggered, sound.sample_rate)
                for number, sound in enumerate(report.sounds)
            ],
            drawn=[
                [draw(f"evidence-{number}-{place}", shape) for place, shape in enumerate(one.shapes)]
                for number, one in enumerate(report.evidence)
            ],
        )
    )
    return writable(html)


def write_report(report: Report, path: Path) -> Path:
    """Writes the page, whole or not at all; an old file there is replaced. Returns the path."""
    return write_whole(report_html(report), path)


def _environment() -> jinja2.Environment:
    made = environment()
    made.filters |= {
        "percent": rates.percent,
        "interval": _interval,
        "figure": _figure,
        "tidy": _tidy,
        "short_hash": lambda sha256: sha256[:SHORT_HASH],
    }
    return made


def _known(value: Rate | float | None) -> bool:
    return rates.known(value) if isinstance(value, Rate) else value is not None and math.isfinite(value)


def _figure(value: Rate | float | None, measure: Measure) -> str:
    """A figure as the table has it; an en dash for what is not known."""
    if value is None or not _known(value):
        return canvas.DASH
    return rates.percent(value) if isinstance(value, Rate) else f"{value:,.{measure.digits}f}"


def _interval(value: Rate | float | None) -> str:
    """Of a rate; empty for other figures."""
    if not isinstance(value, Rate) or not rates.known(value):
        return ""
    low, high = value.interval
    return f"{100 * low:.1f} {canvas.DASH} {100 * high:.1f}"


def _tidy(text: str) -> str:
    """Keeps a number and its percent sign on one line."""
    return text.replace(" %", "\N{NO-BREAK SPACE}%")


def _clips(measured: list[Rate | None]) -> str:
    """On how many clips a rate was measured, over all entries."""
    counts = sorted({rate.of for rate in measured if rate is not None})
    if not counts:
        return ""
    few, many = counts[0], counts[-1]
    return f"{many:,}" if few == many else f"{few:,} to {many:,}"
