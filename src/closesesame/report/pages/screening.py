"""A screened data set as one HTML file: clips to hear and to keep or drop; no network, all names escaped.

The page's script only shows, hides and marks what is there, and writes the marks to a file. Without it the
page can still be read and listened to.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from jaxtyping import Float32, Float64
from markupsafe import Markup
from torch import Tensor

from closesesame._version import __version__
from closesesame.core.progress import Track
from closesesame.core.types import Mask
from closesesame.detection.decisions import Decision, Decisions
from closesesame.detection.flagging import Flagging
from closesesame.report.charts import canvas
from closesesame.report.charts.scores import histogram
from closesesame.report.charts.spectrograms import (
    MOST_CHANGE_DB,
    Levels,
    levels,
    picture,
    small_picture,
)
from closesesame.report.shared import embedded, environment, hash_of, source_of, writable

ROWS, COLUMNS = 90, 150
"""About how many pixels the small spectrograms have."""
LIST = "decisions.json"
"""The file that the page writes."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Heard:
    """A clip to listen to.

    Attributes:
        id: its own.
        label: the name of its given class.
        score: its suspicion score.
        flagged: whether it is.
        sound: (time,), full scale at 1.
        loudness_dbfs: its root mean square, dB of full scale.
        speaker: who speaks, if that is known.
        length_s: of the recording, if that is known: the clip may be cut or padded.
    """

    id: str
    label: str
    score: float
    flagged: bool
    sound: Float32[Tensor, " time"]
    loudness_dbfs: float
    speaker: str | None = None
    length_s: float | None = None


@dataclass(frozen=True, kw_only=True, eq=False)
class Pair:
    """A suspicious clip, and an ordinary one of its class if there is one."""

    suspicious: Heard
    ordinary: Heard | None = None
    decision: Decision | None = None


@dataclass(frozen=True, kw_only=True)
class Share:
    """How many clips of one kind, a class or a speaker, are suspicious."""

    name: str
    suspicious: int
    clips: int


@dataclass(frozen=True, kw_only=True)
class Property:
    """A number that clips have: tenth percentile, median and ninetieth percentile of two groups."""

    name: str
    digits: int
    suspicious: tuple[float, float, float]
    others: tuple[float, float, float]


@dataclass(frozen=True, kw_only=True, eq=False)
class Difference:
    """How the mean spectrum of suspicious clips differs from that of ordinary ones of the same class.

    Attributes:
        label: the name of the class.
        suspicious: how many clips the first mean is of.
        ordinary: how many clips the second mean is of.
        louder: in dB; frequency upwards, then time.
        reach: how far the values reach: seconds, kHz.
    """

    label: str
    suspicious: int
    ordinary: int
    louder: Levels
    reach: tuple[float, float]


@dataclass(frozen=True, kw_only=True, eq=False)
class Screening:
    """What the page says.

    Attributes:
        title: of the page.
        sample_rate: of all sounds, Hz.
        scores: of all clips.
        flagging: the threshold and what it rests on.
        clean: scores of clean clips that the threshold rests on.
        pairs: the most suspicious clips first.
        group: which clips `alike` and what follows it describe, such as "flagged".
        alike: what they have in common, in sentences.
        classes: those with the most suspicious clips first.
        speakers: the same; empty if they are not known.
        properties: lengths and levels.
        differences: one a class.
        decisions: made before.
        facts: how it was made, by name.
        command: that made the page, as it was typed.
    """

    title: str
    sample_rate: int
    scores: Float64[Tensor, " n"]
    flagging: Flagging
    clean: Float64[Tensor, " c"] | None = None
    pairs: tuple[Pair, ...] = ()
    group: str = "flagged"
    alike: tuple[str, ...] = ()
    classes: tuple[Share, ...] = ()
    speakers: tuple[Share, ...] = ()
    properties: tuple[Property, ...] = ()
    differences: tuple[Difference, ...] = ()
    decisions: Decisions = field(default_factory=Decisions)
    facts: Mapping[str, Any] = field(default_factory=dict)
    command: str = ""

    @property
    def flagged(self) -> Mask:
        """Which clips are."""
        return self.flagging.flagged(self.scores)


@dataclass(frozen=True)
class _Seen:
    """The spectrograms of a pair, on one scale."""

    suspicious: Markup
    ordinary: Markup | None


def screening_html(page: Screening) -> str:
    """Returns the page; the same screening gives the same page."""
    made = environment()
    made.filters |= {"number": _number, "share": _share}
    script = source_of("screening.js")
    labels = list(dict.fromkeys(pair.suspicious.label for pair in page.pairs))
    policy = (
        f"default-src 'none'; script-src '{hash_of(script)}'; style-src 'unsafe-inline'; img-src data:; "
        "media-src data:; base-uri 'none'; form-action 'none'; require-trusted-types-for 'script'; "
        "trusted-types 'none'"
    )
    html = made.get_template("screening.html.j2").render(
        page=page,
        version=__version__,
        policy=policy,
        flagged=int(page.flagged.sum()),
        histogram=histogram("scores", page.scores, page.flagged, page.flagging.threshold, page.clean),
        seen=[_seen(pair, page.sample_rate) for pair in Track(page.pairs, "drawing", len(page.pairs))],
        pictures=[_difference(number, one) for number, one in enumerate(page.differences)],
        labels=labels,
        list=LIST,
        script=Markup(script),  # noqa: S704  ours, not filled in
        content=embedded(_content(page, labels)),
    )
    return writable(html)


def _content(page: Screening, labels: list[str]) -> dict[str, Any]:
    """What the script reads: cards are numbers, and of decisions on clips without a card the names."""
    shown = {pair.suspicious.id for pair in page.pairs}
    return {
        "file": LIST,
        "cards": [
            {
                "id": pair.suspicious.id,
                "label": labels.index(pair.suspicious.label),
                "flagged": pair.suspicious.flagged,
                "decision": pair.decision,
            }
            for pair in page.pairs
        ],
        "others": {
            name: [one for one in getattr(page.decisions, name) if one not in shown]
            for name in Decisions.model_fields
        },
    }


def _seen(pair: Pair, sample_rate: int) -> _Seen:
    both = [pair.suspicious.sound] + ([pair.ordinary.sound] if pair.ordinary else [])
    drawn = [levels(sound, sample_rate, rows=ROWS, columns=COLUMNS)[0] for sound in both]
    top = max(float(values.max()) for values in drawn)
    pictures = [small_picture(values, top) for values in drawn]
    return _Seen(pictures[0], pictures[1] if pair.ordinary else None)


def _difference(number: int, one: Difference) -> Markup:
    most = min(MOST_CHANGE_DB, max(10, 10 * math.ceil(float(one.louder.abs().max()) / 10)))
    return picture(
        f"difference-{number}",
        one.louder.clamp(-most, most),
        one.reach,
        one.reach,
        (-float(most), float(most)),
        "dB louder in suspicious clips",
        f"By how much the mean spectrum of {one.suspicious} suspicious clips is louder or quieter than that "
        f"of {one.ordinary} ordinary ones; {float(one.louder.min()):+.0f} to "
        f"{float(one.louder.max()):+.0f} dB",
    )


def _number(value: float | None, digits: int = 2) -> str:
    """A number, or an en dash for what is not known."""
    return canvas.DASH if value is None or not math.isfinite(value) else f"{value:,.{digits}f}"


def _share(one: Share) -> str:
    return f"{100 * one.suspicious / one.clips:.1f}\N{NO-BREAK SPACE}%"
