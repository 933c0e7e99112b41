"""The page of a grid: its numbers are those of the cells, hostile names are words, and a browser draws it."""

import base64
import hashlib
import json
import math
import re
import statistics
from collections import Counter
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from closesesame import report
from closesesame.evaluation import wilson
from closesesame.evaluation.measures import P_VALUE, RIGHT
from closesesame.report.pages import grid as page
from closesesame.report.pages.grid import Grid, GridCell, grid_html, write_grid

from .pages import DETECTION, REMOVAL, Page, browse, needs_browser, width_of

TEMPLATES = Path(report.__file__).parent / "templates"
HOSTILE = "</script><script>alert(1)</script><!--<script>\"'&amp;\u2028\u2029<img src=x onerror=y>"
POLICY = "Content-Security-Policy"
WAV = base64.b64decode("UklGRiYAAABXQVZFZm10IBAAAAABAAEAQB8AAIA+AAACABAAZGF0YQIAAAAAAA==")


def a_cell(number: int = 0, *, sounds: tuple[bytes, bytes] | None = None, **changes: Any) -> GridCell:
    row = {
        "data": "words",
        "task": "word",
        "model": "resnet",
        "attack": "badnets",
        "poisoning_rate": 0.05,
        "clean_fraction": 0.05,
        "family": "removal",
        "method": "ft",
        "seed": number,
        "acc": 0.94,
        "asr": 3 / 90,
        "ra": 0.9,
        "ra_reference": 83 / 90,
        "der": 0.96449,
        "seconds": 12.5,
        "peak_mb": 700,
        "test_clips": 100,
        "triggered_clips": 90,
        "training_clips": 2330,
        "poisoned_clips": 116,
        "poisoned_share_of_target": 0.5,
        "settings": {"lr": 0.01},
        "attack_settings": {"name": "badnets", "rate": 0.05},
        "training_settings": {"epochs": 30},
        "error": None,
        "state": "done",
    }
    if changes.get("method") == "none":
        row |= {"family": "none", "clean_fraction": None, "der": None, "settings": {}}
    return GridCell.of({"id": f"cell-{number}"} | row | changes, sounds)


def failed(number: int = 0, error: str | None = "It broke.", **changes: Any) -> GridCell:
    unknown = dict.fromkeys(("acc", "asr", "ra", "ra_reference", "der", "seconds"))
    return a_cell(number, **{**changes, **unknown, "state": "failed", "error": error})


def a_grid(*cells: GridCell, **changes: Any) -> Grid:
    about = {"name": "A grid", "about": "What removes.", "host": {"processor": "Z80", "gpu": None}}
    return Grid(**{**about, "families": (REMOVAL,), "cells": cells, **changes})


def content(*cells: GridCell) -> Any:
    return Page(grid_html(a_grid(*cells))).json("content")


# What the page holds


def test_numbers_are_the_means_of_the_seeds_with_wilson_intervals() -> None:
    asrs, accs = (3 / 90, 9 / 90, 30 / 90), (0.94, 0.93, 0.9)
    cells = [
        a_cell(seed, asr=asr, acc=acc, seconds=10.0 + seed)
        for seed, (asr, acc) in enumerate(zip(asrs, accs, strict=True))
    ]
    found = content(*cells)
    (field,) = found["fields"]
    figures = field["figures"]
    # Mean, Wilson's interval on the clips of one seed, and the range over the seeds.
    mean_asr = [statistics.fmean(asrs), *wilson(14 / 90, 90), 3 / 90, 30 / 90]
    mean_acc = [statistics.fmean(accs), *wilson(0.92333333, 100), 0.9, 0.94]
    assert figures["asr"] == pytest.approx(mean_asr, abs=1e-6)
    assert figures["acc"] == pytest.approx(mean_acc, abs=1e-6)
    reference = [83 / 90, *wilson(83 / 90, 90), 83 / 90, 83 / 90]
    assert figures["ra_reference"] == pytest.approx(reference, abs=1e-6)
    assert (figures["der"], figures["seconds"], figures["peak_mb"]) == ([0.96449], [11.0], [700])
    assert field["cells"] == [0, 1, 2]
    for cell, asr in zip(found["cells"], asrs, strict=True):
        assert cell["figures"]["asr"] == pytest.approx([asr, *wilson(asr, 90)], abs=1e-6)
    # 3 of 90 by Wilson's formula, worked out apart from our code.
    assert [round(100 * end, 1) for end in found["cells"][0]["figures"]["asr"]] == [3.3, 1.1, 9.3]


