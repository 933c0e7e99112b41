"""Pages of results say what the result files say; what is written is what would be written now."""

import copy
import json
import re
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks import render
from benchmarks.__main__ import entries
from benchmarks.__main__ import main as run
from benchmarks.render import pages, rows
from benchmarks.render.answers import (
    beside_art,
    best_of_families,
    clean_labels,
    dynamics,
    flagged_of_poison,
    learned_first,
)
from benchmarks.render.readme import StaleExampleError, readme
from closesesame.bench.results import write_measured
from closesesame.core.errors import DataError
from closesesame.evaluation.measures import ACC, ASR, AUROC, MEASURES, RA, TPR_AT_5
from closesesame.families import BY_NAME

CONTENTS: dict[str, Any] = {
    path.stem: json.loads(path.read_text(encoding="utf-8")) for path in sorted(render.RESULTS.glob("*.json"))
}
HOST = {"processor": "a processor", "cores": 2, "torch": "2.0"}


def row(family: str, method: str, rate: float = 0.05, **given: Any) -> dict[str, Any]:
    """A row of a grid; what was not measured is None."""
    same = {"data": "words", "model": "resnet", "attack": "hum", "clean_fraction": 0.05, "seed": 0}
    same |= {"clean_from": None}
    known = dict.fromkeys(MEASURES)
    counts = {
        "training_clips": 100,
        "test_clips": 50,
        "triggered_clips": 40,
        "poisoned_clips": round(100 * rate),
    }
    about = {
        "family": family,
        "method": method,
        "method_name": method,
        "poisoning_rate": rate,
        "settings": {},
    }
    return same | known | counts | about | {"poisoned_share_of_target": rate, "error": None} | given


BARE = [
    row("none", "none", acc=0.9, asr=1.0, ra=0.0, ra_reference=0.8, clean_fraction=None),
    row("none", "none", 0.0, acc=0.92, asr=0.01, ra=0.8, ra_reference=0.8, clean_fraction=None),
]


def content(*found: dict[str, Any]) -> dict[str, Any]:
    """A result file of such rows."""
    about = {"recipe": "small", "about": "A small grid.", "version": "1.2", "host": HOST}
    return about | {"rows": [*BARE, *found]}


def test_what_is_written_is_what_the_files_say() -> None:
    stale = [path.name for path, text in render.rendered(CONTENTS).items() if path.read_text() != text]
    assert not stale


def test_a_figure_that_changed_makes_its_pages_stale(monkeypatch: pytest.MonkeyPatch) -> None:
    changed = copy.deepcopy(CONTENTS)
    for found in changed["removals_development"]["rows"]:
        if found["method"] == "ft_augmented":
            found["asr"] = 0.5
    stale = {path.name for path, text in render.rendered(changed).items() if path.read_text() != text}
    assert stale == {"removals.md", "RESULTS.md", "removals.svg", "README.md"}


def test_the_check_names_what_is_stale_and_fails(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["benchmarks", "render", "--check"])
    assert run() == 0
    monkeypatch.setattr(render, "rendered", lambda contents: {render.README: "something else"})
    monkeypatch.setattr(sys, "argv", ["benchmarks", "render", "--check"])
    assert run() == 1
    assert "README.md must be rendered again" in capsys.readouterr().out


def test_rows_of_two_precisions_or_two_references_are_refused() -> None:
    changed = copy.deepcopy(CONTENTS)
    changed["attacks"]["rows"][0]["precision_train"] = "fp16"
    changed["attacks_rates"]["rows"][1]["ra_reference"] = 0.123
    first, second = render.refusals(changed)
    assert "fp16" in first
    assert "attacks_rates.json" in second
    assert not render.refusals(CONTENTS)


def test_an_example_that_was_not_run_is_refused() -> None:
    text = render.README.read_text(encoding="utf-8")
    with pytest.raises(StaleExampleError):
        readme(text.replace("seed=0", "seed=1", 1), CONTENTS)
    assert CONTENTS["example"]["rows"][0]["output"] in text


