"""Our defaults on the test bench, victim by victim, and restore against every other removal.

A case is a victim whose backdoor was planted, with the clean examples that a removal gets. Differences are
taken within a case; the interval of their mean is a bootstrap over the cases.
"""

import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import Any, NamedTuple

import torch

from closesesame.core.errors import counted

from .rows import BARE, UNKNOWN, Row, measured, method_of, points, poisoned, table

OURS = "restore"
BENCH = "removals_test"
"""How the names of the result files of the test bench begin."""
UNTRUSTED, SAFE = "untrusted_test", "safe"
"""The same of robust trainings, and the default one."""
TIMED, SAFE_TIMES = f"{UNTRUSTED}_tasks", 5
"""The grid whose times can be compared, and how many times as long as plain training safe may take."""
BEFORE = "Restore is measured as it was before"
"""What a grid says of itself that was measured before restore was changed last."""
PLANTED = 0.8
"""ASR from which on a backdoor counts as planted."""
OPEN = 0.05
"""ASR above that of the clean reference model from which on a backdoor is not closed."""
USUAL = {"model": "resnet", "poisoning_rate": 0.05, "clean_fraction": 0.05, "clean_from": "validation"}
NO_CLIPS = {"clean_fraction": USUAL["clean_fraction"], "clean_from": None}
"""Of a victim no clean clips are to be told."""
DRAWS = 10_000
HEAD = ["removal", "cases", "ASR", "ASR above", "RA below", "ACC lost", "time / training", "memory"]
MAIN = ""
"""The grid of the ResNet with twelve attacks."""
PARTS = {
    "_seeds": "two more seeds",
    "_new_triggers": "triggers in no paper, before the change",
    "_later_triggers": "triggers in no paper, after it",
    "_models": "KWT, small CNN, LSTM",
    "_tasks": "speakers, digits",
    "_few": "1 % clean clips",
    "_few_small_cnn": "1 % clean clips, small CNN",
    "_own_clips": "clean clips of the training set",
}
"""The other grids, in a few words."""
PUBLISHED = {"_published": (MAIN, "the ResNet"), "_published_kwt": ("_models", "the keyword transformer")}
"""Grids of published removals, the grid that has the others on the same victims, and which these are."""


class Key(NamedTuple):
    """Which case it is: the victim, and the clean examples that a removal gets."""

    data: str
    task: str
    model: str
    attack: str
    seed: int
    poisoning_rate: float
    clean_fraction: float | None
    clean_from: str | None


@dataclass(frozen=True)
class Case:
    """What one removal makes of one victim; shares between 0 and 1.

    Attributes:
        asr: left.
        asr_more: the same above that of the clean reference model.
        ra_less: RA below that of the clean reference model.
        acc: left.
        acc_lost: the victim's minus that.
        acc_less: ACC below that of the clean reference model.
        times: seconds of the repair over those of the victim's training; None on a GPU, which jobs share.
        memory: peak memory of its process over that of the victim's training; None likewise.
    """

    asr: float
    asr_more: float
    ra_less: float
    acc: float
    acc_lost: float
    acc_less: float
    times: float | None
    memory: float | None


def cases(contents: Iterable[Mapping[str, Any]]) -> dict[str, dict[Key, Case]]:
    """By method, and by the victim and the clean examples that it was measured with."""
    found: dict[str, dict[Key, Case]] = {}
    for content in contents:
        rows, shared = measured(content["rows"]), content["host"]["gpu"] is not None
        bare = {(row["poisoning_rate"], *place(row)): row for row in rows if row["method"] == BARE}
        for row in poisoned(rows):
            rate = row["poisoning_rate"]
            victim, clean = (bare.get((share, *place(row))) for share in (rate, 0.0))
            if row["method"] == BARE or victim is None or clean is None or victim["asr"] < PLANTED:
                continue
            key = Key(**{name: row[name] for name in Key._fields})
            found.setdefault(method_of(row), {})[key] = Case(
                asr=row["asr"],
                asr_more=row["asr"] - clean["asr"],
                ra_less=clean["ra"] - row["ra"],
                acc=row["acc"],
                acc_lost=victim["acc"] - row["acc"],
                acc_less=clean["acc"] - row["acc"],
                times=None if shared else row["seconds"] / victim["seconds"],
                memory=None if shared else row["peak_mb"] / victim["peak_mb"],
            )
    return found