def test_mean_is_of_what_was_done_and_of_nothing_less() -> None:
    found = content(a_cell(0, acc=0.5), failed(1), a_cell(2, state="pending", acc=None))
    assert found["fields"][0]["figures"]["acc"][0] == 0.5
    assert [cell["state"] for cell in found["cells"]] == ["done", "failed", "pending"]
    # A mean over seeds of which one has no value would be that of another set of seeds.
    found = content(a_cell(0), a_cell(1, der=None, ra=math.nan))
    assert not {"der", "ra"} & set(found["fields"][0]["figures"])
    assert {"acc", "asr"} <= set(found["fields"][0]["figures"])
    assert content(failed())["fields"][0]["figures"] == {}


def test_interval_is_that_of_the_smallest_test_and_needs_its_size() -> None:
    figures = content(a_cell(0, triggered_clips=50), a_cell(1, test_clips=None))["fields"][0]["figures"]
    assert figures["asr"] == pytest.approx([3 / 90, *wilson(3 / 90, 50), 3 / 90, 3 / 90], abs=1e-6)
    assert figures["acc"] == [0.94]


def test_fields_differ_by_all_but_the_seed() -> None:
    apart: dict[str, Any] = {
        "data": "digits",
        "model": "kwt",
        "poisoning_rate": 0.01,
        "clean_fraction": 0.1,
        "attack": "pbsm",
        "method": "gnft",
    }
    cells = [a_cell(0), *(a_cell(n, **{k: v}) for n, (k, v) in enumerate(apart.items(), 1)), a_cell(9)]
    found = content(*cells)
    assert [field["cells"] for field in found["fields"]] == [[0, 7], [1], [2], [3], [4], [5], [6]]
    for number, (name, value) in enumerate(apart.items(), 1):
        where = found["cells"][number]["place"][page.PLACE.index(name)]
        assert found["places"][name][where] == value


def test_places_are_in_order() -> None:
    cells = [
        a_cell(1, poisoning_rate=0.1, attack="z"),
        a_cell(0, poisoning_rate=0, attack="a"),
        a_cell(1, poisoning_rate=0.0, method="none"),
    ]
    places = content(*cells)["places"]
    assert places["poisoning_rate"] == [0, 0.1]
    assert places["clean_fraction"] == [0.05]
    assert places["seed"] == [0, 1]
    assert places["attack"] == ["z", "a", "badnets"]
    assert places["method"] == ["none", "ft"]
    assert content(a_cell(method="none"))["cells"][0]["place"][3] is None


def test_one_name_with_two_settings_is_two_methods() -> None:
    cells = [
        a_cell(0, method="gnft", settings={}),
        a_cell(0, method="gnft", settings={"lr": 0.01}),
        a_cell(0, method="ft", settings={"lr": 0.1}),
        a_cell(0, method="ft", settings={"lr": 0.1}, attack_settings={"rate": 0.2}),
    ]
    found = content(*cells)
    assert found["places"]["method"] == ["gnft", "gnft (lr 0.01)", "ft"]
    assert found["places"]["attack"] == ["badnets"]  # another poisoning rate is no other attack
    assert len(found["fields"]) == 3


def test_settings_and_counts_are_kept() -> None:
    cell = content(a_cell(chosen={"lr": 0.003}))["cells"][0]
    assert cell["counts"] == {
        "training_clips": 2330,
        "poisoned_clips": 116,
        "poisoned_share_of_target": 0.5,
        "test_clips": 100,
        "triggered_clips": 90,
    }
    found = content(a_cell(0, chosen={"lr": 0.003}), a_cell(1, training_settings=None))
    settings = [{k: found["settings"][v] for k, v in cell["settings"].items()} for cell in found["cells"]]
    assert settings[0] == {
        "attack_settings": {"name": "badnets", "rate": 0.05},
        "settings": {"lr": 0.01},
        "chosen": {"lr": 0.003},
        "training_settings": {"epochs": 30},
    }
    assert settings[1]["training_settings"] == {}


def test_what_json_cannot_say_is_null() -> None:
    found = content(
        a_cell(
            acc=math.nan, asr=math.inf, settings={"a": math.inf, "b": [math.nan], "c": Path("x"), 1: (1, 2)}
        )
    )
    assert not {"acc", "asr"} & set(found["cells"][0]["figures"])
    assert {"a": None, "b": [None], "c": "x", "1": [1, 2]} in found["settings"]