def test_every_result_file_stands_on_a_page() -> None:
    texts = "\n".join(pages.texts(CONTENTS).values())
    for name, found in CONTENTS.items():
        if name != "example":
            assert pages.PLAIN.get(name, ("", f": {found['recipe']}\n"))[1] in texts
        assert found["recipe"] == name


@pytest.mark.parametrize("name", pages.PAGES)
def test_every_entry_of_a_table_of_contents_leads_somewhere(name: str) -> None:
    text = pages.render(name, CONTENTS)
    links = re.findall(r"^- \[.*\]\(#(.*)\)$", text, re.M)
    headings = [pages.anchor(title) for title in re.findall(r"^## (.*)$", text, re.M)]
    assert links == headings
    assert len(set(links)) == len(links) > 0


def test_anchors_are_those_of_github() -> None:
    assert pages.anchor("Removals: of 0.1.0, and kill -9") == "removals-of-010-and-kill--9"


def test_what_attacks_on_models_say_has_columns_where_it_was_measured() -> None:
    attacked = row("removal", "ft", acc=0.8, asr=0.25, ra=0.5, retune_5=0.625, retune_reference_5=0.5)
    text = pages.render("removals", {"small": content(attacked)})
    assert "| ASR after retuning on 5 (%) | ASR after retuning on 5, reference (%) |" in text
    assert re.search(r"\| 62\.5 \[[0-9., ]+\] \| 50\.0 \[", text)
    assert "ASR after retuning on 1 " not in text
    plain = pages.render("removals", {"small": content(row("removal", "ft", acc=0.8, asr=0.25, ra=0.5))})
    assert "retuning" not in plain


def test_a_removal_shows_what_it_leaves_and_what_it_costs() -> None:
    text = pages.render(
        "removals",
        {
            "small": content(
                row("removal", "ft", acc=0.8, asr=0.25, ra=0.5, ra_reference_repaired=0.75, der=0.8),
                row("removal", "ft", 0.0, acc=0.9, asr=0.0, ra=0.75),
            )
        },
    )
    assert "| resnet | ft | 5 % | 1 | 25 / 50 / 75 | 80.0 | 10.0 | 0.800 | 2.0 |" in text
    assert "| resnet | *none* |  | 1 | 100 / 0 / – | 90.0 |" in text
    assert "25.0 [14.2, 40.2]" in text  # Wilson's interval of 10 of 40


def test_poisoning_rates_have_a_column_each_and_brackets_are_over_seeds() -> None:
    found = [
        row("removal", "ft", rate, acc=0.8, asr=asr, ra=0.5, seed=seed)
        for rate, seed, asr in ((0.05, 0, 0.25), (0.05, 1, 0.75), (0.1, 0, 0.99), (0.1, 1, 0.99))
    ]
    text = pages.render("removals", {"small": content(*found)})
    assert "| seeds | hum, 5 % | hum, 10 % | ACC after |" in text
    assert "| resnet | ft | 5 % | 2 | 50 (25–75) / 50 / – | 99 / 50 / – |" in text


@pytest.mark.parametrize("family", ["robust_training", "purification"])
def test_robust_training_and_purification_are_measured_as_removals_are(family: str) -> None:
    page = pages.page_of(BY_NAME[family])
    assert page == {"robust_training": "untrusted", "purification": "removals"}[family]
    text = pages.render(page, {"small": content(row(family, "abl", acc=0.8, asr=0.25, ra=0.5))})
    assert "| resnet | abl | 5 % | 1 | 25 / 50 / –" in text


def test_attacks_on_two_data_sets_have_a_line_each() -> None:
    other = [
        row("none", "none", acc=0.7, asr=0.5, ra=0.25, data="digits"),
        row("none", "none", 0.0, acc=0.75, asr=0.0, ra=0.5, data="digits"),
    ]
    text = pages.render("attacks", {"small": content(*other)})
    assert re.search(
        r"\| words, resnet \| hum \| 1 \| 92\.0 \| 1\.0 \| 80\.0 \| 90\.0 \| 100\.0 \| 0\.0 ", text
    )
    assert re.search(
        r"\| digits, resnet \| hum \| 1 \| 75\.0 \| 0\.0 \| 50\.0 \| 70\.0 \| 50\.0 \| 25\.0 ", text
    )