def of_bench(contents: Mapping[str, Mapping[str, Any]], begin: str = BENCH) -> dict[str, Mapping[str, Any]]:
    """The grids of the test bench by the part of it that they are."""
    return {name.removeprefix(begin): c for name, c in contents.items() if name.startswith(begin)}


def left_open(contents: Mapping[str, Mapping[str, Any]], begin: str = BENCH, ours: str = OURS) -> list[str]:
    """Where our default leaves 5 points more ASR than a clean model, means over seeds, the worst first.

    Args:
        contents: all result files by their names.
        begin: how the names of those of the test bench begin.
        ours: the default.

    Returns:
        The attack and where, ASR in %, and that of the clean model in brackets.
    """
    groups: dict[str, list[Case]] = {}
    for key, case in cases(of_bench(contents, begin).values()).get(ours, {}).items():
        groups.setdefault(_where(key), []).append(case)
    found = {
        name: (mean_of(group, "asr"), mean_of(group, "asr_more"))
        for name, group in groups.items()
        if mean_of(group, "asr_more") > OPEN
    }
    worst = sorted(found.items(), key=lambda pair: -pair[1][0])
    return [f"{name} {100 * asr:.0f} ({100 * (asr - more):.0f})" for name, (asr, more) in worst]


def _where(key: Key) -> str:
    """A case but for its seed, in words: what is usual on the bench is not said."""
    few = key.clean_fraction if key.clean_fraction != USUAL["clean_fraction"] else None
    usual_rate = key.poisoning_rate == USUAL["poisoning_rate"]
    return (
        f"{key.attack} on {task_of(key.data, key.task)}"
        + _of_model(key.model)
        + ("" if usual_rate else f" ({100 * key.poisoning_rate:g} % poisoned)")
        + (f" (with {100 * few:g} % clean clips)" if few is not None else "")
        + (" (with clean clips of the training set)" if key.clean_from == "train" else "")
    )


def _of_model(model: str) -> str:
    """In brackets, if it is not the usual one."""
    return "" if model == USUAL["model"] else f" ({model.replace('_', ' ')})"


def left_out(contents: Mapping[str, Mapping[str, Any]], begin: str = BENCH) -> str:
    """A sentence on the victims that are no cases; empty if there are none."""
    named = ", ".join(f"{name} {100 * asr:.0f}" for name, asr in not_planted(contents, begin).items())
    return f"Left out, since the victim's own ASR is below {100 * PLANTED:.0f} %: {named}." if named else ""


def not_planted(contents: Mapping[str, Mapping[str, Any]], begin: str = BENCH) -> dict[str, float]:
    """The ASR of the victims that are no cases, since their backdoor was hardly planted.

    Those of the published removals are victims of their own, and are named as such.

    Args:
        contents: all result files by their names.
        begin: how the names of those of the test bench begin.
    """
    found: dict[str, list[float]] = {}
    for part, grid in of_bench(contents, begin).items():
        for row in poisoned(measured(grid["rows"])):
            if row["method"] == BARE and row["asr"] < PLANTED:
                name = _where(Key(**{key: row[key] for key in Key._fields} | NO_CLIPS))
                own = " (as published removals met it)" if begin == BENCH and part in PUBLISHED else ""
                found.setdefault(name + own, []).append(row["asr"])
    return {name: statistics.fmean(values) for name, values in found.items()}


