"""Restore against the others on the test bench: pairs, differences and shares, by hand."""

from pathlib import Path
from typing import Any

import pytest

from benchmarks.render.against import (
    BEFORE,
    BENCH,
    MAIN,
    PARTS,
    PUBLISHED,
    SAFE,
    UNTRUSTED,
    Goal,
    cases,
    cost_of_less,
    cost_on_clean,
    goals,
    goals_of_safe,
    headline,
    interval,
    left_open,
    measured_before,
    not_planted,
    section,
)
from benchmarks.render.answers import _defaults, _goals, _time_of_safe

CLEAN = {"asr": 0.01, "ra": 0.9, "acc": 0.99}


def rows_of(attack: str, victim: tuple[float, float], **repaired: tuple[float, float, float]) -> list[Any]:
    """The rows of one victim: ASR and ACC as it is; ASR, RA and ACC after each removal."""
    base = {
        "data": "words",
        "task": "word",
        "model": "resnet",
        "attack": attack,
        "seed": 2,
        "clean_fraction": None,
        "clean_from": None,
        "settings": {},
        "error": None,
    }
    none = {"method": "none", "method_name": "none", "seconds": 40.0, "peak_mb": 500.0}
    found = [
        base | none | CLEAN | {"poisoning_rate": 0.0, "seconds": 30.0, "peak_mb": 300.0},
        base | none | {"poisoning_rate": 0.05, "asr": victim[0], "ra": 0.0, "acc": victim[1]},
    ]
    for name, (asr, ra, acc) in repaired.items():
        more = {
            "method": name,
            "method_name": name,
            "asr": asr,
            "ra": ra,
            "acc": acc,
            "seconds": 60.0,
            "peak_mb": 600.0,
        }
        found.append(
            base | more | {"poisoning_rate": 0.05, "clean_fraction": 0.05, "clean_from": "validation"}
        )
        found.append(
            base | more | {"poisoning_rate": 0.0, "clean_fraction": 0.05, "clean_from": "validation"}
        )
    return found


def grid(rows: list[Any], gpu: str | None = None) -> dict[str, Any]:
    """A result file."""
    return {"host": {"gpu": gpu}, "rows": rows}


CONTENT = grid(
    [
        *rows_of("room", (1.0, 0.98), restore=(0.02, 0.85, 0.97), ft=(0.52, 0.4, 0.975)),
        *rows_of("warp", (0.9, 0.99), restore=(0.04, 0.8, 0.98), ft=(0.01, 0.7, 0.98)),
        *rows_of("pbsm", (0.95, 0.99), restore=(0.03, 0.86, 0.99), ft=(0.01, 0.9, 0.95)),
        *rows_of("pitch", (0.79, 0.99), restore=(0.5, 0.1, 0.5), ft=(0.0, 0.9, 0.99)),
    ]
)


def test_a_case_is_a_planted_victim_beside_its_clean_reference_model() -> None:
    found = cases([CONTENT])
    assert list(found) == ["restore", "ft"]
    assert [key[3] for key in found["ft"]] == ["room", "warp", "pbsm"]  # pitch did not plant
    first = next(iter(found["ft"].values()))
    assert first.asr == 0.52
    assert (first.asr_more, first.ra_less, first.acc_lost) == pytest.approx((0.51, 0.5, 0.005))
    assert (first.times, first.memory) == (1.5, 1.2)


@pytest.mark.parametrize(
    "key", ["data", "task", "model", "attack", "seed", "poisoning_rate", "clean_fraction", "clean_from"]
)
def test_what_differs_in_one_thing_is_another_case(key: str) -> None:
    rows = rows_of("room", (1.0, 0.98), ft=(0.5, 0.4, 0.97))
    others = [row | ({key: "other"} if row[key] is not None else {}) for row in rows]
    assert [case.asr for case in cases([grid([*rows, *others])])["ft"].values()] == [0.5, 0.5]


def test_a_row_that_failed_is_no_case() -> None:
    rows = rows_of("room", (1.0, 0.98), restore=(0.1, 0.9, 0.97), ft=(0.5, 0.4, 0.97))
    failed = [row | ({"error": "killed"} if row["method"] == "ft" else {}) for row in rows]
    assert list(cases([grid(failed)])) == ["restore"]
    pending = [row | ({"state": "pending", "asr": None} if row["method"] == "ft" else {}) for row in rows]
    assert list(cases([grid(pending)])) == ["restore"]