def test_a_detector_shows_auroc_and_what_it_finds_at_three_rates_of_false_alarms() -> None:
    scores = {"auroc": 0.987, "tpr_at_1": 0.4, "tpr_at_5": 0.6, "tpr_at_10": 0.8}
    found = [
        row("detection", "strip", **scores),
        row("detection", "strip", 0.0),  # it names no threshold, so nothing is measured on clean data
        row("detection", "psc", **scores, tpr_at_own=0.9, fpr_at_own=0.3),
        row("detection", "psc", 0.0, fpr_at_own=0.025, clean_clips=40),
    ]
    text = pages.render("untrusted", {"small": content(*found)})
    assert "| clean data: FPR at its own threshold (%) |" in text
    assert "| resnet | strip | 5 % | 1 | 0.987 / 40 / 60 / 80 |  |" in text
    assert "| resnet | psc | 5 % | 1 | 0.987 / 40 / 60 / 80 | 2.5 |" in text
    assert "*none*" not in text
    assert "| AUROC | TPR at 1 % FPR (%) | TPR at 5 % FPR (%) | TPR at 10 % FPR (%) |" in text
    (clean,) = [line for line in text.splitlines() if "| 0 % |" in line]
    assert "2.5 [0.4, 12.9]" in clean  # Wilson's interval of 1 of 40


def test_an_inspection_shows_whether_it_is_right_on_backdoored_and_on_clean_models() -> None:
    bad = {"right": 1.0, "flagged": 1.0, "target_found": 0.0, "p_value": 0.012}
    good = {"right": 0.0, "flagged": 1.0, "p_value": 0.2}
    text = pages.render(
        "inspection", {"small": content(row("inspection", "nc", **bad), row("inspection", "nc", 0.0, **good))}
    )
    assert "| resnet | nc | 5 % | 1 | 100 / 100 / 0 / 0.012 | 0 / 100 / – / 0.200 |" in text


def test_time_beside_art_is_that_of_the_detector_of_the_same_paper_on_the_same_arrays() -> None:
    def one(detector: str, rate: float, seconds: float) -> dict[str, Any]:
        found = {"tpr": 0.5, "fpr": 0.25} if rate else {"tpr": None, "fpr": None}
        return {"detector": detector, "poisoning_rate": rate, "seconds": seconds} | found

    rows = [
        one("ART strip", 0.0, 6.0),
        one("closesesame strip", 0.0, 1.5),
        one("ART strip", 0.05, 5.0),
        one("closesesame strip", 0.05, 2.0),
        one("closesesame dynamics", 0.05, 50.0),  # ART has none
    ]
    (said,) = beside_art({"peers_art": {"rows": rows}})
    assert said.words == (
        "With 5 % poisoned: ART strip finds 50.0 % of the poisoned clips and flags 25.0 % of the clean ones; "
        "closesesame strip finds 50.0 % of the poisoned clips and flags 25.0 % of the clean ones; "
        "closesesame dynamics finds 50.0 % of the poisoned clips and flags 25.0 % of the clean ones. "
        "Those of ART take "
        "2.5 to 4.0 times as long as ours of the same paper (goal: 3 times or more)."
    )


def test_an_attack_counts_once_for_the_best_method_at_however_many_rates() -> None:
    found = [
        row("robust_training", "abl", asr=0.4, ra=0.5),
        row("robust_training", "abl", 0.1, asr=0.8, ra=0.5),
        row("robust_training", "abl", asr=0.2, ra=0.5, attack="hiss"),
        row("robust_training", "dlp", asr=0.405, ra=0.5),
    ]
    said = {one.question: one.words for one in best_of_families({"small": content(*found)})}
    assert "Of 2 measured, abl: ASR 40.0 % and RA 50.0 %" in said["Robust training: which does best?"]


