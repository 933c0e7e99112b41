"""The tables of ASAP (Sun et al., Mathematics 2025, 13(6), 984) on our data, beside its own figures.

Most figures of its baseline, ASA and ASAP are multiples of 1/350, as of ten classes with 35 clips, and no ASR
is above 90 %: it counts all triggered clips, those of the target label too, and of these none as hit. Its BAC
is the share of all triggered clips that get their true label; RA leaves those of the target label out, and
they are not triggered here, so all that is known of BAC is a range.
"""

from collections.abc import Iterator, Mapping
from statistics import fmean
from typing import Any

from closesesame.evaluation.measures import ACC, ASR, RA

from .rows import BARE, Row, Rows, distinct, interval, measured, poisoned, shown, spread, table, where

DEFENCES = {
    BARE: "Baseline",
    "autoencoder": "Aut.",
    "gangsweep": "GS",
    "fine_pruning": "Prune",
    "deepsweep_ft": "DS",
    "activation_clustering": "AC",
    "asa": "ASA",
    "asap": "ASAP",
}
"""What the paper calls them, in its order."""
ATTACKS = {"badnets: airplane": "BadNets", "pbsm": "PBSM", "vsvc": "VSVC"}
PAPER = {
    "Baseline": ("97.14 / 89.71 / 18.29", "100.00 / 88.29 / 10.57", "94.86 / 88.29 / 10.00"),
    "Aut.": ("94.53 / 35.72 / 38.63", "98.89 / 69.53 / 10.23", "93.28 / 78.32 / 9.90"),
    "GS": ("96.93 / 52.31 / 43.87", "95.43 / 58.95 / 10.31", "93.85 / 71.03 / 11.03"),
    "Prune": ("96.86 / 38.14 / 51.29", "99.37 / 79.43 / 10.86", "92.86 / 80.86 / 9.71"),
    "DS": ("94.91 / 41.37 / 56.78", "96.51 / 71.23 / 11.23", "92.95 / 74.32 / 10.07"),
    "AC": ("95.34 / 46.72 / 62.23", "98.43 / 62.68 / 11.05", "91.85 / 69.24 / 10.31"),
    "ASA": ("99.71 / 11.71 / 91.43", "99.71 / 24.86 / 15.71", "100.00 / 34.86 / 12.86"),
    "ASAP": ("99.43 / 1.43 / 92.57", "99.71 / 22.57 / 17.14", "99.71 / 26.86 / 12.29"),
}
"""ACC / ASR / BAC in %, as printed, by defence and in the order of the attacks."""
BY_SOUND = {
    "badnets: airplane": "99.43 / 1.43 / 92.57",
    "badnets: birds": "98.57 / 0.29 / 98.00",
    "badnets: train": "98.86 / 2.14 / 90.23",
    "badnets: alarm clock": "99.14 / 0.00 / 97.14",
}
BY_RATE = {
    0.01: PAPER["ASAP"],
    0.05: ("99.71 / 2.00 / 90.57", "99.71 / 22.86 / 21.14", "90.57 / 54.29 / 10.86"),
    0.1: ("99.57 / 3.14 / 90.00", "97.43 / 24.00 / 18.29", "84.57 / 58.86 / 11.71"),
}
BY_THRESHOLD = {
    "asap: T 0.2": ("99.43 / 1.71 / 91.71", "99.71 / 22.86 / 12.29", "100.00 / 27.14 / 12.29"),
    "asap: T 0.3": ("99.43 / 1.71 / 92.00", "99.71 / 23.71 / 16.29", "100.00 / 27.14 / 12.29"),
    "asap: T 0.4": ("99.43 / 1.71 / 92.29", "99.71 / 24.29 / 16.00", "100.00 / 27.43 / 12.29"),
    "asap: T 0.6": ("99.43 / 1.71 / 92.29", "99.71 / 24.29 / 16.00", "99.71 / 28.29 / 12.29"),
}
"""At 1 % poisoned, like the table of sounds; T is 0.5 by default."""
COUNTED = (
    "The last column is what the paper prints: ACC / ASR / BAC. As its figures show, its ASR counts all "
    "triggered clips, and those of the target label as not hit; ours, counted so, stands behind ours. Its "
    "BAC is RA with the clips of the target label. These are not triggered here, so ours is a range, from "
    "none to all of them right. Behind a mean stands its Wilson 95 % interval on the clips of one seed, and "
    "the range over the seeds. If p in its table by p is the poisoning rate, as we read it, the paper's main "
    "table is that of 1 % poisoned: its rows of p = 1 % are those of ASAP there."
)
FIGURES = [ACC.heading, ASR.heading, "ASR counted as there", RA.heading, "BAC counted as there"]
HEAD = ["attack", "defence", "in the paper", *FIGURES, "paper"]


