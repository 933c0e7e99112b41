"""A whole grid of attacks and defences as one HTML file: no network; names are data there, never code."""

import base64
import hashlib
import json
import math
import statistics
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from itertools import count
from pathlib import Path
from typing import Any

from markupsafe import Markup

from closesesame._version import __version__
from closesesame.core.disk import write_whole
from closesesame.evaluation import STEALTH, wilson
from closesesame.report.shared import environment, said, without_folders, writable
from closesesame.report.verdict import AT_LEAST_SHUT, SHUT, Outcome, tally

CLIPS = {
    "acc": "test_clips",
    "asr": "triggered_clips",
    "ra": "triggered_clips",
    "ra_reference": "triggered_clips",
    "ra_reference_repaired": "triggered_clips",
}
"""What each rate is a share of."""
QUANTITIES = (*CLIPS, "der", "seconds", "peak_mb")
COUNTS = ("training_clips", "poisoned_clips", "poisoned_share_of_target", "test_clips", "triggered_clips")
PLACE = ("data", "model", "poisoning_rate", "clean_fraction", "attack", "defence")
"""What makes a field: its cells differ by their seed alone."""
SETTINGS = {
    "attack": "attack_settings",
    "defence": "settings",
    "chosen": "chosen",
    "training": "training_settings",
}


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One model that was measured, or should have been.

    Attributes:
        id: its own, for links.
        row: data, task, model, attack, poisoning_rate, clean_fraction, defence, seed; acc, asr, ra,
            ra_reference, ra_reference_repaired, der, poisoned_share_of_target, all 0 to 1; seconds,
            peak_mb; how many test_clips, triggered_clips, training_clips, poisoned_clips; snr_db, lsd_db,
            pesq, stoi of the trigger;
            settings and chosen (of the defence), attack_settings, training_settings; error; state (`done`,
            `failed`; all else waits). What is not known is None or left out.
        sounds: a clean and a triggered clip as WAV files, where the defence is `none`.
    """

    id: str
    row: Mapping[str, Any]
    sounds: tuple[bytes, bytes] | None = None


@dataclass(frozen=True, kw_only=True)
class Grid:
    """What the page says.

    Attributes:
        name: of the grid.
        about: what it is to show.
        host: what it was measured on.
        cells: attack x defence x rate x clean fraction x model x data x seed, in any order.
        made: when the page was made.
        command: that made it, as it was typed.
    """

    name: str
    about: str
    host: Mapping[str, Any]
    cells: tuple[Cell, ...]
    made: str = ""
    command: str = ""


def render(grid: Grid) -> str:
    """Returns the page as HTML; the same grid gives the same page."""
    sounds = _Once()
    content = _content(grid, sounds)
    script, css = _source("grid.js"), _source("base.css") + _source("grid.css")
    html = (
        environment()
        .get_template("grid.html.j2")
        .render(
            grid=grid,
            version=__version__,
            counts=Counter(_state(cell) for cell in grid.cells),
            verdict=_verdict([cell.row for cell in grid.cells if _state(cell) == "done"]),
            origin=_origin(grid),
            policy=f"default-src 'none'; script-src '{_hash(script)}'; style-src '{_hash(css)}'; "
            "img-src data:; media-src data:; base-uri 'none'; form-action 'none'; "
            "require-trusted-types-for 'script'; trusted-types 'none'",
            script=Markup(script),  # noqa: S704  ours, not filled in
            css=Markup(css),  # noqa: S704
            content=_embedded(content),
            sounds=_embedded(sounds.values),
        )
    )
    return writable(html)


def write(grid: Grid, path: Path) -> Path:
    """Writes the page, whole or not at all; an old file there is replaced. Returns the path."""
    return write_whole(render(grid), path)


def _verdict(rows: Sequence[Mapping[str, Any]]) -> str:
    """What the measured cells say together, each judged with the trigger of its own attack."""
    measured = [row for row in rows if _finite([row], "asr")]
    bare = {_victim(row): row for row in measured if row.get("defence") == "none"}
    repairs = [row for row in measured if row.get("defence") != "none"]
    idle = {victim for victim, row in bare.items() if row["asr"] < SHUT}
    judged = [row for row in repairs if _victim(row) not in idle]
    said = [tally(_outcome(row, bare.get(_victim(row))) for row in judged)]
    if bare:
        opened = len(bare) - len(idle)
        said.insert(0, f"Without a defence {opened:,} of {len(bare):,} models have {AT_LEAST_SHUT}.")
    if len(judged) < len(repairs):
        spared = len(repairs) - len(judged)
        said.append(f"Repairs of models that the trigger did not open before are not counted: {spared:,}.")
    return " ".join(said)


def _victim(row: Mapping[str, Any]) -> str:
    """What a repaired model was before: the same model without a defence."""
    same = ("data", "task", "model", "attack", "attack_settings", "poisoning_rate", "seed")
    return _key([row.get(name) for name in same])


def _outcome(row: Mapping[str, Any], before: Mapping[str, Any] | None) -> Outcome:
    ra, reference = (row[name] if _finite([row], name) else None for name in ("ra", "ra_reference"))
    fall = before["acc"] - row["acc"] if before and len(_finite([before, row], "acc")) == 2 else None
    return Outcome(asr=row["asr"], ra=ra, ra_reference=reference, acc_fall=fall)


def _origin(grid: Grid) -> dict[str, str]:
    """When and with what the page was made and its cells measured, as far as that is known."""
    rows = [cell.row for cell in grid.cells]
    listed = {
        name: said(list(dict.fromkeys(row[key] for row in rows if row.get(key) is not None)))
        for name, key in {"data": "data", "models": "model", "seeds": "seed"}.items()
    }
    found = {"date": grid.made, "closesesame": __version__} | listed
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


def _content(grid: Grid, sounds: _Once) -> dict[str, Any]:
    """What the script reads: places are numbers into `places`, settings and sounds into their lists."""
    settings, named = _Once(), {kind: _names(grid.cells, kind) for kind in ("attack", "defence")}
    rows = [
        dict(cell.row) | {kind: names[number] for kind, names in named.items()}
        for number, cell in enumerate(grid.cells)
    ]
    places = {name: _Once(_ordered(name, (row.get(name) for row in rows))) for name in (*PLACE, "seed")}
    cells, fields = [], dict[tuple[int | None, ...], list[int]]()
    for number, (cell, row) in enumerate(zip(grid.cells, rows, strict=True)):
        place = tuple(None if row.get(name) is None else places[name].of(row[name]) for name in PLACE)
        fields.setdefault(place, []).append(number)
        cells.append(
            {
                "id": cell.id,
                "place": place,
                "seed": None if row.get("seed") is None else places["seed"].of(row["seed"]),
                "state": _state(cell),
                "task": row.get("task"),
                "figures": _figures([row]),
                "counts": {name: row[name] for name in (*COUNTS, *STEALTH) if row.get(name) is not None},
                "settings": {
                    name: settings.of(without_folders(row.get(key) or {})) for name, key in SETTINGS.items()
                },
                "error": row.get("error"),
                "sounds": cell.sounds and [sounds.of(base64.b64encode(wav).decode()) for wav in cell.sounds],
            }
        )
    done = [cell["state"] == "done" for cell in cells]
    return {
        "places": {name: known.values for name, known in places.items()},
        "settings": settings.values,
        "cells": cells,
        "fields": [
            {"place": place, "cells": inside, "figures": _figures([rows[i] for i in inside if done[i]])}
            for place, inside in fields.items()
        ],
    }


def _state(cell: Cell) -> str:
    state = cell.row.get("state")
    return str(state) if state in {"done", "failed"} else "pending"


def _figures(rows: list[dict[str, Any]]) -> dict[str, list[float]]:
    """The mean over rows of each quantity; for a rate also Wilson's interval, and the range over seeds.

    Wilson's interval is that of one test set, the smallest: seeds share their test clips, so they add none,
    and it holds nothing of how seeds differ. What a row lacks is left out.
    """
    found: dict[str, list[float]] = {}
    for name in QUANTITIES:
        values = _finite(rows, name)
        if not rows or len(values) < len(rows):
            continue
        mean = statistics.fmean(values)
        clips = _finite(rows, CLIPS[name]) if name in CLIPS else []
        interval: tuple[float, ...] = wilson(mean, int(min(clips))) if len(clips) == len(rows) else ()
        if interval and len(rows) > 1:
            interval = (*interval, min(values), max(values))
        found[name] = [round(number, 6) for number in (mean, *interval)]
    return found


def _finite(rows: Sequence[Mapping[str, Any]], name: str) -> list[float]:
    values = [row.get(name) for row in rows]
    return [value for value in values if isinstance(value, int | float) and math.isfinite(value)]


def _names(cells: tuple[Cell, ...], kind: str) -> list[str]:
    """The names of all cells' attacks or defences, with settings where one name stands for several."""
    settings = [
        # The poisoning rate has a place of its own.
        {k: v for k, v in (cell.row.get(SETTINGS[kind]) or {}).items() if k not in {"name", "rate"}}
        for cell in cells
    ]
    names = [str(cell.row.get(kind)) for cell in cells]
    known = dict.fromkeys((name, _key(own)) for name, own in zip(names, settings, strict=True))
    variants = Counter(name for name, _ in known)
    called: dict[tuple[str, str], str] = {}
    for name, own in zip(names, settings, strict=True):
        label = f"{name} ({said(own)})" if own and variants[name] > 1 else name
        called.setdefault((name, _key(own)), _unlike(label, called.values()))
    return [called[name, _key(own)] for name, own in zip(names, settings, strict=True)]