def test_a_victim_whose_backdoor_is_hardly_planted_counts_for_detections_alone() -> None:
    found = [
        row("none", "none", asr=0.8),
        row("none", "none", asr=0.79, attack="hiss"),
        row("robust_training", "abl", asr=0.4, ra=0.5),
        row("robust_training", "abl", asr=0.0, ra=0.9, attack="hiss"),
        row("detection", "strip", auroc=0.9, tpr_at_1=0.5),
        row("detection", "strip", auroc=0.7, tpr_at_1=0.3, attack="hiss"),
    ]
    elsewhere = row("robust_training", "abl", asr=0.2, ra=0.7, attack="hiss")
    said = {one.question: one.words for one in best_of_families({"small": content(*found)})}
    assert "abl: ASR 40.0 % and RA 50.0 %" in said["Robust training: how good is abl?"]
    assert "AUROC 0.800" in said["Detections: how good is strip?"]
    both = {"small": content(*found), "other": content(elsewhere)}  # with a victim of its own
    said = {one.question: one.words for one in best_of_families(both)}
    assert "abl: ASR 30.0 % and RA 60.0 %" in said["Robust training: how good is abl?"]


def test_the_best_method_of_a_family_is_the_one_with_the_best_mean() -> None:
    found = [
        row("detection", "strip", auroc=0.9, tpr_at_1=0.5),
        row("detection", "strip", auroc=0.7, tpr_at_1=0.3, attack="hiss"),
        row("detection", "spectre", auroc=0.85, tpr_at_1=0.2),
        row("detection", "spectre", 0.0, attack="pitch"),  # a clean model has no AUROC
        row("purification", "low", asr=0.3, ra=0.6),
        row("purification", "low", 0.0, asr=0.0, ra=0.6),  # no backdoor, so none that was stopped
        row("purification", "high", asr=0.2, ra=0.7),
        row("robust_training", "abl", asr=0.4, ra=0.5),
    ]
    said = {one.question: one.words for one in best_of_families({"small": content(*found)})}
    assert said["Detections: which does best?"] == (
        "Of 2 measured, spectre: AUROC 0.850 and TPR at 1 % FPR 20.0 %, as means over 1 attack; the methods "
        "did not all meet the same cases."
    )
    assert "Of 2 measured, high: ASR 20.0 % and RA 70.0 %" in said["Purifications: which does best?"]
    assert (
        said["Robust training: how good is abl?"] == "abl: ASR 40.0 % and RA 50.0 %, as means over 1 attack."
    )
    assert len(said) == 3
    more = row("detection", "spectre", auroc=0.85, tpr_at_1=0.2, attack="hiss")
    said = {one.question: one.words for one in best_of_families({"small": content(*found, more)})}
    assert said["Detections: which does best?"].endswith("as means over 2 attacks.")
    blind = {"small_test": content(row("detection", "strip", auroc=0.6, tpr_at_1=0.1))}
    (tested,) = best_of_families({"small": content(*found[:3])} | blind)
    assert tested.words.startswith("strip: AUROC 0.600")  # what was tuned on is not counted


