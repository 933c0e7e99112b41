"""A whole grid of results as one HTML file: no network; names are data there, never code."""

import base64
import json
import statistics
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any, Literal, Protocol, runtime_checkable

from markupsafe import Markup

from closesesame._version import __version__
from closesesame.core.disk import write_whole
from closesesame.evaluation import wilson
from closesesame.evaluation.measures import (
    ACC,
    ASR,
    MEASURES,
    OF_ADVERSARIES,
    OF_COST,
    OF_TRIGGERS,
    RA,
    RA_REFERENCE,
    Measure,
)
from closesesame.report.shared import (
    embedded,
    environment,
    hash_of,
    plain,
    said,
    source_of,
    without_folders,
    writable,
)
from closesesame.report.verdict import HIGH_ASR, LOW_ASR, Standing, tally

BESIDE = {RA: RA_REFERENCE}
"""A measure, and the one that it is compared with wherever it is shown."""
PLANE = (ASR, ACC)
"""Measures to the right and upwards, of families that have both."""
COUNTS = ("training_clips", "poisoned_clips", "poisoned_share_of_target", "test_clips", "triggered_clips")
PLACE = ("data", "model", "poisoning_rate", "clean_fraction", "attack", "family", "method")
"""What makes a field: its cells differ by their seed alone."""
SETTINGS = ("attack_settings", "settings", "chosen", "training_settings")
MOST = 1e300
"""Larger numbers, which a damaged file may hold, count as not known."""
NONE = "none"
"""The method of a model as it was trained."""

State = Literal["done", "failed", "pending"]


@runtime_checkable
class Family(Protocol):
    """A family of methods: each has a tab of the page."""

    @property
    def name(self) -> str:
        """As cells have it."""

    @property
    def title(self) -> str:
        """As the tab has it."""

    @property
    def measures(self) -> tuple[Measure, ...]:
        """What is measured of its methods; the first colours the map."""


@dataclass(frozen=True, kw_only=True)
class GridCell:
    """One result, or one that is missing.

    Attributes:
        id: its own, for links.
        data: name of the data set.
        task: of the data set.
        model: name of the architecture.
        attack: its name.
        poisoning_rate: 0 to 1.
        clean_fraction: share of the clean examples that the method had, 0 to 1.
        family: of the method.
        method: its name; `none` for the model as it was trained.
        seed: of everything drawn.
        state: whether there is a result.
        figures: finite numbers by the key of their measure.
        counts: how many clips there were, by `COUNTS` and by what measures are shares of.
        settings: of the method.
        chosen: what the method chose.
        attack_settings: of the attack.
        training_settings: of the training.
        error: why it failed.
        sounds: a clean and a triggered clip as WAV files, where the method is `none`.
    """

    id: str
    data: str | None = None
    task: str | None = None
    model: str | None = None
    attack: str | None = None
    poisoning_rate: float | None = None
    clean_fraction: float | None = None
    family: str | None = None
    method: str | None = None
    seed: float | None = None
    state: State = "pending"
    figures: Mapping[str, float] = field(default_factory=dict)
    counts: Mapping[str, float] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)
    chosen: Mapping[str, Any] = field(default_factory=dict)
    attack_settings: Mapping[str, Any] = field(default_factory=dict)
    training_settings: Mapping[str, Any] = field(default_factory=dict)
    error: str | None = None
    sounds: tuple[bytes, bytes] | None = None

    @classmethod
    def of(cls, row: Mapping[str, Any], sounds: tuple[bytes, bytes] | None = None) -> "GridCell":
        """Reads a result row, which may come from a damaged file: what does not fit counts as not known."""
        state = row.get("state")
        numbers = {key: value for key, value in row.items() if _is_number(value)}
        sizes = {*COUNTS, *(measure.of for measure in MEASURES.values())}
        names = ("data", "task", "model", "attack", "family", "method", "error")
        known: dict[str, Any] = {
            "id": str(row.get("id")),
            "state": state if state in {"done", "failed"} else "pending",
            "figures": {key: numbers[key] for key in MEASURES if key in numbers},
            "counts": {key: value for key, value in numbers.items() if key in sizes},
            "sounds": sounds,
        }
        known |= {key: numbers.get(key) for key in ("poisoning_rate", "clean_fraction", "seed")}
        known |= {name: None if row.get(name) is None else str(row[name]) for name in names}
        known |= {name: row[name] for name in SETTINGS if isinstance(row.get(name), Mapping)}
        return cls(**known)

    @property
    def before(self) -> tuple[str, ...]:
        """What this result has in common with that of the same model without a method."""
        same = (self.data, self.task, self.model, self.attack, self.attack_settings, self.poisoning_rate)
        return tuple(map(_key, (*same, self.seed)))