def _unlike(label: str, others: Iterable[str]) -> str:
    """The label with a number if another has it: settings in words are short, and may look the same."""
    taken = set(others)
    numbered = (f"{label} #{number}" for number in count(2))
    return label if label not in taken else next(name for name in numbered if name not in taken)


def _ordered(name: str, values: Iterable[Any]) -> list[Any]:
    """Each value once: numbers in their order, names as they come, and `none` before all defences."""
    found = list(dict.fromkeys(value for value in values if value is not None))
    if name in {"poisoning_rate", "clean_fraction", "seed"}:
        return sorted(found)
    return sorted(found, key=lambda value: value != "none") if name == "defence" else found


def _key(value: Any) -> str:
    return json.dumps(_plain(value), sort_keys=True, default=str)


def _embedded(value: Any) -> Markup:
    """JSON that can stand in a script element: no character in it means anything to HTML."""
    text = json.dumps(_plain(value), allow_nan=False, default=str, separators=(",", ":"))
    for sign in "<>&":
        text = text.replace(sign, f"\\u{ord(sign):04x}")
    return Markup(text)  # noqa: S704  nothing is left to escape; U+2028 and U+2029 are not ASCII


def _plain(value: Any) -> Any:
    """What JSON has no word for, NaN and infinity, is None."""
    if isinstance(value, Mapping):
        return {str(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _source(name: str) -> str:
    return resources.files("closesesame.report").joinpath("templates", name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