def test_clean_label_attacks_are_compared_with_half_of_their_class_poisoned() -> None:
    found = [
        row("none", "none", rate, attack=attack, asr=asr, ra=ra, seed=seed, poisoned_share_of_target=share)
        for rate, share, attack, seed, asr, ra in (
            (0.0, None, "low", 0, 0.03, 0.8),
            (0.0, None, "high", 0, 0.01, 0.8),
            (0.03, 0.3, "low", 0, 0.8, 0.1),
            (0.05, 0.5, "low", 0, 0.2, 0.6),
            (0.05, 0.5, "low", 1, 0.4, 0.5),
            (0.05, 0.48, "high", 0, 0.5, 0.35),
            (0.05, 0.5, "high: no trigger", 0, 0.6, 0.2),
            (0.05, 0.5, "feature_collision: no movement", 0, 0.45, 0.25),
            (0.08, 0.8, "low", 0, 0.9, 0.1),
        )
    ]
    repaired = row("removal", "ft", attack="low", asr=0.0, poisoned_share_of_target=0.5)
    (said,) = clean_labels({"attacks_clean_label": content() | {"rows": [*found, repaired]}})
    assert said.words == (
        "On resnet, with 49.6 % of the target class poisoned, 5 % of all clips, ASR and (in brackets) RA "
        "are 50.0 % (35.0 %; 1 seed) with high and 30.0 % (55.0 %; 2 seeds) with low; where the hardest "
        "clips hold the key and are not moved, 45.0 % (25.0 %; 1 seed). Of models that were never poisoned "
        "ASR is at most "
        "3.0 %. What each part of an attack brings stands in the tables."
    )


def test_dynamics_is_held_to_its_goals_under_the_worst_attack() -> None:
    def of(attack: str, auroc: float, rate: float = 0.05, **more: Any) -> dict[str, Any]:
        settings = {"name": attack} | more.pop("settings", {})
        return row(
            "detection", "dynamics", rate, attack=attack, auroc=auroc, attack_settings=settings, **more
        )

    dirty = [of("pbsm", 0.99), of("warp", 0.9), of("warp", 0.96, seed=1), of("room", 0.97)]
    dirty += [of("room", 0.5, 0.0, fpr_at_own=share) for share in (0.01, 0.02)]
    clean = [of("flowmur", 0.7), of("sig", 0.6, settings={"label_mode": "clean_label"})]
    apart = [of("combat", 0.65, fpr_at_own=0.5)]
    other = row("detection", "strip", attack="a", auroc=0.1)
    (said,) = dynamics(
        {"detections_test": content(*dirty, *clean, other), "clean_label_test": content(*apart)}
    )
    assert said.words == (
        "Where labels are changed, it reaches a mean AUROC of 0.97 under 2 of 3 attacks; the lowest is "
        "0.930, under warp (2 seeds); where none is, it reaches a mean AUROC of 0.85 under 0 of 3 attacks; "
        "the lowest is 0.600, under sig (1 seed); below that goal, too: combat 0.6500, flowmur 0.7000; "
        "of clean data it flags 2.0 % or less at its own threshold (1 seed; goal: 1.0 %), of the clean clips "
        "beside poisoned ones 50.0 % or less."
    )
    assert list(dynamics({"detections_test": content(other)})) == []


def test_what_dynamics_flags_of_poison_is_a_mean_over_seeds_the_lowest_first() -> None:
    def of(attack: str, share: float | None, rate: float = 0.05, **more: Any) -> dict[str, Any]:
        return row("detection", "dynamics", rate, attack=attack, tpr_at_own=share, **more)

    found = [of("room", 0.75), of("room", 0.25, seed=1), of("hiss", 0.25), of("hum", None, 0.0)]
    other = row("detection", "strip", attack="pitch", tpr_at_own=0.0)
    said = flagged_of_poison({"detections_test": content(*found, other)})
    assert list(said.items()) == [("hiss", 0.25), ("room", 0.5)]
    assert flagged_of_poison({}) == {}


def test_the_order_of_learning_is_told_by_attack() -> None:
    def plain(attack: str, clean: float, poisoned: float, rate: float = 0.05) -> dict[str, Any]:
        course = {"clean_fitted": [clean, 1.0], "poisoned_fitted": [poisoned, 1.0]}
        return {"method": "plain", "attack": attack, "poisoning_rate": rate, "course": {"training": course}}

    found = [plain("a", 0.6, 0.9), plain("b", 0.9, 0.4), plain("c", 0.7, 0.9), plain("d", 0.6, 0.6)]
    other = found[0] | {"method": "dlp", "course": {"SL": {}}}
    rows = [*found, other, plain("e", 0.9, 0.4, 0.0)]
    (said,) = learned_first({"courses": {"rows": rows}})
    assert said.words.startswith(
        "Under a and c poisoned clips come first, under b clean clips do and under d neither do. What"
    )
    (said,) = learned_first({"courses": {"rows": [*rows, plain("flowmur", 0.6, 0.9)]}})
    assert "under d neither do. Those of flowmur are of one class, and keep their labels. What" in said.words
    assert list(learned_first({})) == []


