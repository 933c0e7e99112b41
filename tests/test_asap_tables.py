"""The tables of ASAP beside the paper's figures: which cell stands where, and how ASR is counted there."""

from typing import Any

from benchmarks.render.asap import ATTACKS, DEFENCES, PAPER, choices, main_table


def row(attack: str, method: str, rate: float, seed: int = 3, **more: Any) -> dict[str, Any]:
    """A row of a grid with 50 test clips, 40 of them of other classes than the target."""
    return {
        "data": "words",
        "model": "resnet",
        "attack": attack,
        "method": method,
        "poisoning_rate": rate,
        "seed": seed,
        "test_clips": 50,
        "triggered_clips": 40,
        "error": None,
        "acc": 0.98,
        "asr": 0.5,
        "ra": 0.25,
        **more,
    }


def lines_of(parts: list[str]) -> list[list[str]]:
    """The cells of the last table."""
    return [[cell.strip() for cell in line[1:-1].split("|")] for line in parts[-1].splitlines()[2:]]


def content(*rows: dict[str, Any]) -> dict[str, Any]:
    """A result file."""
    return {"about": "About.", "tuned_on": "Nothing was chosen.", "rows": list(rows)}


def test_each_defence_stands_beside_its_figures_in_the_paper() -> None:
    rows = [row(attack, method, 0.05) for attack in ATTACKS for method in [*reversed(DEFENCES), "restore"]]
    clean = [row(attack, "none", 0.0, asr=0.1, ra=0.9) for attack in ATTACKS]
    found = lines_of(main_table(content(*rows, *clean)))
    assert [line[:3] for line in found[:10]] == [
        ["badnets: airplane", "*none*, never poisoned", ""],
        ["badnets: airplane", "*none*", "Baseline"],
        *(["badnets: airplane", f"`{name}`", DEFENCES[name]] for name in list(DEFENCES)[1:]),
        ["badnets: airplane", "`restore`", ""],
    ]
    assert [line[-1] for line in found[1:9]] == [PAPER[name][0] for name in DEFENCES.values()]
    assert found[12][-1] == PAPER["Aut."][1]
    assert found[29][-1] == ""


def test_asr_is_counted_as_in_the_paper_beside_ours() -> None:
    rows = [row("pbsm", "asap", 0.05, 3, asr=0.5), row("pbsm", "asap", 0.05, 4, asr=0.25)]
    [acc, asr, counted, ra, bac, paper] = lines_of(main_table(content(*rows)))[-1][3:]
    assert acc.startswith("98.0 [")
    assert asr.startswith("37.5 [")
    assert asr.endswith("(25.0 to 50.0)")
    assert counted == "30.0 (20.0 to 40.0)"
    assert ra.startswith("25.0 [")
    assert bac == "20.0 to 40.0"  # a fifth of the clips is of the target label
    assert paper == "99.71 / 22.57 / 17.14"


def test_data_sets_have_tables_of_their_own() -> None:
    parts = main_table(content(row("vsvc", "asa", 0.05), row("vsvc", "asa", 0.05, data="speakers")))
    assert [part for part in parts if part.startswith("#")] == ["### Words", "### Speakers"]
    assert "| vsvc | `asa` | ASA |" in parts[2]
    assert parts[-1].count("`asa`") == 1


def test_choices_stand_beside_the_figures_of_the_same_rate_sound_or_threshold() -> None:
    cells = [
        ("badnets: airplane", 0.05, "asap", "99.71 / 2.00 / 90.57"),
        ("pbsm", 0.1, "asap", "97.43 / 24.00 / 18.29"),
        ("vsvc", 0.01, "asap: T 0.2", "100.00 / 27.14 / 12.29"),
        ("vsvc", 0.05, "asap: T 0.2", "100.00 / 27.14 / 12.29"),
        ("pbsm", 0.01, "asap: T 0.6", "99.71 / 24.29 / 16.00"),
        ("pbsm", 0.01, "asap: T 0.3", "99.71 / 23.71 / 16.29"),
        ("vsvc", 0.01, "asap: T 0.4", "100.00 / 27.43 / 12.29"),
        ("badnets: train", 0.01, "asap", "98.86 / 2.14 / 90.23"),
        ("badnets: train", 0.05, "asap", ""),
        ("badnets: train", 0.01, "asap: T 0.6", ""),
        ("pbsm", 0.01, "none", ""),
        ("pbsm", 0.01, "asap: T 0.2 of activity", ""),
    ]
    for attack, rate, method, expected in cells:
        [line] = lines_of(choices(content(row(attack, method, rate))))
        assert line[:2] == [attack, f"{100 * rate:g} %"]
        assert (line[8] if len(line) > 8 else "") == expected, (attack, rate, method)


def test_choices_show_the_clean_model_and_no_repair_of_it() -> None:
    rows = [row("pbsm", "asap", rate) for rate in (0.0, 0.01)] + [row("pbsm", "none", 0.0)]
    found = [line[1:3] for line in lines_of(choices(content(*rows)))]
    assert found == [["0 %", "*none*"], ["1 %", "`asap`"]]


def test_models_that_were_never_poisoned_have_a_line_of_their_own() -> None:
    rows = [row("vsvc", "none", 0.0, asr=0.1, ra=0.9), row("vsvc", "none", 0.05, asr=0.9, ra=0.05)]
    rows += [row("vsvc", "asap", 0.0, asr=0.0, ra=0.8), row("vsvc", "asap", 0.05, asr=0.2, ra=0.6)]
    found = lines_of(main_table(content(*rows)))
    assert [line[1] for line in found] == ["*none*, never poisoned", "*none*", "`asap`"]
    assert [line[4].split(" ")[0] for line in found] == ["10.0", "90.0", "20.0"]
    assert [line[6].split(" ")[0] for line in found] == ["90.0", "5.0", "60.0"]


def test_bac_counts_the_clips_of_each_seed() -> None:
    rows = [row("pbsm", "asap", 0.05, 3), row("pbsm", "asap", 0.05, 4, test_clips=100)]
    # 0.25 of 0.8 and of 0.4 of the clips; the others are right at best.
    assert lines_of(main_table(content(*rows)))[-1][7] == "15.0 to 55.0"