def measured_before(contents: Mapping[str, Mapping[str, Any]]) -> tuple[str, str] | None:
    """How many grids of restore say that it was another then, and how many there are; none if none does."""
    grids = {
        part: grid
        for part, grid in of_bench(contents).items()
        if any(row["method"] == OURS for row in grid["rows"])
    }
    old = sum(BEFORE in grid.get("about", "") for grid in grids.values())
    return (str(old), counted(len(grids), "grid")) if old else None


def cost_on_clean(
    contents: Mapping[str, Mapping[str, Any]], begin: str = BENCH, ours: str = OURS
) -> dict[str, float]:
    """The ACC that models that were never poisoned lose by our default, by model and what it tells apart.

    Args:
        contents: all result files by their names.
        begin: how the names of those of the test bench begin.
        ours: the default.

    Returns:
        Means over all that got the usual clean clips, or none, if it needs none.
    """
    lost: dict[str, dict[tuple[Any, ...], float]] = {}
    for grid in of_bench(contents, begin).values():
        rows = poisoned(measured(grid["rows"]), wanted=False)
        bare = {place(row): row for row in rows if row["method"] == BARE}
        for row in rows:
            usual = row["clean_fraction"] is None or has_usual_clips(row)
            if row["method"] == ours and usual and place(row) in bare:
                name = task_of(row["data"], row["task"]) + _of_model(row["model"])
                which = (row["data"], row["task"], row["model"], row["seed"])  # one model beside all attacks
                lost.setdefault(name, {})[which] = bare[place(row)]["acc"] - row["acc"]
    return {name: statistics.fmean(values.values()) for name, values in lost.items()}


def has_usual_clips(row: Row) -> bool:
    """Whether a method got as many clean clips, and from where, as is usual on the bench."""
    return all(row[name] == USUAL[name] for name in ("clean_fraction", "clean_from"))


def task_of(data: str, task: str) -> str:
    """What a model tells apart, in words."""
    return "speakers" if task == "speaker" else {"fsdd": "digits"}.get(data, "words")


def headline(contents: Mapping[str, Mapping[str, Any]]) -> str:
    """The table of the README: what each removal leaves on the ResNet, and on other parts of the bench."""
    grids = of_bench(contents)
    if not grids:
        return "The test bench has no results yet."
    main = cases([grids[MAIN]] if MAIN in grids else [])
    parts = [lines(main, code=True)]
    if OURS in main and (less := cost_of_less(main)):
        parts.append(less)
    if MAIN in grids and (said := variants(grids[MAIN]["rows"])):
        parts.append(said)
    for part, (whole, models) in PUBLISHED.items():
        if part in grids:
            parts += [
                f"Published removals on {models}, and the others on the same victims"
                f"{_again(grids, part, whole)}:",
                on_the_same(grids[part], grids.get(whole)),
            ]
    others = {PARTS[part]: cases([grids[part]]) for part in PARTS if part in grids}
    everywhere = cases(grids.values())
    if OURS in everywhere and rivals(everywhere):
        ours = everywhere[OURS]
        parts.append(shares(ours, rivals(everywhere)))
    if weak := left_out(contents):
        parts.append(weak)
    if others:
        names = [name for name in ordered(main) if any(name in found for found in others.values())]
        cells = [[what, *(brief(found.get(name)) for name in names)] for what, found in others.items()]
        parts += [
            "Elsewhere on the test bench: ASR, RA below that of the clean reference model, and ACC lost, "
            "as means in %, and the number of cases.",
            table(["", *(f"`{name}`" for name in names)], cells),
        ]
    return "\n\n".join(parts)


def variants(rows: Iterable[Row]) -> str:
    """What the removals with settings of their own are, in words; empty if there are none."""
    found = {row["method"]: (row["method_name"], row["settings"]) for row in rows if ":" in row["method"]}
    said = (
        f"`{name}` is `{method}` with {', '.join(f'{key} = {value}' for key, value in settings.items())}."
        for name, (method, settings) in found.items()
    )
    return " ".join(said)