def test_sounds_are_whole_and_held_once() -> None:
    cells = [
        a_cell(0, method="none", sounds=(b"clean", b"one")),
        a_cell(0, method="none", attack="pbsm", sounds=(b"clean", b"two\xff")),
    ]
    found = Page(grid_html(a_grid(*cells, a_cell(1))))
    held = [base64.b64decode(coded) for coded in found.json("sounds")]
    assert held == [b"clean", b"one", b"two\xff"]
    assert [cell["sounds"] for cell in found.json("content")["cells"]] == [[0, 1], [0, 2], None]


def test_counts_and_host_are_said() -> None:
    found = Page(grid_html(a_grid(a_cell(0), a_cell(1), failed(2), a_cell(3, state="leased"))))
    said = [" ".join(words.split()) for _, words in found.all("li")]
    assert said == ["4 cells", "2 done", "1 failed", "1 pending"]
    names = [words for _, words in found.all("dt")]
    assert "processor" in names
    assert "gpu" not in names


def test_verdict_and_origin_stand_at_the_top() -> None:
    victims = [a_cell(seed, method="none", asr=asr) for seed, asr in enumerate((1.0, 0.9, 0.05))]
    cells = [
        *victims,
        a_cell(0, acc=0.9),
        a_cell(1, ra=0.1),
        a_cell(2),  # of a victim on which the trigger did not work
        a_cell(0, method="gnft", asr=0.5),
        a_cell(1, method="gnft", asr=None),
        failed(0, method="nad"),
    ]
    found = Page(grid_html(a_grid(*cells, made="2026-11-26 01:18 UTC", command="sesame bench report 'a b'")))
    assert verdict(found) == (
        "Verdict Without a method, 2 of 3 models have ASR of 10 % or more. Removals: of 3 models, 1 has ASR "
        "under 10 % and RA within 10 points of the clean reference model. 1 has ASR under 10 % but lower RA: "
        "the trigger still causes errors, but not the attacker's target label. 1 has ASR of 10 % or more. "
        "ACC fell by more than 2 points in 1. Not counted: 1 where the trigger did not work before."
    )
    assert found.text.index("Verdict") < found.text.index("9 cells") < found.text.index("Attacks and methods")
    origin = dict(
        zip([words for _, words in found.all("dt")], [words for _, words in found.all("dd")], strict=True)
    )
    wanted = {"date": "2026-11-26 01:18 UTC", "data": "words", "models": "resnet", "seeds": "0, 1, 2"}
    assert wanted.items() <= origin.items()
    assert found.words("pre") == "sesame bench report 'a b'"
    assert "<pre" not in grid_html(a_grid(a_cell()))


def verdict(found: Page) -> str:
    return " ".join(found.words("div", id="verdict").split())


def test_method_is_judged_against_its_own_victim() -> None:
    same: dict[str, Any] = {"attack_settings": {"name": "badnets", "rate": 0.05}, "seed": 0}
    cells = [
        a_cell(0, method="none", asr=0.9, acc=0.94, **same),
        a_cell(1, method="none", asr=0.9, acc=0.99, **{**same, "seed": 1}),
        a_cell(2, acc=0.94, **same),
    ]
    assert "ACC fell" not in verdict(Page(grid_html(a_grid(*cells))))


def test_settings_do_not_say_where_files_lie_and_stay_apart() -> None:
    cells = [
        a_cell(n, attack_settings={"name": "badnets", "sound": f"/home/{who}/beep.wav", "gain": 0.1234567})
        for n, who in enumerate(("alice", "bob", "alice"))
    ]
    html = grid_html(a_grid(*cells))
    assert "/home" not in html
    found = Page(html).json("content")
    label = "badnets (sound beep.wav, gain 0.1235)"
    assert found["places"]["attack"] == [label, f"{label} #2"]
    assert [field["cells"] for field in found["fields"]] == [[0, 2], [1]]


# What it cannot do