def test_the_section_says_what_each_leaves_and_how_they_differ() -> None:
    about, kept, versus, differences = section([CONTENT])
    assert "which was never poisoned" in about
    assert "| restore | 3 | 3.0 (4.0) | 2.0 (3.0) | 6.3 (10.0) | 0.7 (1.0) | 1.5 | 1.2 |" in kept
    assert "| ft | 3 | 18.0 (52.0) |" in kept
    # warp: ft has the same ACC and a lower ASR; pbsm: ft has a lower ASR at a lower ACC
    assert versus.endswith(
        "In 1 of the 3 cases of `restore` that other removals met, none of these leaves a lower ASR (0 of "
        "them ties); in 2, none that keeps as much ACC does. Most cases met 1 other."
    )
    assert "| ft | 3 | -15.0 [-50.0, +3.0] | +17.0 [" in differences
    assert "| +1.2 [" in differences
    assert differences.endswith("| 33 % |")


def test_a_tie_is_said() -> None:
    rows = rows_of("room", (1.0, 0.98), restore=(0.05, 0.9, 0.97), ft=(0.05, 0.4, 0.97))
    assert "In 1 of the 1 cases of `restore`" in section([grid(rows)])[2]
    assert "a lower ASR (1 of them ties)" in section([grid(rows)])[2]


def test_times_and_memory_on_a_gpu_are_left_out() -> None:
    found = cases([grid(CONTENT["rows"], gpu="some")])["restore"].values()
    assert {(case.times, case.memory) for case in found} == {(None, None)}
    alone = section([grid(CONTENT["rows"], gpu="some")])[1]
    assert "| ACC lost |\n" in alone
    assert "| restore | 3 | 3.0 (4.0) | 2.0 (3.0) | 6.3 (10.0) | 0.7 (1.0) |\n" in alone
    both = section([grid(CONTENT["rows"], gpu="some"), grid(rows_of("daba", (1.0, 0.9), restore=(0, 1, 1)))])
    assert both[1].splitlines()[2].endswith("| 1.5 | 1.2 |")


def test_the_headline_has_a_line_a_removal_and_a_line_a_part_of_the_bench() -> None:
    assert headline({"removals_development": CONTENT}) == "The test bench has no results yet."
    published = grid(rows_of("room", (1.0, 0.98), clp=(0.9, 0.1, 0.98)))
    text = headline(
        {
            "removals_test": CONTENT,
            "removals_test_published": published,
            "removals_test_few": grid(rows_of("room", (1.0, 0.98), ft=(0.5, 0.3, 0.88))),
        }
    )
    names = [line.split(" | ")[0] for line in text.splitlines() if line.startswith("| `")]
    assert names == ["| `restore`", "| `ft`", "| `restore`", "| `ft`", "| `clp`"]
    on_the_same = text.partition("on the same victims:")[2]
    assert "| `restore` | 1 | 2.0 (2.0) |" in on_the_same  # room alone
    assert "| `clp` | 1 | 90.0 (90.0) | 89.0 (89.0) | 80.0 (80.0) | 0.0 (0.0) | 1.5 | 1.2 |" in text
    # warp: ft has the same ACC and a lower ASR
    assert "In 1 of the 3 cases of `restore` that other removals met, none of" in text
    assert "A lower mean ASR" not in text
    rows = rows_of("room", (1.0, 0.98), restore=(0.2, 0.9, 0.97), ft=(0.1, 0.8, 0.9), clp=(0.9, 0.1, 0.9))
    less = headline({"removals_test": grid(rows)})
    assert "A lower mean ASR than `restore` in this table, with the ACC lost in brackets: `ft` (8.0)." in less
    assert "| 1 % clean clips | 50.0 / 60.0 / 10.0 (1) |" in text
    assert set(PARTS) | set(PUBLISHED) | {MAIN} == {
        path.stem.removeprefix(BENCH)
        for path in (Path(__file__).parents[1] / "benchmarks" / "recipes").glob(f"{BENCH}*.toml")
    }