def _again(grids: Mapping[str, Mapping[str, Any]], part: str, whole: str) -> str:
    """That victims are only the same but for the machine, if they are."""
    machines = {grids[name]["host"]["gpu"] for name in (part, whole) if name in grids}
    return " (trained once more for the published ones, on a GPU)" if len(machines) > 1 else ""


def on_the_same(published: Mapping[str, Any], whole: Mapping[str, Any] | None) -> str:
    """The table of all removals on the victims that the published ones met."""
    met = {key for found in cases([published]).values() for key in found}
    found = {
        name: {key: case for key, case in of.items() if key in met}
        for name, of in cases(filter(None, (published, whole))).items()
    }
    return lines(found, code=True)


@dataclass(frozen=True)
class Goal:
    """What a default was built to reach, and what it reaches.

    Attributes:
        what: is measured, in words.
        most: what it should be at most, in points, % or times.
        reached: what it is.
    """

    what: str
    most: float
    reached: float

    @property
    def missed(self) -> bool:
        """Whether it is not reached, as far as the figure is shown."""
        return round(self.reached, 1) > self.most


def goals(contents: Mapping[str, Mapping[str, Any]]) -> list[Goal]:
    """Those of restore that the test bench has figures for."""
    every = cases(of_bench(contents).values()).get(OURS, {})
    usual = {key: case for key, case in every.items() if key.clean_fraction == USUAL["clean_fraction"]}
    few = {key: case for key, case in every.items() if key.clean_fraction != USUAL["clean_fraction"]}
    others = {_model_and_task(key) for key in usual} - {("resnet", "words")}

    def lost_by(model: str, what: str) -> list[float]:
        return [case.acc_lost for key, case in usual.items() if _model_and_task(key) == (model, what)]

    found = [
        ("ASR above that of the clean reference model, mean", 1, [case.asr_more for case in usual.values()]),
        ("RA below that of the clean reference model, mean", 2, [case.ra_less for case in usual.values()]),
        ("ACC lost, resnet on words, mean", 0.5, lost_by("resnet", "words")),
        *(
            (f"ACC lost, {model} on {what}, mean", 1.5, lost_by(model, what))
            for model, what in sorted(others)
        ),
        *(
            (f"{figure} with 1 % clean clips, {model}, mean", 3, [getattr(case, name) for case in of])
            for model, of in _by_model(few).items()
            for figure, name in (("ASR", "asr"), ("ACC lost", "acc_lost"))
        ),
    ]
    made = [Goal(what, most, 100 * statistics.fmean(of)) for what, most, of in found if of]
    if usual:
        worst = {
            name: 100 * max(getattr(case, name) for case in usual.values()) for name in ("asr", "ra_less")
        }
        made.append(Goal("ASR, worst case", 5, worst["asr"]))
        made.append(Goal("RA below that of the clean reference model, worst case", 10, worst["ra_less"]))
    for what, name in (("seconds", "times"), ("memory", "memory")):
        known = [value for case in usual.values() if (value := getattr(case, name)) is not None]
        made += (
            [Goal(f"{what} over those of the training, mean", 2, statistics.fmean(known))] if known else []
        )
    return made


def goals_of_safe(contents: Mapping[str, Mapping[str, Any]]) -> list[Goal]:
    """Those of safe that the test bench has figures for."""
    every = cases(of_bench(contents, UNTRUSTED).values()).get(SAFE, {})
    if not every:
        return []
    made = [Goal("ASR, mean", 2, 100 * mean_asr(every))]
    for what, name, most in (
        ("ASR", "asr", 8),
        ("RA below that of the clean reference model", "ra_less", 3),
        ("ACC below that of the clean reference model", "acc_less", 1),
    ):
        worst = max(every, key=lambda key: getattr(every[key], name))
        made.append(Goal(f"{what}, worst case ({_where(worst)})", most, 100 * getattr(every[worst], name)))
    lost = cost_on_clean(contents, UNTRUSTED, SAFE)
    if lost:
        worst_of = max(lost, key=lost.__getitem__)
        what = f"ACC lost on clean data, worst of {len(lost)} ({worst_of})"
        made.append(Goal(what, 1, 100 * lost[worst_of]))
    longest = times_of_safe(contents)[-1:]
    return made + [Goal("time over plain training, worst case", SAFE_TIMES, times) for times in longest]