@dataclass(frozen=True, kw_only=True)
class Grid:
    """What the page says.

    Attributes:
        name: of the grid.
        about: what it is to show.
        host: what it was measured on.
        families: of the methods, in the order of their tabs.
        cells: attack x method x rate x clean fraction x model x data x seed, in any order.
        made: when the page was made.
        command: that made it, as it was typed.
    """

    name: str
    about: str
    host: Mapping[str, Any]
    families: Sequence[Family]
    cells: tuple[GridCell, ...]
    made: str = ""
    command: str = ""


def grid_html(grid: Grid) -> str:
    """Returns the page; the same grid gives the same page."""
    sounds = _Once()
    content = _content(grid, sounds)
    script, css = source_of("grid.js"), source_of("base.css") + source_of("grid.css")
    html = (
        environment()
        .get_template("grid.html.j2")
        .render(
            grid=grid,
            version=__version__,
            counts=Counter(cell.state for cell in grid.cells),
            verdict=_verdict(grid),
            measures=_measures(grid),
            of_triggers=OF_TRIGGERS,
            origin=_origin(grid),
            policy=f"default-src 'none'; script-src '{hash_of(script)}'; style-src '{hash_of(css)}'; "
            "img-src data:; media-src data:; base-uri 'none'; form-action 'none'; "
            "require-trusted-types-for 'script'; trusted-types 'none'",
            script=Markup(script),  # noqa: S704  ours, not filled in
            css=Markup(css),  # noqa: S704
            content=embedded(content),
            sounds=embedded(sounds.values),
        )
    )
    return writable(html)


def write_grid(grid: Grid, path: Path) -> Path:
    """Writes the page, whole or not at all; an old file there is replaced. Returns the path."""
    return write_whole(grid_html(grid), path)


def _verdict(grid: Grid) -> list[str]:
    """What the measured cells say together, each judged with the trigger of its own attack."""
    done = [cell for cell in grid.cells if cell.state == "done"]
    bare = {cell.before: cell for cell in done if cell.method == NONE and ASR.key in cell.figures}
    without_effect = {key for key, cell in bare.items() if cell.figures[ASR.key] < LOW_ASR}
    found = []
    if bare:
        works = len(bare) - len(without_effect)
        found.append(f"Without a method, {works:,} of {len(bare):,} models have {HIGH_ASR}.")
    for family in grid.families:
        cells = [cell for cell in done if cell.family == family.name and cell.method != NONE]
        if cells:
            found.append(f"{family.title}: {_of_family(family, cells, bare, without_effect)}")
    return found or ["Nothing was measured."]


def _of_family(
    family: Family,
    cells: Sequence[GridCell],
    bare: Mapping[tuple[str, ...], GridCell],
    without_effect: set[tuple[str, ...]],
) -> str:
    """What the cells of one family say; models on which the trigger never worked show nothing of a method."""
    if ASR not in family.measures:
        return _range(family, cells)
    measured = [cell for cell in cells if ASR.key in cell.figures]
    judged = [cell for cell in measured if cell.before not in without_effect]
    words = tally(_standing(cell, bare.get(cell.before)) for cell in judged)
    if spared := len(measured) - len(judged):
        words += f" Not counted: {spared:,} where the trigger did not work before."
    return words