def test_ties_beat_nobody_and_the_worst_is_named_first() -> None:
    tied = rows_of("room", (1.0, 0.98), restore=(0.1, 0.9, 0.97), ft=(0.1, 0.8, 0.98))
    *_, differences = section([grid(tied)])
    assert differences.endswith("| 0 % |")
    assert (
        "In 1 of the 1 cases of `restore` that other removals met, none of these" in section([grid(tied)])[2]
    )
    high, low = (rows_of(name, (1.0, 0.9), restore=(asr, 0.9, 0.9)) for name, asr in (("a", 0.3), ("b", 0.2)))
    high[0]["asr"] = 0.2  # the clean model has much of it already
    assert left_open({BENCH: grid([*low, *high])}) == ["a on words 30 (20)", "b on words 20 (1)"]
    elsewhere = {BENCH: grid(tied), f"{BENCH}_seeds": grid([row | {"seed": 3} for row in tied])}
    assert "In 2 of the 2 cases of `restore` that other removals met, none" in headline(elsewhere)


def test_goals_are_compared_with_what_is_reached() -> None:
    speakers = [
        row | {"task": "speaker"}
        for row in rows_of("comb", (0.9, 0.9), restore=(0.3, 0.5, 0.8), ft=(0, 1, 1))
    ]
    few = [row | {"clean_fraction": row["clean_fraction"] and 0.01} for row in CONTENT["rows"]]
    parts = {"": CONTENT, "_tasks": grid(speakers, gpu="some"), "_few": grid(few)}
    found = goals({BENCH + part: content for part, content in parts.items()})
    assert {goal.what: (goal.most, round(goal.reached, 3), goal.missed) for goal in found} == {
        "ASR above that of the clean reference model, mean": (1, 8.75, True),
        "RA below that of the clean reference model, mean": (2, 14.75, True),
        "ACC lost, resnet on words, mean": (0.5, 0.667, True),
        "ACC lost, resnet on speakers, mean": (1.5, 10.0, True),
        "ASR with 1 % clean clips, resnet, mean": (3, 3.0, False),
        "ACC lost with 1 % clean clips, resnet, mean": (3, 0.667, False),
        "ASR, worst case": (5, 30.0, True),
        "RA below that of the clean reference model, worst case": (10, 40.0, True),
        "seconds over those of the training, mean": (2, 1.5, False),
        "memory over those of the training, mean": (2, 1.2, False),
    }
    assert goals({}) == []
    assert not Goal("ASR", 1, 1.04).missed  # as far as it is shown
    assert Goal("ASR", 1, 1.06).missed


def test_all_removals_on_the_victims_that_the_published_met() -> None:
    met, other = (rows_of(name, (1.0, 0.98), restore=(0.1, 0.9, 0.97)) for name in ("room", "warp"))
    text = (
        headline(
            {
                "removals_test_models": grid([*met, *other], gpu="some"),
                "removals_test_published_kwt": grid(
                    rows_of("room", (1.0, 0.98), rnp=(0.05, 0.1, 0.9)), "some"
                ),
            }
        )
        .rpartition("on the same victims:")[2]
        .partition("\n\nIn ")[0]
    )
    assert [line.split(" | ")[:3] for line in text.splitlines() if "`" in line] == [
        ["| `restore`", "1", "10.0 (10.0)"],
        ["| `rnp`", "1", "5.0 (5.0)"],
    ]