def main_table(content: Mapping[str, Any]) -> list[str]:
    """All defences under all attacks, a table for each data set."""
    rows = measured(content["rows"])
    parts = [f"{content['about']} {content['tuned_on']} {COUNTED}"]
    for (data,) in distinct(rows, "data"):
        mine = where(rows, data=data)
        parts += [f"### {str(data).capitalize()}", table(HEAD, _defences(mine))]
    return parts


def _defences(rows: Rows) -> Iterator[list[str]]:
    """A line for each attack and defence, below that of the model that was never poisoned."""
    methods = sorted({row["method"] for row in rows}, key=_place)
    for (attack,) in distinct(rows, "attack"):
        mine = where(rows, attack=attack)
        yield [
            attack,
            "*none*, never poisoned",
            "",
            *figures(where(mine, method=BARE, poisoning_rate=0.0)),
            "",
        ]
        for method in methods:
            name = DEFENCES.get(method, "")
            paper = PAPER[name][list(ATTACKS).index(attack)] if name else ""
            yield [attack, _said(method), name, *figures(poisoned(where(mine, method=method))), paper]


def _place(method: str) -> int:
    names = list(DEFENCES)
    return names.index(method) if method in names else len(names)


def _said(method: str) -> str:
    return "*none*" if method == BARE else f"`{method}`"


def figures(rows: Rows) -> list[str]:
    """ACC, ASR, ASR over all triggered clips, RA and BAC, of rows that differ by their seed."""
    if not rows:
        return [""] * len(FIGURES)
    return [interval(rows, ACC), interval(rows, ASR), over_all(rows), interval(rows, RA), bac(rows)]


def over_all(rows: Rows) -> str:
    """ASR as a share of all test clips, those of the target label too."""
    counted: list[Row] = [
        row | {ASR.key: row[ASR.key] * row["triggered_clips"] / row["test_clips"]} for row in rows
    ]
    return shown(counted, ASR) + spread(counted, ASR)


def bac(rows: Rows) -> str:
    """BAC, the mean over the seeds, if none of the clips of the target label is right, and if all are."""
    shares = [row["triggered_clips"] / row["test_clips"] for row in rows]
    least = fmean(row[RA.key] * share for row, share in zip(rows, shares, strict=True))
    return f"{100 * least:.1f} to {100 * (least + 1 - fmean(shares)):.1f}"


def choices(content: Mapping[str, Any]) -> list[str]:
    """What ASAP leaves by the sound of the trigger, the poisoning rate or the threshold."""
    rows = measured(content["rows"])
    names = [attack for (attack,) in distinct(rows, "attack")]
    cells = sorted(
        distinct(rows, "attack", "poisoning_rate", "method"),
        key=lambda cell: (names.index(cell[0]), cell[1], cell[2] != BARE, cell[2]),
    )
    lines = []
    for attack, rate, method in cells:
        if rate or method == BARE:
            mine = where(rows, attack=attack, poisoning_rate=rate, method=method)
            known = _paper_of(attack, rate, method)
            lines.append([attack, f"{100 * rate:g} %", _said(method), *figures(mine), known])
    about = (
        f"{content['about']} {content['tuned_on']} {COUNTED} The paper's figures by sound and by T are "
        "at 1 % poisoned, those by rate at T 0.5."
    )
    return [about, table(["attack", "poisoned", "defence", *FIGURES, "paper"], lines)]


def _paper_of(attack: str, rate: float, method: str) -> str:
    """What the paper prints of such a cell; empty if it prints nothing."""
    if attack not in ATTACKS:
        return BY_SOUND[attack] if method == "asap" and rate == 0.01 else ""
    by = BY_RATE.get(rate) if method == "asap" else BY_THRESHOLD.get(method) if rate else None
    return by[list(ATTACKS).index(attack)] if by else ""