def _range(family: Family, cells: Sequence[GridCell]) -> str:
    """Mean and range of the first measure that was measured, or how often it is yes if it is yes or no."""
    for measure in family.measures:
        values = [cell.figures[measure.key] for cell in cells if measure.key in cell.figures]
        if values and measure.unit == "share" and measure.of is None:
            return f"{measure.name} in {sum(values):,.0f} of {len(values):,} results."
        if values:
            low, mean, high = (measure.said(v) for v in (min(values), statistics.fmean(values), max(values)))
            return f"{measure.heading} of {len(values):,} results is {mean} on average, {low} to {high}."
    return "nothing was measured."


def _standing(cell: GridCell, before: GridCell | None) -> Standing:
    known, fall = cell.figures, None
    if before is not None and ACC.key in before.figures and ACC.key in known:
        fall = before.figures[ACC.key] - known[ACC.key]
    return Standing(
        asr=known[ASR.key], ra=known.get(RA.key), ra_reference=known.get(RA_REFERENCE.key), acc_fall=fall
    )


def _origin(grid: Grid) -> dict[str, str]:
    """When and with what the page was made and its cells measured, as far as that is known."""
    listed: dict[str, list[Any]] = {
        "data": [cell.data for cell in grid.cells],
        "models": [cell.model for cell in grid.cells],
        "seeds": [cell.seed for cell in grid.cells],
    }
    found = {"date": grid.made, "closesesame": __version__}
    found |= {
        name: said(list(dict.fromkeys(value for value in values if value is not None)))
        for name, values in listed.items()
    }
    found |= {name: said(value) for name, value in grid.host.items() if value is not None}
    return {name: value for name, value in found.items() if value}


class _Once:
    """Values kept once each, and known by their number."""

    def __init__(self, values: Iterable[Any] = ()) -> None:
        self.values: list[Any] = []
        self._known: dict[str | float, int] = {}
        for value in values:
            self.of(value)

    def of(self, value: Any) -> int:
        key = value if isinstance(value, str | int | float) else _key(value)
        if key not in self._known:
            self._known[key] = len(self.values)
            self.values.append(value)
        return self._known[key]


def _measures(grid: Grid) -> list[Measure]:
    """What the page shows: all that a family has or a cell knows."""
    wanted = {measure.key for family in grid.families for measure in family.measures}
    wanted |= {key for cell in grid.cells for key in cell.figures}
    return [measure for measure in MEASURES.values() if measure.key in wanted]


def _attacks_on(family: Family, shown: Sequence[Measure]) -> list[Measure]:
    """What attacks on models say, where any cell knows it and the family makes models."""
    return [measure for measure in OF_ADVERSARIES if measure in shown and ACC in family.measures]


def _content(grid: Grid, sounds: _Once) -> dict[str, Any]:
    """What the script reads: places are numbers into `places`, settings and sounds into their lists."""
    settings = _Once()
    attacks = _labels([(cell.attack, cell.attack_settings) for cell in grid.cells])
    methods = _labels([(cell.method, cell.settings) for cell in grid.cells])
    known = [
        {
            "data": cell.data,
            "model": cell.model,
            "poisoning_rate": cell.poisoning_rate,
            "clean_fraction": cell.clean_fraction,
            "attack": attack,
            "family": cell.family,
            "method": method,
            "seed": cell.seed,
        }
        for cell, attack, method in zip(grid.cells, attacks, methods, strict=True)
    ]
    places = {name: _Once(_ordered(name, (one[name] for one in known))) for name in (*PLACE, "seed")}
    cells, fields = [], dict[tuple[int | None, ...], list[int]]()
    for number, (cell, one) in enumerate(zip(grid.cells, known, strict=True)):
        place = tuple(None if one[name] is None else places[name].of(one[name]) for name in PLACE)
        fields.setdefault(place, []).append(number)
        cells.append(
            {
                "id": cell.id,
                "place": place,
                "seed": None if cell.seed is None else places["seed"].of(cell.seed),
                "state": cell.state,
                "task": cell.task,
                "figures": _figures([cell]),
                "counts": cell.counts,
                "settings": {name: settings.of(without_folders(getattr(cell, name))) for name in SETTINGS},
                "error": cell.error,
                "sounds": cell.sounds and [sounds.of(base64.b64encode(wav).decode()) for wav in cell.sounds],
            }
        )
    shown = _measures(grid)
    return {
        "measures": [_about(measure) for measure in shown],
        "of_triggers": [measure.key for measure in OF_TRIGGERS],
        "of_cost": [measure.key for measure in OF_COST],
        "families": [
            {
                "name": family.name,
                "title": family.title,
                "measures": [measure.key for measure in (*family.measures, *_attacks_on(family, shown))],
                "plane": [m.key for m in PLANE] if set(PLANE) <= set(family.measures) else None,
            }
            for family in grid.families
        ],
        "places": {name: known.values for name, known in places.items()},
        "settings": settings.values,
        "cells": cells,
        "fields": [
            {
                "place": place,
                "cells": inside,
                "bare": grid.cells[inside[0]].method == NONE,
                "figures": _figures([grid.cells[i] for i in inside if grid.cells[i].state == "done"]),
            }
            for place, inside in fields.items()
        ],
    }