def test_what_stays_open_what_did_not_plant_and_what_a_clean_model_loses() -> None:
    content = grid(
        [
            *rows_of("room", (1.0, 0.98), restore=(0.07, 0.85, 0.96), ft=(0.9, 0.4, 0.9)),
            *rows_of("warp", (0.9, 0.99), restore=(0.05, 0.8, 0.96)),
            *rows_of("pitch", (0.79, 0.99), restore=(0.5, 0.1, 0.96)),
        ]
    )
    digits = grid([row | {"data": "fsdd"} for row in rows_of("comb", (0.8, 0.9), restore=(0.3, 0.5, 0.8))])
    speakers = grid(
        [row | {"task": "speaker"} for row in rows_of("comb", (0.7, 0.9), restore=(0.3, 0.5, 0.9))]
    )
    bench = {"removals_test": content, "removals_test_tasks": digits, "removals_test_few": speakers}
    everything = {**bench, "removals_development": digits}
    assert left_open(everything) == ["comb on digits 30 (1)", "room on words 7 (1)"]  # warp: 4 points above
    planted = [row for row in content["rows"] if row["attack"] != "pitch"]
    again = [row | {"seed": 3, "asr": row["asr"] + 0.02} for row in planted]
    seeds = {"removals_test": grid([*content["rows"], *again])}
    assert left_open(seeds) == ["room on words 8 (2)"]
    kwt = [row | {"model": "kwt"} for row in content["rows"]]
    few = [row | {"clean_fraction": row["clean_fraction"] and 0.01} for row in content["rows"]]
    own = [row | {"clean_from": row["clean_from"] and "train"} for row in content["rows"]]
    assert left_open({"removals_test_models": grid([*kwt, *few, *own])}) == [
        "room on words (kwt) 7 (1)",
        "room on words (with 1 % clean clips) 7 (1)",
        "room on words (with clean clips of the training set) 7 (1)",
    ]
    trained = [
        row | {"method": "safe", "method_name": "safe", "clean_fraction": None, "clean_from": None}
        if row["method"] == "restore"
        else row
        for row in content["rows"]
    ]
    often = [row | {"poisoning_rate": 2 * row["poisoning_rate"]} for row in trained]
    assert left_open({"untrusted_test_rates": grid([*trained, *often])}, UNTRUSTED, SAFE) == [
        "room on words 7 (1)",
        "room on words (10 % poisoned) 7 (1)",
    ]
    assert not_planted(everything) == {"pitch on words": 0.79, "comb on speakers": 0.7}
    model = grid([row | {"model": "small_cnn"} for row in speakers["rows"]])
    assert not_planted({"removals_test_models": model}) == {"comb on speakers (small cnn)": 0.7}
    published = {"removals_test": content, "removals_test_published": grid(rows_of("room", (0.5, 0.98)))}
    assert not_planted(published) == {
        "pitch on words": 0.79,
        "room on words (as published removals met it)": 0.5,
    }
    other = [row | {"seed": 3} for row in rows_of("room", (1.0, 0.98), restore=(0.07, 0.85, 0.9))]
    everything["removals_test_seeds"] = grid(other)
    lost = cost_on_clean(everything | {"removals_test_few": grid([*speakers["rows"], *few, *own])})
    assert lost == pytest.approx(
        {"words": (0.03 + 0.09) / 2, "digits": 0.19, "speakers": 0.09}
    )  # a model once
    assert cost_on_clean({"removals_test_models": model}) == pytest.approx({"speakers (small cnn)": 0.09})
    assert (
        "Left out, since the victim's own ASR is below 80 %: pitch on words 79, comb on speakers 70."
        in headline(everything)
    )
    assert left_open({}) == []
    at_the_bound = rows_of("room", (1.0, 0.98), restore=(0.05, 0.85, 0.96))
    at_the_bound[0]["asr"] = 0.0  # the clean model's
    assert left_open({BENCH: grid(at_the_bound)}) == []


def test_a_lower_asr_is_named_with_what_it_costs_and_the_same_is_not() -> None:
    rows = rows_of(
        "room", (1.0, 0.98), restore=(0.05, 0.85, 0.98), ft=(0.05, 0.8, 0.9), rnp=(0.04, 0.8, 0.99)
    )
    said = cost_of_less(cases([grid(rows)]))
    assert said.endswith("in brackets: `rnp` (-1.0).")
    assert cost_of_less({name: of for name, of in cases([grid(rows)]).items() if name != "rnp"}) == ""


def test_the_usual_number_of_others_is_that_of_most_cases() -> None:
    rows = [
        *rows_of("room", (1.0, 0.98), restore=(0.05, 0.85, 0.98), ft=(0.1, 0.8, 0.9)),
        *rows_of("warp", (1.0, 0.98), restore=(0.05, 0.85, 0.98), ft=(0.1, 0.8, 0.9), rnp=(0.1, 0.8, 0.9)),
        *rows_of("comb", (1.0, 0.98), restore=(0.05, 0.85, 0.98), ft=(0.1, 0.8, 0.9)),
    ]
    assert "Most cases met 1 other." in headline({BENCH: grid(rows)})