def test_alarms_on_backdoored_and_on_clean_models_are_told_apart_and_a_clean_model_counts_once() -> None:
    # nc flags 3 of 4 backdoored models and 1 of 2 clean ones, one of which stands beside three attacks.
    nc = [row("inspection", "nc", flagged=float(seed > 0), right=1.0, seed=seed) for seed in range(4)]
    nc += [row("inspection", "nc", 0.0, flagged=0.0, right=1.0, attack=attack) for attack in ("a", "b", "c")]
    nc.append(row("inspection", "nc", 0.0, flagged=1.0, right=0.0, seed=1))
    said = {one.question: one.words for one in best_of_families({"small": content(*nc)})}
    assert said == {
        "Inspections: how good is nc?": "nc flags 75.0 % of 4 backdoored models and 50.0 % of 2 clean ones."
    }
    # all flags every model: more of the backdoored, and no better than chance.
    everything = [row("inspection", "all", rate, flagged=1.0, right=rate * 20) for rate in (0.0, 0.05)]
    said = {one.question: one.words for one in best_of_families({"small": content(*nc, *everything)})}
    assert said["Inspections: which does best?"].startswith("Of 2 measured, nc flags 75.0 %")
    # Without a clean model nothing is known of false alarms.
    assert not list(best_of_families({"small": content(nc[0])}))


def test_a_grid_names_the_machine_that_it_ran_on() -> None:
    found = content(row("removal", "ft", acc=0.8, asr=0.25, ra=0.5)) | {"host": HOST | {"gpu": "a card"}}
    assert "torch 2.0 on a processor" in pages.render("removals", {"small": found})
    found["machine"] = {"device": "cuda"}
    assert "torch 2.0 on a card" in pages.render("removals", {"small": found})


def test_lengths_of_removals_are_said_of_removals_alone() -> None:
    about = {"version": "v1", "clean_from": "validation", "budgets": ["published", "ours"]}
    said = {"protocol": about | {"steps": 7, "batch_size": 8}, "tuned_on": "Tuned elsewhere."}
    removal = content(row("removal", "ft", acc=0.8, asr=0.25, ra=0.5)) | said
    training = content(row("robust_training", "abl", acc=0.8, asr=0.2, ra=0.5, clean_fraction=None)) | said
    length = "as long as its authors run it, and once more for 7 batches of 8. Tuned elsewhere."
    assert length in pages.render("removals", {"small": removal})
    page = pages.render("untrusted", {"small": training})
    assert "where a method needs any, from speakers the suspect never heard. Tuned elsewhere." in page
    assert "7 batches" not in page


def test_rows_that_were_measured_again_are_compared_and_counted_on_their_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def again(*fresh: dict[str, Any]) -> tuple[int, str, str]:
        old, new = tmp_path / "small.json", tmp_path / "fresh.json"
        old.write_text(json.dumps(content(ft, ep)))
        new.write_text(json.dumps({"rows": fresh}))
        monkeypatch.setattr(sys, "argv", ["benchmarks", "again", str(old), str(new), "--code", "abc"])
        code = run()
        found = json.loads(old.read_text())
        assert found["rows"] == content(ft, ep)["rows"]
        return code, capsys.readouterr().out, pages.render("removals", {"small": found})

    ft = row("removal", "ft", acc=0.8, asr=0.25, clean_from="train", seconds=1.0, held_out_acc=0.9)
    ep = row("removal", "ep", acc=0.7, asr=0.5, clean_from="untrusted")
    code, out, page = again(ft | {"seconds": 9.0}, ep | {"clean_fraction": None}, ft | {"seed": 1})
    assert (code, out) == (0, "2 of 4 rows were measured again, 2 have equal figures\n")
    assert re.search(
        r" 2 of 4 rows were measured again on 20\d\d-\d\d-\d\d \(commit abc\): all figures equal", page
    )
    for name in (*MEASURES, "held_out_acc"):
        code, out, page = again(ft | {name: 0.123}, ep)
        same = name in {"seconds", "peak_mb"}
        assert (code, f"{name} " in out) == (int(not same), not same)
        assert ("1 with equal figures" in page) == (not same)
    with pytest.raises(DataError, match="no fresh row is of"):
        again(ft | {"seed": 1})


