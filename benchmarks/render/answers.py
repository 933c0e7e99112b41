"""Questions that people ask, answered in words whose figures come from the result files."""

import statistics
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import chain

from closesesame.attacks import ATTACKS
from closesesame.core.errors import counted
from closesesame.evaluation.measures import ACC, ASR, AUROC, DER, FLAGGED, FPR_AT_OWN, RA, TPR_AT_OWN, Measure
from closesesame.families import BY_NAME, FAMILIES, Family
from closesesame.removal import REMOVALS

from . import against, canaries, courses
from .against import (
    BENCH,
    MAIN,
    OPEN,
    OURS,
    SAFE,
    SAFE_TIMES,
    UNTRUSTED,
    cases,
    goals,
    goals_of_safe,
    left_open,
    left_out,
    mean_of,
    measured_before,
    of_bench,
    rivals,
    shares,
    times_of_safe,
)
from .pages import Contents, development_rows, page_of
from .rows import BARE, Row, Rows, distinct, lost_acc, mean, measured, method_of, points, poisoned, where

REMOVED, HALF, PLANTED = 0.1, 0.5, 0.9
"""ASR below which a backdoor counts as removed, and from which on as half and as fully planted."""

HALF_OF_CLASS = 0.5
"""Share of the target class up to which clean-label attacks are compared."""
UNMOVED = "feature_collision: no movement"
"""The attack whose clips are chosen and hold the key, and nothing more."""
MINUTE_S = 60
AUROC_GOALS = {False: ("where labels are changed", 0.97), True: ("where none is", 0.85)}
"""By whether an attack keeps labels, that in words, and the AUROC that dynamics shall reach under each."""
FASTER_THAN_ART = 3
"""How many times as fast as the detectors of ART ours shall be."""
FLAGGED_GOAL = 0.01
"""The share of clean data that it may flag."""


@dataclass(frozen=True)
class Answer:
    """A question, its answer, and the page with the tables behind it."""

    question: str
    words: str
    page: str


def answers(contents: Contents) -> list[Answer]:
    """All questions that the result files answer."""
    return [answer for ask in QUESTIONS for answer in ask(contents)]


def _percent(share: float | None) -> str:
    return f"{ASR.said(share)} %"


