"""The catalogue of attacks: a folder of pages made from the registry, to read, to see and to listen to.

This module knows no attack: name, paper, claims, docstrings and settings are the method's own.
"""

import re
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from closesesame._version import __version__
from closesesame.attacks import ATTACKS, Attack, Trigger
from closesesame.attacks.described import attack_settings
from closesesame.core.described import words_of
from closesesame.core.errors import ClosesesameError
from closesesame.core.progress import Track
from closesesame.data import Dataset, Splits
from closesesame.evaluation import Stealth, measure_stealth
from closesesame.evaluation.measures import OF_TRIGGERS, Measure
from closesesame.evaluation.stealth import spread
from closesesame.report.charts.spectrograms import spectrograms
from closesesame.report.described import cited, commands_of, story_of
from closesesame.report.shared import environment, writable

from .comparison import Sound

INDEX = "index.html"
SOUNDS = 3
"""Clips to listen to, of different classes."""


@dataclass(frozen=True, kw_only=True, eq=False)
class CatalogueEntry:
    """One attack as it is shown.

    Attributes:
        method: its class.
        asked: how the command line calls it.
        file: name of its page.
        sounds: the same clips for all attacks.
        stealth: how much it changes clips.
        problem: why it could not be played, in one sentence.
    """

    method: type[Attack]
    asked: str
    file: str
    sounds: tuple[Sound, ...] = ()
    stealth: Stealth | None = None
    problem: str = ""


def asked_for(names: Iterable[str]) -> dict[type[Attack], str]:
    """Attacks by what the command line calls them; all of the registry if none is named.

    Raises:
        SettingError: if there is no such attack.
    """
    return {ATTACKS[name]: name for name in list(names) or ATTACKS}


def write_catalogue(entries: tuple[CatalogueEntry, ...], folder: Path, clips: str) -> None:
    """Writes the index and a page an attack into an existing folder."""
    for number, entry in enumerate(Track(entries, "writing pages", len(entries))):
        around = (entries[number - 1], entries[(number + 1) % len(entries)])
        (folder / entry.file).write_text(attack_html(entry, clips, around), encoding="utf-8")
    (folder / INDEX).write_text(index_html(entries, clips), encoding="utf-8")


def is_catalogue(folder: Path) -> bool:
    """Whether a folder holds pages and nothing else, an index among them."""
    return (folder / INDEX).is_file() and all(path.suffix == ".html" for path in folder.iterdir())


def survey(splits: Splits, asked: Mapping[type[Attack], str], seed: int) -> tuple[CatalogueEntry, ...]:
    """Makes the trigger of each attack, as it is by default, and plays it on the same test clips."""
    judged, listened = _pick_clips(splits.test, _targets(asked, splits.train))
    entries: list[CatalogueEntry] = []
    for method in (track := Track(asked, "playing attacks", len(asked))):
        track.note(method.name)
        file = _file(method.name, {entry.file for entry in entries})
        sounds, stealth, problem = _play(method, splits.train, judged, listened, seed)
        entries.append(
            CatalogueEntry(
                method=method,
                asked=asked[method],
                file=file,
                sounds=sounds,
                stealth=stealth,
                problem=problem,
            )
        )
    return tuple(entries)


def index_html(entries: tuple[CatalogueEntry, ...], clips: str) -> str:
    """Returns the page that lists all attacks."""
    first = next((entry.sounds[0] for entry in entries if entry.sounds), None)
    return _render("index", entries=entries, clips=clips, first=first)


def attack_html(
    entry: CatalogueEntry, clips: str, around: tuple[CatalogueEntry, CatalogueEntry] | None = None
) -> str:
    """Returns the page of one attack, with links to the one before and the one behind it."""
    rows = attack_settings(entry.method)
    own = [row for row in rows if row.name not in Attack.model_fields]
    shared = [row for row in rows if row.name in Attack.model_fields]
    return _render(
        "attack",
        entry=entry,
        method=entry.method,
        clips=clips,
        around=around if around and around[0] is not entry else None,
        words=words_of(entry.method),
        story=story_of(entry.method),
        commands=commands_of(entry.asked, own),
        settings={"Its own settings": own, "Settings that all attacks have": shared},
        panels=[
            spectrograms(f"sound-{number}", sound.clean, sound.triggered, sound.sample_rate)
            for number, sound in enumerate(entry.sounds)
        ],
    )


def _targets(methods: Iterable[type[Attack]], data: Dataset) -> list[int]:
    """The target labels of all attacks, as they are by default."""
    found = set()
    for method in methods:
        with suppress(ClosesesameError):  # said by its own page
            found.add(data.label_of(method.model_fields["target"].default))
    return sorted(found)


def _pick_clips(test: Dataset, targets: list[int]) -> tuple[Dataset, list[int]]:
    """Clips to judge, of other classes than the targets, and which of them to listen to.

    The latter are of different classes, each of middle loudness there.
    """
    others = ~torch.isin(test.labels, torch.tensor(targets))
    eligible = (others if others.any() else torch.ones_like(others)).nonzero().flatten()
    judged = test.take(eligible[spread(len(eligible))])
    levels = judged.inputs[:].square().mean(1)
    listened = []
    for label in torch.unique(judged.labels)[:SOUNDS]:
        of_class = (judged.labels == label).nonzero().flatten()
        listened.append(int(of_class[levels[of_class].argsort()[len(of_class) // 2]]))
    return judged, listened


def _play(
    method: type[Attack], train: Dataset, judged: Dataset, listened: list[int], seed: int
) -> tuple[tuple[Sound, ...], Stealth | None, str]:
    """Sounds and figures; or one sentence on why there are none."""
    try:
        trigger: Trigger = method().trigger(train, seed)
        clean = judged.inputs[:]
        triggered = trigger.stamp(clean)
    except ClosesesameError as error:
        return (), None, str(error)
    rate = trigger.signal.hz
    sounds = tuple(
        Sound(
            name=judged.ids[row],
            label=judged.classes[int(judged.labels[row])],
            clean=clean[row],
            triggered=triggered[row],
            sample_rate=rate,
            predicted={},
        )
        for row in listened
    )
    return sounds, measure_stealth(clean, triggered, rate), ""


def _file(name: str, taken: set[str]) -> str:
    """A name for a page that is safe in any file system and in a link."""
    wanted = f"{name}.html"
    if re.fullmatch(r"[a-z0-9_]{1,60}", name) and wanted not in taken | {INDEX}:
        return wanted
    return f"attack-{len(taken) + 1}.html"


def _figure(stealth: Stealth | None, measure: Measure) -> str:
    """One figure in words."""
    return measure.said(None if stealth is None else getattr(stealth, measure.key)).replace(
        "-", "\N{MINUS SIGN}"
    )


def _judged(stealth: Stealth, measure: Measure) -> int:
    """On how many clips a figure was measured, if not on all."""
    count = getattr(stealth, f"{measure.key}_clips", stealth.clips)
    return count if count < stealth.clips else 0


def _difference(sound: Sound) -> Tensor:
    return sound.triggered - sound.clean


def _render(kind: str, **values: object) -> str:
    made = environment()
    made.filters |= {"cited": cited, "difference": _difference}
    made.globals |= {
        "version": __version__,
        "index": INDEX,
        "measures": OF_TRIGGERS,
        "figure_of": _figure,
        "judged_of": _judged,
        "words_of": words_of,
        "is_clean_label": lambda method: bool(method.claims()["clean_label"]),
    }
    return writable(made.get_template(f"catalogue_{kind}.html.j2").render(**values))