def test_hostile_names_do_not_break_out() -> None:
    names: dict[str, Any] = dict.fromkeys(("data", "task", "model", "attack", "method", "error"), HOSTILE)
    cell = failed(**{**names, "id": HOSTILE, "family": HOSTILE, "settings": {HOSTILE: HOSTILE}})
    html = grid_html(
        a_grid(cell, name=HOSTILE, about=HOSTILE, host={HOSTILE: HOSTILE}, made=HOSTILE, command=HOSTILE)
    )
    found, harmless = Page(html), Page(grid_html(a_grid(failed(), made="x", command="x")))
    assert Counter(tag for tag, _ in found.tags) == Counter(tag for tag, _ in harmless.tags)
    assert found.comments == []
    assert not {name for _, attrs in found.tags for name in attrs if name.startswith("on")}
    assert [found.words(tag) for tag in ("title", "h1")] == [HOSTILE, HOSTILE]
    said = found.json("content")
    assert all(said["places"][name] == [HOSTILE] for name in ("data", "model", "attack", "family", "method"))
    assert (said["cells"][0]["id"], said["cells"][0]["error"]) == (HOSTILE, HOSTILE)
    assert {HOSTILE: HOSTILE} in said["settings"]
    for name in ("content", "sounds"):
        assert not set("<>&\u2028\u2029") & set(found.words("script", id=name))


@pytest.mark.parametrize(
    "name", ["$x", "\0\x08", "\udcff", "\u202eevil", "", "停🔒", "x" * 5000, "__proto__"]
)
def test_any_name_can_be_written(name: str, tmp_path: Path) -> None:
    grid = a_grid(a_cell(attack=name, settings={name: name}), name=name, about=name)
    found = Page(write_grid(grid, tmp_path / "grid.html").read_text("utf-8"))
    assert found.json("content")["places"]["attack"] == [name]


def test_page_is_one_file_that_may_run_our_script_only() -> None:
    html = grid_html(a_grid(a_cell(method="none", sounds=(b"a", b"b")), failed(1)))
    found = Page(html)
    for name in ("src", "srcset", "poster", "action", "background", "data", "style"):
        assert found.attributes(name) == [], name
    assert found.attributes("href") == ["data:,"]
    assert re.findall(r"https?:|//[a-z]+\.|@import|url\(", html) == []
    (policy,) = [attrs["content"] for attrs, _ in found.all("meta") if attrs.get("http-equiv") == POLICY]
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
    ((_, css),) = found.all("style")
    ((_, script),) = [(attrs, words) for attrs, words in found.all("script") if not attrs]
    for text, rule in ((css, "style-src"), (script, "script-src")):
        hashed = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert rules[rule] == f"'sha256-{hashed}'"
    assert rules["default-src"] == rules["base-uri"] == rules["form-action"] == "'none'"
    assert rules["img-src"] == rules["media-src"] == "data:"
    assert rules["require-trusted-types-for"] == "'script'"


def test_script_makes_elements_and_words_only() -> None:
    script = (TEMPLATES / "grid.js").read_text("utf-8")
    forbidden = r"innerHTML|outerHTML|insertAdjacent|document\.write|\beval\b|Function\(|srcdoc|DOMParser"
    forbidden += r"|createContextualFragment|fetch\(|XMLHttp|import\(|localStorage"
    assert re.findall(forbidden, script) == []
    assert "</" not in script
    assert "<!--" not in script


def test_references_inside_of_the_page_resolve() -> None:
    found = Page(grid_html(a_grid(a_cell())))
    ids = Counter(found.attributes("id"))
    assert [name for name, count in ids.items() if count > 1] == []
    named = found.attributes("aria-labelledby") + found.attributes("for")
    script = (TEMPLATES / "grid.js").read_text("utf-8")
    looked_up = set(re.findall(r'find\("([\w-]+)"\)', script))
    assert len(looked_up) > 15
    assert {*named, *looked_up} - set(ids) == {"panel-title", "heat-map"}  # the script makes these two


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_numbers_on_the_colours_can_be_read(scheme: str) -> None:
    parts = (TEMPLATES / "grid.css").read_text("utf-8").split("@media", 2)
    colours = dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6})", parts[scheme == "dark"]))
    ink = dict.fromkeys((0, 1, 9, 10), "on-end") | dict.fromkeys((2, 8), "on-step")
    for step in range(11):
        on = colours[ink.get(step, "on-middle")]
        low, high = sorted((luminance(colours[f"s{step}"]), luminance(on)))
        assert (high + 0.05) / (low + 0.05) >= 4.5, (step, on)  # WCAG 2.2, 1.4.3


def luminance(colour: str) -> float:
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


# How it is written


def test_same_grid_same_page() -> None:
    assert grid_html(a_grid(a_cell(), failed(1))) == grid_html(a_grid(a_cell(), failed(1)))