def _listed(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _by_attack(rows: Rows, measure: Measure) -> dict[str, float]:
    """The mean of each attack, the lowest first."""
    means = {attack: _mean(where(rows, attack=attack), measure) for (attack,) in distinct(rows, "attack")}
    return dict(sorted(means.items(), key=lambda one: (one[1], one[0])))


def _mean(rows: Rows, measure: Measure) -> float:
    found = mean(rows, measure)
    assert found is not None
    return found


def _planted(contents: Contents) -> Iterator[Answer]:
    rows = poisoned(measured(contents["attacks"]["rows"]))
    asr = _by_attack(rows, ASR)
    many = sum(value >= PLANTED for value in asr.values())
    rates = sorted({row["poisoning_rate"] for row in rows})
    weak = sorted((value, name) for name, value in asr.items() if value < PLANTED)
    yield Answer(
        "Do the attacks plant a backdoor?",
        f"With {_listed([f'{100 * rate:g} %' for rate in rates])} of the clips poisoned, {many} of "
        f"{len(asr)} attack settings reach an ASR of {100 * PLANTED:g} % or more on unseen "
        "speakers. The others: "
        f"{', '.join(f'{name} {_percent(value)}' for value, name in weak)}.",
        "attacks",
    )


def _rates(contents: Contents) -> Iterator[Answer]:
    rows = poisoned(measured(contents["attacks_rates"]["rows"]))
    said = []
    for rate in sorted({row["poisoning_rate"] for row in rows}):
        mine = where(rows, poisoning_rate=rate)
        strong = sum(row["asr"] >= HALF for row in mine)
        said.append(f"{strong} of {len(mine)} with {100 * rate:g} % ({mine[0]['poisoned_clips']} clips)")
    yield Answer(
        "How little poison is enough?",
        f"So many settings of dirty-label attacks reach an ASR of {100 * HALF:g} % or more: "
        f"{', '.join(said)}.",
        "attacks",
    )


def _asr_and_ra(rows: Rows) -> str:
    return f"{_percent(_mean(rows, ASR))} ({_percent(_mean(rows, RA))}; {counted(len(rows), 'seed')})"


def clean_labels(contents: Contents) -> Iterator[Answer]:
    """What clean-label attacks plant at the highest rate that leaves half of the class as it is."""
    rows = where(measured(contents["attacks_clean_label"]["rows"]), family=BARE)
    planted = poisoned(rows)
    rate = max(row["poisoning_rate"] for row in planted if row["poisoned_share_of_target"] <= HALF_OF_CLASS)
    mine = where(planted, poisoning_rate=rate)
    groups = [where(mine, attack=attack) for (attack,) in distinct(mine, "attack") if ":" not in attack]
    groups.sort(key=lambda group: -_mean(group, ASR))
    share = statistics.fmean(row["poisoned_share_of_target"] for row in mine)
    said = [f"{_asr_and_ra(group)} with {group[0]['attack']}" for group in groups]
    clean = max(row["asr"] for row in poisoned(rows, wanted=False))
    models = _listed([name for (name,) in distinct(mine, "model")])
    still = where(mine, attack=UNMOVED)
    alone = f"; where the hardest clips hold the key and are not moved, {_asr_and_ra(still)}" if still else ""
    yield Answer(
        "Do attacks plant that change no label?",
        f"On {models}, with {_percent(share)} of the target class poisoned, {100 * rate:g} % of all clips, "
        f"ASR and (in brackets) RA are {_listed(said)}{alone}. Of models that were never poisoned ASR is at "
        f"most {_percent(clean)}. What each part of an attack brings stands in the tables.",
        "attacks",
    )


def _architectures(contents: Contents) -> Iterator[Answer]:
    rows = poisoned(measured(contents["attacks_architectures"]["rows"]))
    low = min(rows, key=lambda row: row["asr"])
    others = [row["asr"] for row in rows if row is not low]
    yield Answer(
        "Does it depend on the model?",
        f"On {_listed([name for (name,) in distinct(rows, 'model')])}, "
        f"{len(distinct(rows, 'attack'))} attacks reach {_percent(min(others))} or more; the exception is "
        f"{low['attack']} on {low['model']}, with {_percent(low['asr'])}.",
        "attacks",
    )


def accuracies(contents: Contents) -> tuple[float, float]:
    """ACC of models with a planted backdoor, and of never-poisoned ones, of the grid of attacks."""
    rows = measured(contents["attacks"]["rows"])
    planted = [row for row in poisoned(rows) if row["asr"] >= PLANTED]
    return _mean(planted, ACC), _mean(poisoned(rows, wanted=False), ACC)


def _accuracy(contents: Contents) -> Iterator[Answer]:
    bad, good = accuracies(contents)
    yield Answer(
        "Does clean accuracy show a backdoor?",
        f"No. Models whose trigger works {100 * PLANTED:g} % of the time or more get {_percent(bad)} of "
        f"clean clips right, models that were never poisoned {_percent(good)}.",
        "attacks",
    )


@dataclass(frozen=True)
class Left:
    """What a removal left on the development bench: the highest mean ASR of an attack, and what it costs."""

    name: str
    asr: float
    ra: float
    lost: float | None


def left(contents: Contents) -> list[Left]:
    """Every removal that was measured, the best first."""
    rows = development_rows(contents)
    names = [name for name in dict.fromkeys(map(method_of, rows)) if name != BARE]
    found = []
    for name in names:
        mine = [row for row in rows if method_of(row) == name]
        by_attack = [where(poisoned(mine), attack=attack) for (attack,) in distinct(mine, "attack")]
        asr = max(_mean(group, ASR) for group in by_attack)
        cost = lost_acc(poisoned(mine, wanted=False), rows)
        found.append(Left(name, asr, _mean(poisoned(mine), RA), cost))
    return sorted(found, key=lambda one: one.asr)


def _removals(contents: Contents) -> Iterator[Answer]:
    every = left(contents)
    good = [one for one in every if one.asr < REMOVED]
    told = _listed([f"{one.name} ({points(one.lost)} points, RA {_percent(one.ra)})" for one in good])
    yield Answer(
        "Does a removal remove it, and what does that cost?",
        f"{len(good)} of {len(every)} removals leave an ASR below {100 * REMOVED:g} % on every attack that "
        "they were measured on. In brackets, what ACC a clean model loses by them, and RA: "
        f"{told}. The best of the others, {every[len(good)].name}, leaves {_percent(every[len(good)].asr)}.",
        "removals",
    )


def _defaults(contents: Contents) -> Iterator[Answer]:
    for begin, ours, what in ((BENCH, OURS, "removal"), (UNTRUSTED, SAFE, "robust training")):
        grids = of_bench(contents, begin)
        found = cases(grids.values())
        if ours not in found:
            continue
        mine, still = list(found[ours].values()), left_open(contents, begin, ours)
        over = "; as means over the seeds" if len({key.seed for key in found[ours]}) > 1 else ""
        named = f"{over}: {', '.join(still)}" if still else ""
        known = f" {grids[MAIN]['tuned_on']}" if MAIN in grids else ""
        if ours == OURS and (old := measured_before(contents)):
            known = f" {old[0]} of {old[1]} say that they were measured before it was changed.{known}"
        wide = sum(case.asr_more > OPEN for case in mine)
        more, less, lost = (points(mean_of(mine, figure)) for figure in ("asr_more", "ra_less", "acc_lost"))
        side = "below" if mean_of(mine, "ra_less") >= 0 else "above"
        compared = shares(found[ours], rivals(found, ours), ours, f"{what}s")
        yield Answer(
            f"What does the default {what} leave on the test bench?",
            f"In {counted(len(mine), 'case')} `{ours}` leaves a mean ASR of "
            f"{_percent(mean_of(mine, 'asr'))}, {more} points above that of a model that was never "
            f"poisoned, and an RA {less.removeprefix('-')} points {side} that model's; it costs {lost} "
            f"points of ACC. {counted(wide, 'case')} keep{'s' * (wide == 1)} more than {100 * OPEN:g} points "
            f"above that model's ASR{named}. "
            + " ".join(filter(None, [compared, left_out(contents, begin)]))
            + known,
            page_of(BY_NAME[what.replace(" ", "_")]),
        )


def _time_of_safe(contents: Contents) -> Iterator[Answer]:
    if times := times_of_safe(contents):
        yield Answer(
            "How long does the default robust training take?",
            f"{times[0]:.1f} to {times[-1]:.1f} times as long as plain training (goal: at most "
            f"{SAFE_TIMES:g} times), in {counted(len(times), 'case')} that were trained one at a time with "
            "nothing beside them.",
            page_of(BY_NAME["robust_training"]),
        )


def _goals(contents: Contents) -> Iterator[Answer]:
    for found, what, page in (
        (goals(contents), "removal", "removals"),
        (goals_of_safe(contents), "robust training", "untrusted"),
    ):
        missed = [goal for goal in found if goal.missed]
        said = "; ".join(f"{goal.what}, {goal.reached:.1f} (at most {goal.most:g})" for goal in missed)
        if found:
            yield Answer(
                f"Which of its goals does the default {what} miss on the test bench?",
                f"{len(missed)} of {len(found)}{': ' * bool(missed)}{said}.",
                page,
            )


def dynamics(contents: Contents) -> Iterator[Answer]:
    """Whether our detection reaches its goals: its lowest AUROC, and how much clean data it flags."""
    grids = [contents[grid]["rows"] for grid in ("detections_test", "clean_label_test") if grid in contents]
    mine = where(measured(list(chain.from_iterable(grids))), method="dynamics")
    of_clean = poisoned(mine, wanted=False)
    flagged, beside = (
        [share for row in some if (share := row.get(FPR_AT_OWN.key)) is not None]
        for some in (of_clean, poisoned(mine))
    )
    said = []
    for kept, (labels, goal) in AUROC_GOALS.items():
        rows = [row for row in poisoned(mine) if keeps_labels(row) == kept]
        means = _by_attack(rows, AUROC)
        if means:
            worst = next(iter(means))
            below = [(mean, attack) for attack, mean in means.items() if mean < goal]
            reached = f"{len(means) - len(below)} of {counted(len(means), 'attack')}"
            others = ", ".join(f"{attack} {mean:.4f}" for mean, attack in below[1:])
            said.append(
                f"{labels}, it reaches a mean AUROC of {goal:g} under {reached}; the lowest is "
                f"{AUROC.said(means[worst])}, under {worst} ({_seeds(where(rows, attack=worst))})"
                + (f"; below that goal, too: {others}" if others else "")
            )
    if flagged:
        said.append(
            f"of clean data it flags {_percent(max(flagged))} or less at its own threshold "
            f"({_seeds(of_clean)}; goal: {_percent(FLAGGED_GOAL)})"
            + (f", of the clean clips beside poisoned ones {_percent(max(beside))} or less" if beside else "")
        )
    if said:
        words = "; ".join(said)
        yield Answer(
            "Does our detection, dynamics, reach its goals on the test bench?",
            f"{words[0].upper()}{words[1:]}.",
            page_of(BY_NAME["detection"]),
        )


def flagged_of_poison(contents: Contents) -> dict[str, float]:
    """The share of poisoned clips that dynamics flags at its own threshold, by attack, the lowest first."""
    grid = contents.get("detections_test", {"rows": []})
    mine = poisoned(where(measured(grid["rows"]), method="dynamics"))
    return _by_attack(mine, TPR_AT_OWN)


def _seeds(rows: Rows) -> str:
    return counted(len(distinct(rows, "seed")), "seed")


def keeps_labels(row: Row) -> bool:
    """Whether the attack of a row poisons clips of the target class alone, and changes no label."""
    settings = row["attack_settings"]
    return bool(settings.get("label_mode", _usual_labels(settings["name"])) == "clean_label")


def _usual_labels(attack: str) -> object:
    return ATTACKS[attack].model_fields["label_mode"].default if attack in ATTACKS else None


def learned_first(contents: Contents) -> Iterator[Answer]:
    """Which clips plain training learns first, attack by attack."""
    found = courses.orders(contents["courses"]["rows"]) if "courses" in contents else {}
    if found:
        kinds = {
            "poisoned": "poisoned clips come first",
            "clean": "clean clips do",
            "together": "neither do",
        }
        said = [f"under {_listed(found[kind])} {words}" for kind, words in kinds.items() if kind in found]
        kept = [name for some in found.values() for name in some if _usual_labels(name) == "clean_label"]
        same = f"Those of {_listed(kept)} are of one class, and keep their labels. " if kept else ""
        yield Answer(
            "Does plain training learn poisoned clips first, as ABL and DLP take it to do?",
            f"U{_listed(said)[1:]}. {same}What each stage of DLP and ABL leaves stands in the tables.",
            "untrusted",
        )


def _canaries(contents: Contents) -> Iterator[Answer]:
    if "canaries" not in contents:
        return
    rows = canaries.usable(contents["canaries"]["rows"])
    comfort, alarm = canaries.false_comfort(rows), canaries.false_alarm(rows)
    alone = [
        f"{name} {canaries.in_words(canaries.correlation(where(rows, repair=name)))}"
        for (name,) in distinct(rows, "repair")
    ]
    yield Answer(
        "Do canaries tell whether the attacker's backdoor is gone?",
        f"They tell a weak repair from a strong one, hardly one victim of a repair from another: over "
        f"{len(rows)} repairs their ASR and the attacker's have a rank correlation of "
        f"{canaries.in_words(canaries.correlation(rows))}; over those of one kind, {', '.join(alone)}. "
        f"{comfort.hits} of {comfort.of} repairs that removed all canaries left the attacker an ASR above "
        f"{100 * canaries.GONE:g} %, and {alarm.hits} of {alarm.of} that left one did not.",
        "removals",
    )


def _cost(contents: Contents) -> Iterator[Answer]:
    rows = sorted(contents["cost"]["rows"], key=lambda row: float(row["seconds"]))
    quick = sum(row["seconds"] < MINUTE_S for row in rows)
    yield Answer(
        "How long does a removal take?",
        f"{quick} of {len(rows)} that were timed take less than a minute on one thread at the length that "
        f"their authors train; {rows[-1]['removal']}, the longest, takes "
        f"{rows[-1]['seconds'] / MINUTE_S:.0f} minutes.",
        "removals",
    )


def best_of_families(contents: Contents) -> Iterator[Answer]:
    """The best method of every other family, by its first measure; on the test bench, if it was met there.

    Victims whose backdoor was hardly planted count nowhere.
    """
    every, blind = (
        list(chain.from_iterable(_of_cases(c["rows"]) for name, c in contents.items() if part in name))
        for part in ("", "_test")
    )
    for family in FAMILIES:
        if family.registry is REMOVALS:  # they have a question of their own
            continue
        rows, tested = (
            [row for row in measured(some) if row.get("family") == family.name] for some in (every, blind)
        )
        rows = tested or rows
        if FLAGGED in family.measures:
            yield from _alarms(family, rows)
            continue
        first, second, *_ = (measure for measure in family.measures if measure not in {ACC, DER})
        # On a clean model there is nothing to find, and nothing to stop.
        rows = rows if first.better == "higher" and first.of is None else poisoned(rows)
        rows = [row for row in rows if row[first.key] is not None]
        best = _best(rows, first)
        if best is None:
            continue
        name, mine = best
        shown = [
            f"{measure.name} {measure.said(value)}{' %' if measure.unit == 'share' else ''}"
            for measure in (first, second)
            if (value := _over_attacks(mine, measure)) is not None
        ]
        where_ = len(distinct(mine, "attack"))
        means = f"{' and '.join(shown)}, as means over {where_} {'attack' if where_ == 1 else 'attacks'}"
        if len({frozenset(_cases(of)) for of in _by_method(rows).values()}) > 1:
            means += "; the methods did not all meet the same cases"
        yield _of_the_best(family, name, f": {means}", len({method_of(row) for row in rows}))


def _by_method(rows: Rows) -> dict[str, list[Row]]:
    return {name: [row for row in rows if method_of(row) == name] for name in map(method_of, rows)}


def _of_cases(rows: Rows) -> list[Row]:
    """Those without victims whose backdoor was hardly planted; to a detection every poisoned clip counts."""
    poison = [row for row in rows if row.get("method") == BARE and row.get("poisoning_rate")]
    weak = _cases([row for row in poison if (row["asr"] or 0) < against.PLANTED])
    return [row for row in rows if row.get("family") == "detection" or not _cases([row]) & weak]


def _cases(rows: Rows) -> set[tuple[object, ...]]:
    names = ("data", "task", "model", "attack", "poisoning_rate", "seed")
    return {tuple(row.get(name) for name in names) for row in rows}


def _of_the_best(family: Family, name: str, found: str, count: int) -> Answer:
    """What the best of so many methods reaches; nobody is the best of one."""
    if count == 1:
        return Answer(f"{family.title}: how good is {name}?", f"{name}{found}.", page_of(family))
    return Answer(
        f"{family.title}: which does best?", f"Of {count} measured, {name}{found}.", page_of(family)
    )


@dataclass(frozen=True)
class _Alarms:
    """How often a method flags backdoored models, and how often clean ones, each of so many verdicts."""

    name: str
    found: float
    backdoored: int
    false: float
    clean: int


def _alarms(family: Family, rows: Rows) -> Iterator[Answer]:
    """The method that flags more backdoored than clean models; a clean model counts once, not per attack."""
    every = []
    for name in dict.fromkeys(map(method_of, rows)):
        mine = [row for row in rows if method_of(row) == name]
        bad = poisoned(mine)
        same = ("data", "model", "seed", "clean_fraction")
        good = [
            where(poisoned(mine, wanted=False), **dict(zip(same, key, strict=True)))[0]
            for key in distinct(poisoned(mine, wanted=False), *same)
        ]
        if bad and good:
            every.append(_Alarms(name, _mean(bad, FLAGGED), len(bad), _mean(good, FLAGGED), len(good)))
    if not every:
        return
    best = max(every, key=lambda one: one.found - one.false)
    yield _of_the_best(
        family,
        best.name,
        f" flags {_percent(best.found)} of {best.backdoored} backdoored models and {_percent(best.false)} of "
        f"{best.clean} clean {'one' if best.clean == 1 else 'ones'}",
        len(every),
    )


def _best(rows: Rows, measure: Measure) -> tuple[str, list[Row]] | None:
    groups = _by_method(rows)
    means = {name: _over_attacks(mine, measure) for name, mine in groups.items()}
    known = {name: value for name, value in means.items() if value is not None}
    if not known:
        return None
    name = (max if measure.better == "higher" else min)(known, key=lambda name: known[name])
    return name, groups[name]


def _over_attacks(rows: Rows, measure: Measure) -> float | None:
    """The mean of what was measured under each attack; None if nothing was."""
    means = (mean(where(rows, attack=attack), measure) for (attack,) in distinct(rows, "attack"))
    known = [value for value in means if value is not None]
    return statistics.fmean(known) if known else None


def _asap(contents: Contents) -> Iterator[Answer]:
    rows = where(poisoned(measured(contents["asap"]["rows"])), data="words")
    said = []
    for (attack,) in distinct(rows, "attack"):
        before, after = (where(rows, attack=attack, method=name) for name in (BARE, "asap"))
        asr, ra = (_percent(_mean(after, measure)) for measure in (ASR, RA))
        said.append(f"{attack} from {_percent(_mean(before, ASR))} to {asr} (RA {ra})")
    yield Answer(
        "What does ASAP leave: a speech enhancer in front, pruning and fine-tuning?",
        f"On words of which 5 % are poisoned it lowers ASR under {', '.join(said)}.",
        "removals",
    )


def _enhancer(contents: Contents) -> Iterator[Answer]:
    (noisy,) = where(contents["enhancer"]["rows"], enhancer="shipped", noise="esc10")
    (alone,) = where(contents["enhancer_alone"]["rows"], enhancer="shipped")
    yield Answer(
        "How good is the enhancer that ships?",
        f"With speakers and noises that it never met, at 0 dB, it improves SI-SDR by "
        f"{noisy['SI-SDR improvement at 0 dB_dB']:.1f} dB. Clean clips pass with an SI-SDR of "
        f"{alone['clean SI-SDR_dB']:.0f} dB; a model knows {alone['ACC_%']:.1f} % of them without it and "
        f"{alone['ACC enhanced_%']:.1f} % behind it.",
        "removals",
    )


def _gate(contents: Contents) -> Iterator[Answer]:
    rows = contents["gate"]["rows"]
    said = [
        f"behind {row['purifier']} a window takes {row['ms_a_window']:.0f} ms, and the process holds "
        f"{row['memory_mb_early']:.0f} MB early and {row['memory_mb_late']:.0f} MB at the end"
        for row in rows
    ]
    differ = sum(row["decisions_that_differ_after_a_kill"] for row in rows)
    yield Answer(
        "Can a gate keep up with a live input?",
        f"Through a pipe, {rows[0]['seconds_of_sound'] / MINUTE_S:.0f} minutes of sound on one thread: "
        f"{'; '.join(said)}. Killed in the middle and started again, it decides {differ} windows otherwise.",
        "engine",
    )


def beside_art(contents: Contents) -> Iterator[Answer]:
    """What our detectors and those of the Adversarial Robustness Toolbox find, and how long they take."""
    every = contents["peers_art"]["rows"]
    rows = [row for row in every if row["tpr"] is not None]
    last = max(row["poisoning_rate"] for row in rows)
    said = [
        f"{row['detector']} finds {_percent(row['tpr'])} of the poisoned clips and flags "
        f"{_percent(row['fpr'])} of the clean ones"
        for row in where(rows, poisoning_rate=last)
    ]
    times = [
        theirs["seconds"] / row["seconds"]
        for row in every
        for theirs in where(
            every,
            detector=row["detector"].replace("closesesame", "ART"),
            poisoning_rate=row["poisoning_rate"],
        )
        if theirs is not row
    ]
    yield Answer(
        "What do detectors find beside those of ART, on the same arrays?",
        f"With {100 * last:g} % poisoned: {'; '.join(said)}. Those of ART take {min(times):.1f} to "
        f"{max(times):.1f} times as long as ours of the same paper (goal: {FASTER_THAN_ART} times or more).",
        "untrusted",
    )


def _engine(contents: Contents) -> Iterator[Answer]:
    (storm,) = contents["engine_storm"]["rows"]
    faults = contents["faults"]["rows"]
    yield Answer(
        "Can a grid or a command lose what it computed?",
        f"{storm['kills_of_workers']} workers and {storm['kills_of_driver']} drivers of a grid of "
        f"{storm['jobs']} jobs were killed: {storm['jobs_lost']} were lost, {storm['results_that_differ']} "
        f"results differ. Of {sum(row['injections'] for row in faults):,} kills, full disks, memory limits "
        f"and read-only folders put into real commands, {sum(row['lost'] for row in faults)} lost an output.",
        "engine",
    )
    fuzz = contents["fuzz"]["rows"]
    yield Answer(
        "What does hostile input do?",
        f"Of {sum(row['cases'] for row in fuzz):,} damaged data sets, models, triggers, recipes, settings "
        f"and result files, {sum(row['refused in one sentence'] for row in fuzz):,} were refused in "
        "one sentence "
        f"and {sum(row['faults'] for row in fuzz)} did anything else wrong.",
        "engine",
    )


QUESTIONS: tuple[Callable[[Contents], Iterator[Answer]], ...] = (
    _planted,
    _rates,
    clean_labels,
    _architectures,
    _accuracy,
    _removals,
    _defaults,
    _time_of_safe,
    _goals,
    _canaries,
    _cost,
    best_of_families,
    learned_first,
    dynamics,
    _asap,
    _enhancer,
    _gate,
    beside_art,
    _engine,
)


def results_page(contents: Contents) -> str:
    """RESULTS.md: one screen."""
    lines = [
        "# Results",
        "Made by `make results` from the files in `results`, from which every figure comes; the recipes are "
        "in `recipes`. ASR is the share of triggered clips of other classes that get the target "
        "label, RA the "
        "share of the same clips that still get their true one, ACC the share of clean clips that do.",
    ]
    said = [f"**{one.question}** {one.words} [Tables](results/{one.page}.md)" for one in answers(contents)]
    return "\n\n".join([*lines, *said]) + "\n"
