"""Strength curves: removals at several settings of their main knob, one chosen blind, one in hindsight."""

import io
import statistics
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib import style
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

RULE = (
    "Settings stand from weak to strong. Blind: the strongest one after which the model is wrong on at most "
    "one more of the clips that the removal holds out itself. Hindsight: the one with the highest DER on the "
    "test set, which no user has. The gap is what the second knows."
)
Row = dict[str, Any]
ASR, ACC, INK = "#c2571a", "#1f6f9f", "#333333"
_STYLE = {"svg.fonttype": "none", "svg.hashsalt": "closesesame", "font.size": 9, "axes.spines.top": False}


@dataclass(frozen=True)
class Curve:
    """One removal on victims of one attack, a victim a seed.

    Attributes:
        removal: by name.
        attack: by label.
        knobs: what the settings are called, from weak to strong.
        runs: for each seed its rows, in the order of the knobs.
    """

    removal: str
    attack: str
    knobs: tuple[str, ...]
    runs: tuple[tuple[Row, ...], ...]

    def mean(self, name: str, at: int) -> float:
        """The mean over seeds at one setting."""
        return statistics.fmean(run[at][name] for run in self.runs)

    def chosen(self, choose: Any) -> list[int]:
        """Which setting is chosen, seed by seed."""
        return [choose(run) for run in self.runs]

    def at(self, places: Sequence[int], name: str) -> float:
        """The mean over seeds where each has its own setting."""
        return statistics.fmean(run[place][name] for run, place in zip(self.runs, places, strict=True))


def blind(run: Sequence[Row]) -> int:
    """The strongest setting that costs at most one held-out clip; the weakest if all cost more."""
    kept = [
        place
        for place, row in enumerate(run)
        if row["held_out_acc"] >= row["held_out_acc_before"] - 1.5 / row["held_out"]
    ]
    return max(kept, default=0)


def hindsight(run: Sequence[Row]) -> int:
    """The setting with the highest DER on the test set."""
    return max(range(len(run)), key=lambda place: run[place]["der"])


def curves(rows: Sequence[Row]) -> Iterator[Curve]:
    """All curves of a result file, victims only: without a backdoor there is no ASR to bring down."""
    swept = [row for row in rows if row["defence"] != "none" and row["poisoning_rate"]]
    for attack in dict.fromkeys(row["attack"] for row in swept):
        for removal in dict.fromkeys(row["defence_name"] for row in swept):
            mine = [row for row in swept if (row["attack"], row["defence_name"]) == (attack, removal)]
            knobs = tuple(dict.fromkeys(row["defence"] for row in mine))
            runs = []
            for seed in dict.fromkeys(row["seed"] for row in mine):
                run = {row["defence"]: row for row in mine if row["seed"] == seed}
                if set(run) == set(knobs):
                    runs.append(tuple(run[knob] for knob in knobs))
            if runs:
                short = tuple(knob.partition(", ")[2] or knob for knob in knobs)
                yield Curve(removal, attack, short, tuple(runs))


def table(rows: Sequence[Row]) -> str:
    """What each choice gives, one line a removal and attack."""
    head = ["removal", "attack", "seeds", "blind: ASR", "RA", "ACC", "setting"]
    head += ("hindsight: ASR", "RA", "ACC", "setting", "gap in ASR")
    lines = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    for curve in curves(rows):
        cells = [curve.removal, curve.attack, str(len(curve.runs))]
        asr = {}
        for name, choose in (("blind", blind), ("hindsight", hindsight)):
            places = curve.chosen(choose)
            asr[name] = curve.at(places, "asr")
            cells += [f"{100 * curve.at(places, field):.1f}" for field in ("asr", "ra", "acc")]
            cells.append(", ".join(dict.fromkeys(curve.knobs[place] for place in places)))
        cells.append(f"{100 * (asr['blind'] - asr['hindsight']):.1f}")
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


MARKS: dict[str, tuple[Callable[[Sequence[Row]], int], dict[str, Any]]] = {
    "blind": (blind, {"marker": "o", "markersize": 7, "alpha": 0.7}),
    "in hindsight": (hindsight, {"marker": "*", "markersize": 12, "markerfacecolor": "none"}),
}


def plot(rows: Sequence[Row]) -> str:
    """All curves as one SVG, means over the seeds, and each seed's choices; the same rows, the same text."""
    found = list(curves(rows))
    attacks = list(dict.fromkeys(curve.attack for curve in found))
    removals = list(dict.fromkeys(curve.removal for curve in found))
    with style.context(["default", _STYLE | {"axes.spines.right": False}]):
        figure = Figure(figsize=(3.4 * len(attacks) + 0.6, 1.9 * len(removals)), layout="constrained")
        grid = figure.subplots(len(removals), len(attacks), squeeze=False, sharey=True)
        for curve in found:
            axes = grid[removals.index(curve.removal)][attacks.index(curve.attack)]
            places = range(len(curve.knobs))
            for name, colour in (("asr", ASR), ("acc", ACC)):
                values = [100 * curve.mean(name, place) for place in places]
                axes.plot(places, values, color=colour, linewidth=1.2, marker=".")
                for choose, look in MARKS.values():
                    for run in curve.runs:
                        place = choose(run)
                        axes.plot(
                            place, 100 * run[place][name], color=colour, clip_on=False, zorder=3, **look
                        )
            axes.set_xticks(list(places), [knob.rpartition(" ")[2] for knob in curve.knobs])
            axes.set(ylim=(-4, 104), title=f"{curve.removal}: {curve.attack}")
            axes.set_xlabel(curve.knobs[0].rpartition(" ")[0])
        for row in grid:
            row[0].set_ylabel("%")
        keys = [Line2D([], [], color=colour, label=name) for name, colour in (("ASR", ASR), ("ACC", ACC))]
        for name, (_, look) in MARKS.items():
            keys.append(Line2D([], [], color=INK, linestyle="", label=f"chosen {name}", **look))
        figure.legend(handles=keys, loc="outside upper center", ncols=len(keys), frameon=False)
        file = io.StringIO()
        figure.savefig(file, format="svg", metadata=dict.fromkeys(("Creator", "Date", "Format", "Type")))
    return file.getvalue()