def times_of_safe(contents: Mapping[str, Mapping[str, Any]]) -> list[float]:
    """How many times as long as plain training safe takes, from the least, where nothing ran beside it."""
    found = cases([contents[TIMED]] if TIMED in contents else []).get(SAFE, {})
    return sorted(case.times for case in found.values() if case.times is not None)


def _model_and_task(key: Key) -> tuple[str, str]:
    return key.model, task_of(key.data, key.task)


def _by_model(found: Mapping[Key, Case]) -> dict[str, list[Case]]:
    groups: dict[str, list[Case]] = {}
    for key, case in found.items():
        groups.setdefault(key.model, []).append(case)
    return groups


def brief(found: Mapping[Key, Case] | None) -> str:
    """Three means between strokes, with the number of cases."""
    if not found:
        return UNKNOWN
    means = [mean_of(found.values(), name) for name in ("asr", "ra_less", "acc_lost")]
    return f"{' / '.join(map(points, means))} ({len(found)})"


def rivals(found: Mapping[str, Mapping[Key, Case]], ours: str = OURS) -> list[Mapping[Key, Case]]:
    """The cases of all methods but our default and its own variants, whose labels begin with its name."""
    return [of for name, of in found.items() if name.partition(":")[0] != ours]


def mean_of(found: Iterable[Case], figure: str) -> float:
    """The mean of one figure of cases."""
    return statistics.fmean(attrgetter(figure)(case) for case in found)


def mean_asr(found: Mapping[Key, Case]) -> float:
    """What is left on average."""
    return mean_of(found.values(), "asr")


def ordered(found: Mapping[str, Mapping[Key, Case]]) -> list[str]:
    """The removals: ours, then those that leave less first."""
    return sorted(found, key=lambda name: (name != OURS, mean_asr(found[name])))


def lines(found: Mapping[str, Mapping[Key, Case]], *, code: bool = False) -> str:
    """The table of removals, one a line.

    Args:
        found: cases by removal.
        code: whether their names are shown as code.
    """
    shown = {name: f"`{name}`" if code else name for name in found}
    return table(HEAD, [[shown[name], *line(list(found[name].values()))] for name in ordered(found)])


def place(row: Row) -> tuple[Any, ...]:
    """Which victim and clean reference model a row is of."""
    return tuple(row[key] for key in ("data", "task", "model", "attack", "seed"))


def unbeaten(ours: Mapping[Key, Case], others: Iterable[Mapping[Key, Case]], *, at_its_acc: bool) -> int:
    """In how many cases no other removal leaves a lower ASR.

    Args:
        ours: of the removal.
        others: of the other removals.
        at_its_acc: whether one of a lower ACC does not count.
    """
    rivals = list(others)
    beaten = sum(
        any(
            key in rival and rival[key].asr < case.asr and (rival[key].acc >= case.acc or not at_its_acc)
            for rival in rivals
        )
        for key, case in ours.items()
    )
    return len(ours) - beaten


def shares(
    ours: Mapping[Key, Case], others: Sequence[Mapping[Key, Case]], name: str = OURS, kind: str = "removals"
) -> str:
    """In how many cases none of the other methods does better, in words.

    Args:
        ours: the cases of our default.
        others: those of the other methods.
        name: of the default.
        kind: of method.
    """
    met = {key: case for key, case in ours.items() if any(key in other for other in others)}
    if not met:
        return f"No other of the {kind} was measured."
    lowest, at_its_acc = (unbeaten(met, others, at_its_acc=wanted) for wanted in (False, True))
    ties = lowest - sum(
        all(key not in other or other[key].asr > case.asr for other in others) for key, case in met.items()
    )
    return (
        f"In {lowest} of the {len(met)} cases of `{name}` that other {kind} met, none of these leaves a "
        f"lower ASR ({ties} of them ties); in {at_its_acc}, none that keeps as much ACC does. Most cases met "
        f"{counted(_usual_number(met, others), 'other')}."
    )