def test_a_failed_cell_is_named_and_counted_nowhere() -> None:
    good = row("removal", "ft", acc=0.8, asr=0.25, ra=0.5)
    text = pages.render("removals", {"small": content(good, good | {"seed": 1, "error": "no memory"})})
    assert "Failed: hum, ft: no memory" in text
    assert "| resnet | ft | 5 % | 1 | 25 / 50 / –" in text


def test_cells_say_mean_range_and_what_is_not_known() -> None:
    two = [row("removal", "ft", acc=0.5, asr=0.2), row("removal", "ft", acc=0.6, asr=0.25, seed=1)]
    assert rows.short(two, [ASR, RA]) == "22 (20–25) / –"
    assert rows.short([row("removal", "ft")], [ASR, RA]) == "–"
    assert rows.short([two[0], two[0] | {"asr": 0.209}], [ASR]) == "20"  # less than a point
    assert rows.interval([row("detection", "strip", auroc=0.5)], AUROC) == "0.500"
    assert rows.interval([row("detection", "strip", tpr_at_5=0.0)], TPR_AT_5) == "0.0 [0.0, 43.4]"  # 0 of 5
    assert rows.shown([row("removal", "ft")], ACC) == ""
    assert rows.points(-0.002) == "-0.2"
    assert rows.points(-0.0001) == "0.0"


def test_accuracy_is_lost_against_the_same_suspect() -> None:
    other = [row("none", "none", acc=0.7, seed=1), row("removal", "ft", acc=0.6, seed=1)]
    every = [*BARE, *other, row("removal", "ft", acc=0.85)]
    assert rows.lost_acc(rows.where(every, method="ft"), every) == pytest.approx((0.1 + 0.05) / 2)
    assert rows.lost_acc(BARE, every) is None


def test_a_measured_file_is_called_as_it_is_and_says_where_it_was_measured(tmp_path: Path) -> None:
    found = json.loads(write_measured(tmp_path / "speed.json", [{"clips": 3}], "Short.").read_text())
    assert found["recipe"] == "speed"
    assert found["about"] == "Short."
    assert found["rows"] == [{"clips": 3}]
    assert {"processor", "cores", "torch"} <= found["host"].keys()


def test_what_can_be_run_is_listed_with_a_sentence(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["benchmarks"])
    assert run() == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == list(entries())
    assert {"render", "fuzz", "faults", "engine", "cost", "example"} <= entries().keys()
    assert all(line.endswith((".", "?")) for line in lines)
    monkeypatch.setattr(sys, "argv", ["benchmarks", "nothing"])
    assert run() == 1


def test_small_figures_keep_two_digits_and_headings_name_their_unit_once() -> None:
    given = [0.0028, 0.0996, 0.1, 0.00001, 0.0, -0.05, 12.345, 123.4, None, 7]
    shown = ["0.0028", "0.1", "0.10", "0.00", "0.00", "-0.05", "12.35", "123", "", "7"]
    assert [rows.plain(one) for one in given] == shown
    lines = pages.as_they_are({"rows": [{"gain at 0 dB_dB": 1, "ACC_%": 2, "peak_mb": 3}], "host": HOST})
    assert lines[1].splitlines()[0] == "| gain at 0 dB, dB | ACC, % | peak mb |"