def test_a_variant_is_told_with_its_settings() -> None:
    rows = rows_of("room", (1.0, 0.98), restore=(0.2, 0.85, 0.96), **{"ft: slow": (0.3, 0.5, 0.9)})
    rows[-1] |= {"method_name": "ft", "settings": {"lr": 0.1, "steps": 9}}
    assert "`ft: slow` is `ft` with lr = 0.1, steps = 9.\n" in headline({BENCH: grid(rows)}) + "\n"
    assert " is `restore`" not in headline({BENCH: grid(rows)})


def test_a_variant_of_restore_is_no_rival_of_it() -> None:
    both = {"restore": (0.2, 0.85, 0.96), "restore: without pieces": (0.02, 0.85, 0.97)}
    alone = headline({BENCH: grid(rows_of("room", (1.0, 0.98), **both))})
    assert "`restore: without pieces` |" in alone  # it has a line
    assert "Most cases" not in alone
    shared = headline({BENCH: grid(rows_of("room", (1.0, 0.98), ft=(0.5, 0.4, 0.97), **both))})
    assert "In 1 of the 1 case" in shared
    assert "Most cases met 1 other." in shared


def test_published_removals_on_victims_of_another_machine_are_said_to_be() -> None:
    mine = grid(rows_of("room", (1.0, 0.98), restore=(0.1, 0.9, 0.97)))
    theirs = rows_of("room", (1.0, 0.98), rnp=(0.05, 0.1, 0.9))
    said = "on the same victims (trained once more for the published ones, on a GPU):"
    assert said in headline({"removals_test": mine, "removals_test_published": grid(theirs, "some")})
    assert said not in headline({"removals_test": mine, "removals_test_published": grid(theirs)})


def test_goals_tell_the_usual_share_of_clean_clips_from_any_other() -> None:
    rows = rows_of("room", (1.0, 0.98), restore=(0.01, 0.9, 0.98))
    fewer = [row | {"clean_fraction": row["clean_fraction"] and 0.02} for row in rows]
    found = {goal.what: goal.reached for goal in goals({"removals_test": grid(rows)})}
    assert "ASR, worst case" in found
    assert "ASR, worst case" not in {goal.what for goal in goals({"removals_test": grid(fewer)})}


def test_clean_clips_of_the_training_set_do_not_count_as_what_a_clean_model_loses() -> None:
    rows = rows_of("room", (1.0, 0.98), restore=(0.01, 0.9, 0.98))
    own = [row | {"clean_from": row["clean_from"] and "train"} for row in rows]
    own = [row | {"acc": 0.5} if row["method"] == "restore" else row for row in own]
    alone = cost_on_clean({"removals_test": grid(rows)})
    assert cost_on_clean({"removals_test": grid(rows), "removals_test_own_clips": grid(own)}) == alone


def test_what_the_default_leaves_is_said_with_what_was_known_of_the_bench() -> None:
    rows = rows_of("room", (1.0, 0.98), restore=(0.07, 0.85, 0.96), ft=(0.9, 0.4, 0.9))
    known = grid(rows) | {"about": "A bench.", "tuned_on": "Chosen elsewhere."}
    [said] = _defaults({"removals_test": known})
    assert said.words.startswith(
        "In 1 case `restore` leaves a mean ASR of 7.0 %, 6.0 points above that of a model that was never "
        "poisoned, and an RA 5.0 points below that model's; it costs 2.0 points of ACC. 1 case keeps "
        "more than 5 points above that model's ASR: room on words 7 (1). In 1 of"
    )
    assert said.words.endswith("Most cases met 1 other. Chosen elsewhere.")
    assert "elsewhere" not in next(_defaults({"removals_test_tasks": known})).words
    better = rows_of("room", (1.0, 0.98), restore=(0.02, 0.95, 0.99), ft=(0.9, 0.4, 0.9))
    both = [*better, *(row | {"seed": 3} for row in rows)]
    again = next(_defaults({"removals_test": known | {"rows": both}})).words
    assert "; as means over the seeds: " not in again  # 4.5 % on average: nothing to name
    closed = next(_defaults({"removals_test": known | {"rows": better}})).words
    assert "an RA 5.0 points above that model's; it costs -1.0 points of ACC. 0 cases keep" in closed
    assert "above that model's ASR. In 1 of" in closed
    worse = [*rows, *(row | {"seed": 3} for row in rows)]
    twice = next(_defaults({"removals_test": known | {"rows": worse}})).words
    assert "model's ASR; as means over the seeds: room on words 7 (1). " in twice