def _usual_number(ours: Mapping[Key, Case], others: Sequence[Mapping[Key, Case]]) -> int:
    """How many other methods met a case, as a rule."""
    return statistics.mode(sum(key in other for other in others) for key in ours)


def cost_of_less(found: Mapping[str, Mapping[Key, Case]]) -> str:
    """Which removals leave a lower mean ASR than ours, and what they cost; empty if none does."""
    lower = [name for name in found if name != OURS and mean_asr(found[name]) < mean_asr(found[OURS])]
    lost = {name: mean_of(found[name].values(), "acc_lost") for name in lower}
    if not lower:
        return ""
    said = ", ".join(f"`{name}` ({points(share)})" for name, share in lost.items())
    return f"A lower mean ASR than `{OURS}` in this table, with the ACC lost in brackets: {said}."


def interval(differences: list[float]) -> tuple[float, float]:
    """The 95 % interval of their mean, by percentiles of means of as many drawn with replacement."""
    drawn = torch.randint(
        len(differences), (DRAWS, len(differences)), generator=torch.Generator().manual_seed(0)
    )
    means = torch.tensor(differences, dtype=torch.float64)[drawn].mean(1)
    low, high = means.quantile(torch.tensor([0.025, 0.975], dtype=torch.float64)).tolist()
    return low, high


def section(contents: Iterable[Mapping[str, Any]]) -> list[str]:
    """What each removal leaves, and what restore leaves more or less than each of the others."""
    found = cases(contents)
    if OURS not in found:
        return []
    ours = found[OURS]
    names = ordered(found)
    return [
        f"A case is a victim whose backdoor was planted (ASR of {100 * PLANTED:g} % or more) with the "
        "clean clips that the removal gets. Mean over the cases, in brackets the worst of them, in % and "
        "points. ASR above and RA below are those of the clean reference model, which was never poisoned and "
        "is as it was trained.",
        lines(found),
        f"{OURS} minus each other removal on the cases of both, in points, with a 95 % interval of the "
        f"mean (a bootstrap over the cases). {shares(ours, rivals(found))}",
        table(
            ["against", "cases", "ASR", "RA", "ACC", "lower ASR in"],
            [versus(name, ours, found[name]) for name in names if name != OURS],
        ),
    ]


def line(of: list[Case]) -> list[str]:
    """One removal: means with the worst case."""

    def shown(value: Callable[[Case], float]) -> str:
        got = [value(case) for case in of]
        return f"{points(statistics.fmean(got))} ({points(max(got))})"

    return [
        str(len(of)),
        *(shown(attrgetter(name)) for name in ("asr", "asr_more", "ra_less", "acc_lost")),
        *(ratio([getattr(case, name) for case in of]) for name in ("times", "memory")),
    ]


def ratio(of: list[float | None]) -> str:
    """The mean of those that are known."""
    known = [value for value in of if value is not None]
    return f"{statistics.fmean(known):.1f}" if known else UNKNOWN


def versus(name: str, ours: Mapping[Key, Case], theirs: Mapping[Key, Case]) -> list[str]:
    """One line of differences; RA is higher where less of it is lost."""
    both = [(ours[key], theirs[key]) for key in ours if key in theirs]
    if not both:
        return [name, "0", *[""] * 4]
    figures = []
    for difference in (
        [a.asr - b.asr for a, b in both],
        [b.ra_less - a.ra_less for a, b in both],
        [a.acc - b.acc for a, b in both],
    ):
        low, high = interval(difference)
        figures.append(f"{100 * statistics.fmean(difference):+.1f} [{100 * low:+.1f}, {100 * high:+.1f}]")
    lower = sum(a.asr < b.asr for a, b in both) / len(both)
    return [name, str(len(both)), *figures, f"{100 * lower:.0f} %"]