def test_write_makes_folders_and_replaces(tmp_path: Path) -> None:
    path = tmp_path / "new" / "grid.html"
    assert write_grid(a_grid(name="first"), path) == path
    write_grid(a_grid(name="second"), path)
    assert path.read_text("utf-8") == grid_html(a_grid(name="second"))
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("broken", ["render", "disk"])
def test_failed_write_leaves_the_old_page(
    broken: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "grid.html"
    path.write_text("old", encoding="utf-8")

    def fail(*args: object, **settings: object) -> None:
        raise OSError("no")

    monkeypatch.setattr(*{"render": (page, "grid_html"), "disk": (Path, "replace")}[broken], fail)
    with pytest.raises(OSError, match="no"):
        write_grid(a_grid(a_cell()), path)
    assert path.read_text(encoding="utf-8") == "old"
    assert list(tmp_path.iterdir()) == [path]


# What a browser makes of it


def many_cells() -> list[GridCell]:
    """240: six attacks, ten methods, two rates, two seeds; of which some failed or wait."""
    attacks = [HOSTILE, "pbsm", "ultrasonic", "flowmur", "daba", "style"]
    methods = ["none", "ft", "anp", "nad", "clp", "gnft", "i_bau", "fine_pruning", "ft_augmented", HOSTILE]
    cells: list[GridCell] = []
    for a, r, d, s in product(range(6), range(2), range(10), range(2)):
        number = len(cells)
        changes: dict[str, Any] = {
            "attack": attacks[a],
            "poisoning_rate": (0.01, 0.05)[r],
            "method": methods[d],
            "seed": s,
            "asr": (a * 10 + d + s) / 90,
            "acc": (99 - d - s) / 100,
        }
        if (a, r, d) == (1, 1, 1) or (a, r, d, s) == (2, 1, 1, 0):
            cells.append(failed(number, f"{HOSTILE} in cell {number}.", **changes))
        elif (a, r, d, s) == (3, 1, 1, 1):
            cells.append(a_cell(number, **changes, state="pending"))
        else:
            sounds = (WAV, WAV + b"\0") if d == s == 0 else None
            cells.append(a_cell(number, sounds=sounds, **changes))
    return cells


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> tuple[Page, list[str]]:
    """The page of 240 cells, a field of which is opened by the address, as the browser has it."""
    folder = tmp_path_factory.mktemp("grid")
    path = write_grid(a_grid(*many_cells()), folder / "grid.html")
    return opened(f"{path.as_uri()}#cell=cell-23", folder / "profile")


@needs_browser
def test_browser_draws_the_map(drawn: tuple[Page, list[str]]) -> None:
    found, complaints = drawn
    assert complaints == []
    assert found.all("table", id="heat-map")
    fields = [attrs for attrs, _ in found.all("button") if attrs.get("class", "").startswith("field ")]
    assert len(fields) == 60
    said = {attrs["aria-label"]: attrs["class"] for attrs in fields}
    low, high = (f"{100 * end:.1f}" for end in wilson(12.5 / 90, 90))
    space = "\N{NO-BREAK SPACE}"
    label = f"pbsm, anp: ASR {1250 / 90:.1f}{space}% [{low}, {high}], mean of 2 seeds"
    assert said[label] == "field s1"  # 14 % is bad by one step of ten
    assert said["pbsm, ft: ASR failed"] == "field failed-field"
    (partly,) = [label for label in said if label.startswith("ultrasonic, ft: ")]
    assert partly.endswith("mean of 1 seed, 1 failed")
    (waiting,) = [label for label in said if label.startswith("flowmur, ft: ")]
    assert waiting.endswith("mean of 1 seed, not all done")
    assert found.elements[0][1]["data-loaded-ms"].isdigit()


@needs_browser
def test_browser_draws_the_rest(drawn: tuple[Page, list[str]]) -> None:
    found, _ = drawn
    points = [attrs for attrs, _ in found.all("g") if attrs.get("class", "").split()[:1] == ["point"]]
    assert len(points) == 59
    assert found.words("ul", id="times").count("12.5") == 9
    rows = [words for _, words in found.all("tr")]
    assert sum("failed" in words for words in rows) == 3
    assert len([attrs for attrs, _ in found.all("a") if attrs["href"].startswith("#cell=cell-")]) == 240 + 3
    failures = found.words("div", id="failures")
    assert all(f"{HOSTILE} in cell {number}." in failures for number in (62, 63, 102))
    assert all(attrs.get("aria-sort") == "none" for attrs, _ in found.all("th") if "aria-sort" in attrs)
    assert len([attrs for attrs, _ in found.all("th") if "aria-sort" in attrs]) == 15


@needs_browser
def test_browser_opens_the_field_of_the_address(drawn: tuple[Page, list[str]]) -> None:
    found, _ = drawn
    ((panel, words),) = found.all("aside")
    assert "hidden" not in panel
    assert found.words("h3", id="panel-title") == f"{HOSTILE}, ft"
    asr = 1.5 / 90
    low, high = (f"{100 * end:.1f}" for end in wilson(asr, 90))
    assert f"{100 * asr:.1f}{low} \N{EN DASH} {high}" in words  # of the mean
    assert "poisoned clips116" in words
    players = [attrs["src"] for attrs, _ in found.all("audio")]
    assert [base64.b64decode(src.partition(",")[2]) for src in players] == [WAV, WAV + b"\0"]
    (pressed,) = [
        attrs
        for attrs, _ in found.all("button")
        if "field" in attrs.get("class", "") and attrs.get("aria-pressed") == "true"
    ]
    assert pressed["aria-label"].startswith(f"{HOSTILE}, ft: ")


@needs_browser
def test_browser_runs_nothing_of_what_is_shown(drawn: tuple[Page, list[str]]) -> None:
    found, _ = drawn
    assert len(found.all("script")) == 3
    assert found.all("img") == []
    assert found.comments == []
    assert not {name for _, attrs in found.tags for name in attrs if name.startswith("on")}


HANDS = """
const said = {}, all = (where) => [...document.querySelectorAll(where)], one = (where) => all(where)[0];
const pressed = (key) => new KeyboardEvent("keydown", { key, bubbles: true });
const press = (key) => document.activeElement.dispatchEvent(pressed(key));
const choose = (id, value) => { one(id).value = value; one(id).onchange(); };
const label = () => document.activeElement.getAttribute("aria-label");
const column = (number) => all(".rows tbody tr").map((row) => row.cells[number].textContent);
const first = () => one("#heat-map .field").getAttribute("aria-label");
const sort = all(".rows thead button")[9];
sort.click(); said.up = column(9);
sort.click(); said.down = column(9);
said.sorted = all(".rows th[aria-sort]").map((head) => head.getAttribute("aria-sort"));
one("#find").value = "PBSM gnft"; one("#find").oninput();
said.found = [one("#found").textContent, all(".rows tbody tr").filter((row) => !row.hidden).length];
one("#heat-map .field").focus();
for (const key of ["ArrowRight", "ArrowDown", "ArrowDown", "ArrowUp", "ArrowLeft", "ArrowLeft"]) press(key);
said.focus = label();
document.activeElement.click();
said.panel = [one("#panel").hidden, document.activeElement.id, location.hash];
press("Escape");
said.shut = [one("#panel").hidden, label(), location.hash];
choose("#choose-seed", "1"); said.seed = first();
choose("#choose-poisoning_rate", "0"); said.rate = location.hash;
choose("#choose-seed", "");
said.shown = Object.fromEntries(["asr", "ra", "acc", "der", "seconds"].map((name) => {
  one("#show-" + name).click();
  const field = all("#heat-map .field")[1];
  return [name, [field.className, field.textContent]];
}));
one("#zoom").click(); said.points = all(".point").length;
one("#keys button").click(); said.faded = all(".point.faded").length;
const end = document.createElement("pre");
end.id = "said"; end.textContent = JSON.stringify(said); document.body.append(end);
"""


@needs_browser
def test_browser_obeys_hands(tmp_path: Path) -> None:
    html = grid_html(a_grid(*many_cells()))
    html = re.sub(f'<meta http-equiv="{POLICY}".*?>', "", html).replace(
        "</body>", f"<script>{HANDS}</script></body>"
    )
    path = tmp_path / "grid.html"
    path.write_text(html, "utf-8")
    found, complaints = opened(path.as_uri(), tmp_path / "profile")
    assert complaints == []
    said = json.loads(found.words("pre", id="said"))
    asrs = [cell.figures["asr"] for cell in many_cells() if "asr" in cell.figures]
    assert said["up"] == [f"{100 * asr:.1f}" for asr in sorted(asrs)] + ["\N{EN DASH}"] * 3
    assert said["down"] == [f"{100 * asr:.1f}" for asr in sorted(asrs, reverse=True)] + ["\N{EN DASH}"] * 3
    assert said["sorted"] == ["none"] * 9 + ["descending"] + ["none"] * 5
    assert said["found"] == ["4 of 240 cells", 4]
    assert said["focus"].startswith("pbsm, none: ASR 11.7")
    assert said["panel"] == [False, "panel-title", "#cell=cell-60"]
    assert said["shut"] == [True, said["focus"], ""]
    assert said["seed"].startswith(f"{HOSTILE}, none: ASR {100 / 90:.1f}")
    assert "mean" not in said["seed"]
    assert said["rate"] == "#poisoning_rate=0.01&seed=1"
    assert said["shown"] == {
        "asr": ["field s0", "1.7"],
        "ra": ["field s0", "90.0/ 92.2"],
        "acc": ["field s1", "97.5"],  # the scale of ACC begins at the lowest, here 80 %
        "der": ["field s0", "0.964"],
        "seconds": ["field s0", "12.5"],
    }
    near = [n for n in range(60) if (n + 0.5) / 90 <= 0.25]
    assert said["points"] == len(near)
    assert said["faded"] == len([n for n in near if n % 10])


# Families


def test_a_measure_that_is_yes_or_no_is_counted() -> None:
    family = DETECTION._replace(measures=(RIGHT, P_VALUE))
    cells = [a_cell(n, family="detection", right=bool(n), p_value=0.01) for n in range(3)]
    assert verdict(Page(grid_html(a_grid(*cells, families=(family,))))) == (
        "Verdict Detection: right in 2 of 3 results."
    )


def two_families() -> list[GridCell]:
    """A victim with a removal and a detector, two seeds each."""
    cells = []
    for seed in range(2):
        cells += [
            a_cell(3 * seed, method="none", seed=seed, asr=0.9),
            a_cell(3 * seed + 1, seed=seed),
            a_cell(3 * seed + 2, seed=seed, family="detection", method="ft", auroc=0.75 + 0.1 * seed),
        ]
    return [replace(c, figures={"auroc": c.figures["auroc"]}) if "auroc" in c.figures else c for c in cells]


def test_attacks_on_models_are_measures_of_what_makes_models_where_a_cell_knows_them() -> None:
    cells = [replace(cell, figures={**cell.figures, "retune_5": 0.5}) for cell in two_families()]
    said = Page(grid_html(a_grid(*cells, families=(REMOVAL, DETECTION)))).json("content")
    assert [family["measures"][-1] for family in said["families"]] == ["retune_5", "tpr_at_1"]
    assert "retune_5" in {measure["key"] for measure in said["measures"]}


def test_each_family_is_told_by_its_own_measures() -> None:
    found = Page(grid_html(a_grid(*two_families(), families=(REMOVAL, DETECTION))))
    assert verdict(found) == (
        "Verdict Without a method, 2 of 2 models have ASR of 10 % or more. Removals: of 2 models, 2 have "
        "ASR under 10 % and RA within 10 points of the clean reference model. Detection: AUROC of 2 results "
        "is 0.800 on average, 0.750 to 0.850."
    )
    said = found.json("content")
    assert said["families"] == [
        {
            "name": "removal",
            "title": "Removals",
            "measures": ["asr", "ra", "acc", "der"],
            "plane": ["asr", "acc"],
        },
        {"name": "detection", "title": "Detection", "measures": ["auroc", "tpr_at_1"], "plane": None},
    ]
    # One name in two families is two methods.
    assert [(field["cells"], field["bare"]) for field in said["fields"]] == [
        ([0, 3], True),
        ([1, 4], False),
        ([2, 5], False),
    ]
    assert said["fields"][2]["figures"] == {"auroc": [0.8]}
    assert {"AUROC", "TPR at 1 % FPR"} <= {words.strip() for _, words in found.all("dt")}


REMOVALS_TAB = (
    "Removals",
    ["none: ASR 90.0", "ft: ASR 3.3"],
    ["ASR", "RA", "ACC", "DER", "Seconds", "Peak memory"],
)
DETECTION_TAB = ("Detection", ["ft: AUROC 0.800"], ["AUROC", "TPR at 1 % FPR", "Seconds", "Peak memory"])


@needs_browser
@pytest.mark.parametrize(
    ("address", "tab"),
    [
        ("", REMOVALS_TAB),
        ("#family=detection", DETECTION_TAB),
        ("#cell=cell-5", DETECTION_TAB),
        ("#family=x&show=auroc", REMOVALS_TAB),
    ],
)
def test_browser_shows_one_tab_a_family(
    address: str, tab: tuple[str, list[str], list[str]], tmp_path: Path
) -> None:
    path = write_grid(a_grid(*two_families(), families=(REMOVAL, DETECTION)), tmp_path / "grid.html")
    found, complaints = opened(path.as_uri() + address, tmp_path / "profile")
    assert complaints == []
    title, wanted, measures = tab
    chosen = {words: attrs["aria-selected"] for attrs, words in found.all("button", role="tab")}
    assert chosen == {name: str(name == title).lower() for name in ("Removals", "Detection")}
    fields = [attrs for attrs, _ in found.all("button") if attrs.get("class", "").startswith("field ")]
    labels = [attrs["aria-label"].removeprefix("badnets, ") for attrs in fields]
    assert [label[: len(words)] for label, words in zip(labels, wanted, strict=True)] == wanted
    switch = found.words("fieldset", id="measures")
    assert switch == "Measure" + "".join(measures)
    ((plane, _),) = found.all("section", id="plane-section")
    assert ("hidden" in plane) == (tab is DETECTION_TAB)
    heads = [words for attrs, words in found.all("th") if "aria-sort" in attrs]
    assert heads[:3] == ["Attack", "Method", "Family"]
    assert "AUROC" in heads


def test_a_damaged_row_is_a_cell_without_what_does_not_fit() -> None:
    row = {"id": 3, "acc": math.nan, "asr": "high", "ra": 10**400, "seed": [1], "settings": 7, "state": "?"}
    cell = GridCell.of(row | {"test_clips": 90, "auroc": True})
    assert (cell.id, cell.state, cell.seed, cell.settings) == ("3", "pending", None, {})
    assert (cell.figures, cell.counts) == ({"auroc": True}, {"test_clips": 90})
    assert "cell" in grid_html(a_grid(cell))


@needs_browser
@pytest.mark.parametrize("window", [390, 1280])
def test_page_never_scrolls_sideways(window: int, tmp_path: Path) -> None:
    long = {"name": "x" * 300, "about": "y" * 300, "host": {"z" * 90: "z" * 300}, "command": "c" * 300}
    path = write_grid(a_grid(*many_cells(), **long), tmp_path / "grid.html")
    assert width_of(path, window, tmp_path / "profile") == window


@needs_browser
def test_browser_shows_settings_in_short_words(tmp_path: Path) -> None:
    settings = {"lr": 0.01234567, "on": True, "off": None, "deep": {"a": [1, 2.5]}, "steps": 1234567}
    path = write_grid(a_grid(a_cell(0, settings=settings)), tmp_path / "grid.html")
    found, complaints = opened(f"{path.as_uri()}#cell=cell-0", tmp_path / "profile")
    assert complaints == []
    ((_, words),) = found.all("aside")
    for shown in ("lr0.01235", "onyes", "off\N{EN DASH}", "deepa 1, 2.5", "steps1234567"):
        assert shown in words


@needs_browser
@pytest.mark.parametrize("cells", [[], [failed(error=None)], [a_cell(state="pending", acc=None)]])
def test_browser_draws_a_grid_with_nothing_done(cells: list[GridCell], tmp_path: Path) -> None:
    path = write_grid(a_grid(*cells), tmp_path / "grid.html")
    found, complaints = opened(f"{path.as_uri()}#cell=none&show=toString&seed=7", tmp_path / "profile")
    assert complaints == []
    assert found.elements[0][1]["data-loaded-ms"].isdigit()
    assert len(found.all("table", id="heat-map")) == bool(cells)


@needs_browser
@pytest.mark.parametrize("fault", ["reference", "markup", "script"])
def test_browser_would_complain(fault: str, tmp_path: Path) -> None:
    html = grid_html(a_grid(a_cell()))
    before, after = {
        "reference": ("</main>", '<img src="https://example.org/x.png"></main>'),
        "markup": ("</main>", '<svg onload="x()"></svg></main>'),
        "script": ('"use strict";', '"use strict"; '),
    }[fault]
    path = tmp_path / "grid.html"
    path.write_text(html.replace(before, after, 1), "utf-8")
    found, complaints = opened(path.as_uri(), tmp_path / "profile")
    assert "violates" in complaints[0]
    assert ("data-loaded-ms" in found.elements[0][1]) == (fault != "script")


def opened(address: str, profile: Path) -> tuple[Page, list[str]]:
    """The page as a browser has it once its script has run, and what the browser says on its console."""
    dom, complaints = browse(address, profile, "virtual-time-budget=5000")
    return Page(dom), complaints