def test_the_time_of_safe_is_a_multiple_of_plain_training_on_the_same_victim() -> None:
    two = [
        *rows_of("room", (1.0, 0.98), safe=(0.07, 0.85, 0.96)),
        *rows_of("hum", (1.0, 0.9), safe=(0, 1, 1)),
    ]
    two[-2]["seconds"] = 300.0
    [said] = _time_of_safe({"untrusted_test_tasks": grid(two), "untrusted_test": grid(two)})
    assert said.words.startswith("1.5 to 7.5 times as long as plain training (goal: at most 5 times), in 2 ")
    assert list(_time_of_safe({"untrusted_test": grid(two)})) == []


def test_without_restore_there_is_nothing_to_compare() -> None:
    assert section([grid(rows_of("room", (1.0, 0.9), ft=(0.1, 0.8, 0.9)))]) == []


def test_an_interval_holds_the_mean_and_is_as_wide_as_the_differences_are_apart() -> None:
    low, high = interval([0.0, 0.2])
    assert low == 0
    assert high == pytest.approx(0.2)
    assert interval([0.1, 0.1]) == pytest.approx((0.1, 0.1))
    low, high = interval([-0.1, 0.0, 0.1] * 20)
    assert low == pytest.approx(-0.0206, abs=0.002)
    assert high == pytest.approx(0.0206, abs=0.002)


def test_missed_goals_are_told_with_their_figures() -> None:
    (said,) = _goals({BENCH: grid(rows_of("room", (1.0, 0.98), restore=(0.06, 0.89, 0.98)))})
    assert said.words == (
        "2 of 7: ASR above that of the clean reference model, mean, 5.0 (at most 1); ASR, worst case, 6.0 "
        "(at most 5)."
    )
    assert list(_goals({})) == []


def test_goals_of_safe_name_the_worst_cases() -> None:
    words = rows_of("room", (1.0, 0.98), safe=(0.06, 0.89, 0.985))
    speakers = [row | {"task": "speaker"} for row in rows_of("warp", (0.9, 0.95), safe=(0.02, 0.8, 0.96))]
    rows = [row | {"clean_fraction": None, "clean_from": None} for row in words + speakers]
    weak = grid(rows_of("pitch", (0.79, 0.98), safe=(0.7, 0.1, 0.985)))  # was hardly planted
    parts = {UNTRUSTED: grid(rows), f"{UNTRUSTED}_seeds": weak, BENCH: grid(rows_of("a", (1, 1)))}
    found = {goal.what: (goal.most, round(goal.reached, 3), goal.missed) for goal in goals_of_safe(parts)}
    assert found == {
        "ASR, mean": (2, 4.0, True),
        "ASR, worst case (room on words)": (8, 6.0, False),
        "RA below that of the clean reference model, worst case (warp on speakers)": (3, 10.0, True),
        "ACC below that of the clean reference model, worst case (warp on speakers)": (1, 3.0, True),
        "ACC lost on clean data, worst of 2 (speakers)": (1, 3.0, True),
    }
    (said,) = _goals(parts)
    assert said.question == "Which of its goals does the default robust training miss on the test bench?"
    assert said.words.startswith("4 of 5: ASR, mean, 4.0 (at most 2); RA below")
    assert goals_of_safe({}) == []
    *_, time = goals_of_safe({f"{UNTRUSTED}_tasks": grid(words)})
    assert (time.what, time.most, time.reached) == ("time over plain training, worst case", 5, 1.5)


def test_grids_of_restore_from_before_its_change_are_counted() -> None:
    old, new = ({"about": f"A grid. {said}"} | CONTENT for said in (f"{BEFORE} it was changed.", ""))
    published = {"about": BEFORE} | grid(rows_of("room", (1.0, 0.98), ft=(0.5, 0.9, 0.9)))
    found = {BENCH: old, f"{BENCH}_few": new, f"{BENCH}_published": published}
    assert measured_before(found) == ("1", "2 grids")
    assert measured_before({BENCH: new}) is None