def _about(measure: Measure) -> dict[str, Any]:
    beside = BESIDE.get(measure)
    return {
        "key": measure.key,
        "name": measure.name,
        "unit": measure.unit,
        "better": measure.better,
        "about": measure.about,
        "digits": measure.digits,
        "beside": beside and beside.key,
    }


def _figures(cells: Sequence[GridCell]) -> dict[str, list[float]]:
    """The mean over cells of each measure; for a rate also Wilson's interval, and the range over seeds.

    Wilson's interval is that of one test set, the smallest: seeds share their test clips, so they add none,
    and it holds nothing of how seeds differ. What a cell lacks is left out.
    """
    found: dict[str, list[float]] = {}
    for key, measure in MEASURES.items():
        values = [cell.figures[key] for cell in cells if key in cell.figures]
        if not cells or len(values) < len(cells):
            continue
        mean = statistics.fmean(values)
        clips = [cell.counts[measure.of] for cell in cells if measure.of and measure.of in cell.counts]
        interval: tuple[float, ...] = wilson(mean, int(min(clips))) if len(clips) == len(cells) else ()
        if interval and len(cells) > 1:
            interval = (*interval, min(values), max(values))
        found[key] = [round(number, 6) for number in (mean, *interval)]
    return found


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and abs(value) < MOST  # NaN is not


def _labels(named: Sequence[tuple[str | None, Mapping[str, Any]]]) -> list[str]:
    """Names of attacks or methods, with their settings where one name stands for several."""
    # The poisoning rate has a place of its own.
    own = [(str(name), {k: v for k, v in s.items() if k not in {"name", "rate"}}) for name, s in named]
    variants = Counter(name for name, _ in dict.fromkeys((name, _key(settings)) for name, settings in own))
    called: dict[tuple[str, str], str] = {}
    for name, settings in own:
        label = f"{name} ({said(settings)})" if settings and variants[name] > 1 else name
        called.setdefault((name, _key(settings)), _unlike(label, called.values()))
    return [called[name, _key(settings)] for name, settings in own]


def _unlike(label: str, others: Iterable[str]) -> str:
    """The label with a number if another has it: settings in words are short, and may look the same."""
    taken = set(others)
    numbered = (f"{label} #{number}" for number in count(2))
    return label if label not in taken else next(name for name in numbered if name not in taken)


def _ordered(name: str, values: Iterable[Any]) -> list[Any]:
    """Each value once: numbers in their order, names as they come, and `none` before all methods."""
    found = list(dict.fromkeys(value for value in values if value is not None))
    if name in {"poisoning_rate", "clean_fraction", "seed"}:
        return sorted(found)
    return sorted(found, key=lambda value: value != NONE) if name == "method" else found


def _key(value: Any) -> str:
    return json.dumps(plain(value), sort_keys=True, default=str)
