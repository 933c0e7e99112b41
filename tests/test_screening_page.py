"""The page of a screening: what it picks and compares, hostile names are words, and it is worked by hand."""

import base64
import hashlib
import io
import json
import math
import re
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from PIL import Image

from closesesame import report
from closesesame.data import Dataset
from closesesame.detection import Suspicion
from closesesame.detection.decisions import Decisions, load_decisions
from closesesame.detection.flagging import NOTHING, Flagging
from closesesame.report import from_scores
from closesesame.report.charts.scores import histogram
from closesesame.report.charts.spectrograms import small_picture
from closesesame.report.from_scores import loudness_of, screening_of
from closesesame.report.pages.screening import Screening, screening_html

from .commands import Sesame
from .pages import Page, hands_on, needs_browser, width_of

RATE = 8_000
TEMPLATES = Path(report.__file__).parent / "templates"
HOSTILE = "</script><script>alert(1)</script><!--<script>\"'&amp;\u2028\u2029<img src=x onerror=y>"


def a_set(counts: dict[str, int], *, beep: int = 0) -> Dataset:
    """Tones of a tenth of a second, a class a pitch; the first `beep` clips of the first class have two."""
    time = torch.arange(800) / RATE
    clips, labels, names, speakers = [], [], [], []
    for label, (name, count) in enumerate(counts.items()):
        for take in range(count):
            clip = 0.1 * torch.sin(2 * math.pi * (400 + 300 * label) * time)
            if label == 0 and take < beep:
                clip = clip + 0.1 * torch.sin(2 * math.pi * 3_000 * time) * (time >= 0.05)
            clips.append(clip)
            labels.append(label)
            names.append(f"{name}/{take}.wav")
            speakers.append(f"s{take % 3}")
    made = Dataset.of(torch.stack(clips), torch.tensor(labels), classes=tuple(counts), sample_rate=RATE)
    return replace(made, ids=tuple(names), speakers=tuple(speakers))


def louder(data: Dataset, factors: torch.Tensor) -> Dataset:
    """Each clip times its factor (n,)."""
    return data.with_inputs(data.inputs.replace(torch.arange(len(data)), data.inputs[:] * factors[:, None]))


def falling(data: Dataset) -> Suspicion:
    """The first clip is the most suspicious one."""
    scores = torch.arange(len(data), 0, -1, dtype=torch.float64)
    return Suspicion(ids=data.ids, scores=scores, method="falling")


def above(threshold: float) -> Flagging:
    return Flagging(threshold=threshold, why="flagged are the first")


def screened(data: Dataset | None = None, **more: Any) -> Screening:
    data = a_set({"a": 12, "b": 8}, beep=6) if data is None else data
    given = {"suspicion": falling(data), "flagging": above(14.5), "title": "Suspicious clips of set"}
    return screening_of(data=data, **{**given, **more})


# What is picked and compared


def test_suspicious_clips_stand_beside_the_lowest_scores_of_their_class(monkeypatch: Any) -> None:
    monkeypatch.setattr(from_scores, "SHOWN", 14)
    pairs = screened().pairs
    assert [pair.suspicious.id for pair in pairs] == [
        *(f"a/{n}.wav" for n in range(12)),
        "b/0.wav",
        "b/1.wav",
    ]
    assert [pair.suspicious.flagged for pair in pairs] == [True] * 6 + [False] * 8
    # No clip of "a" is left that is not suspicious itself.
    assert [pair.ordinary for pair in pairs[:12]] == [None] * 12
    assert [pair.ordinary.id for pair in pairs[12:] if pair.ordinary] == ["b/7.wav", "b/6.wav"]
    monkeypatch.setattr(from_scores, "SHOWN", 10)
    mates = [pair.ordinary.id for pair in screened().pairs if pair.ordinary]
    assert mates == ["a/11.wav", "a/10.wav"] * 5  # two are left, and stand beside several


def test_a_clip_is_told_with_all_that_is_known_of_it() -> None:
    found = screened(
        lengths_s={"a/0.wav": 1.25}, decisions=Decisions(kept=("a/0.wav",), dropped=("b/7.wav",))
    )
    first = found.pairs[0].suspicious
    assert (first.label, first.score, first.speaker, first.length_s) == ("a", 20, "s0", 1.25)
    # A sine of 0.1, and for half of the time a second one: power 0.005 + 0.0025.
    assert first.loudness_dbfs == pytest.approx(10 * math.log10(0.0075), abs=0.05)
    assert found.pairs[1].suspicious.length_s is None
    assert [pair.decision for pair in found.pairs[:2]] == ["kept", None]
    silent = a_set({"a": 2})
    silent = silent.with_inputs(silent.inputs.replace(torch.tensor([0]), torch.zeros(1, 800)))
    assert loudness_of(silent).tolist() == pytest.approx([-120, 10 * math.log10(0.005)], abs=0.01)


def test_levels_are_those_of_their_clips_over_several_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(from_scores, "CHUNK", 2)
    clips = Dataset.of(
        torch.tensor([[1.0], [0.1], [0.01], [0.1], [1.0]]), torch.zeros(5).long(), sample_rate=8000
    )
    assert loudness_of(clips).tolist() == pytest.approx([0, -20, -40, -20, 0], abs=0.01)


def test_long_clips_are_fewer(monkeypatch: Any) -> None:
    monkeypatch.setattr(from_scores, "MOST_SOUND_BYTES", 4 * 800 * 5)
    assert len(screened().pairs) == 5
    monkeypatch.setattr(from_scores, "MOST_SOUND_BYTES", 10)
    assert len(screened().pairs) == 1


def test_fifty_short_clips_are_shown() -> None:
    pairs = screened(a_set({"a": 60, "b": 60})).pairs
    assert [pair.suspicious.id for pair in pairs] == [f"a/{n}.wav" for n in range(50)]


def test_flagged_clips_are_compared_with_the_others_of_their_class_alone() -> None:
    data = a_set({"a": 12, "b": 8})
    # From the first clip to the last each is quieter, and those of "b" are far quieter than all of "a".
    fall = torch.where(data.labels == 0, 1.0, 0.01) * 10 ** (-torch.arange(20) / 20)
    data = louder(data, fall)
    lengths_s = {name: 1.0 + row for row, name in enumerate(data.ids)}
    length, level = screened(data, lengths_s=lengths_s).properties
    assert (length.suspicious, length.others) == ((1.0, 3.0, 5.0), (7.0, 9.0, 11.0))
    loudness = 10 * math.log10(0.005)
    # Rows 6 to 11 are 6 to 11 dB quieter than the first.
    assert level.others == pytest.approx((loudness - 11, loudness - 9, loudness - 7), abs=0.05)


def test_what_flagged_clips_have_in_common() -> None:
    found = screened(lengths_s={f"a/{n}.wav": 1.0 + n for n in range(12)})
    assert found.group == "flagged"
    (share,) = found.classes
    assert (share.name, share.suspicious, share.clips) == ("a", 6, 12)
    assert {(one.name, one.suspicious, one.clips) for one in found.speakers} == {
        ("s0", 2, 7),
        ("s1", 2, 7),
        ("s2", 2, 6),
    }
    assert found.alike[0] == (
        "The most frequent label of the flagged clips is “a”: 100 % of them have it, and 60 % of all clips."
    )
    length, level = found.properties
    # The others are those of the same class: 6 of "a", none of "b".
    assert length.name == "length, s"
    assert (length.suspicious, length.others) == ((1.0, 3.0, 5.0), (7.0, 9.0, 11.0))
    louder = level.suspicious[1] - level.others[1]
    assert louder == pytest.approx(10 * math.log10(1.5), abs=0.05)
    bare = screened(replace(a_set({"a": 12, "b": 8}), speakers=None))
    assert bare.speakers == ()
    assert [one.name for one in bare.properties] == ["level, dB"]


def test_the_added_sound_stands_out_in_the_mean_spectrum() -> None:
    (found,) = screened().differences
    assert (found.label, found.suspicious, found.ordinary) == ("a", 6, 6)
    seconds, khz = found.reach
    rows, columns = found.louder.shape
    row, column = divmod(int(found.louder.argmax()), columns)
    assert row / rows * khz == pytest.approx(3.0, abs=0.15)
    assert column / columns * seconds > 0.045
    assert float(found.louder.max()) > 30
    own = found.louder[round(0.4 / khz * rows), columns // 4]
    assert abs(float(own)) < 3  # the sound that all clips of the class have


def test_mean_spectra_are_taken_against_the_least_suspicious_clips(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(from_scores, "MOST_AVERAGED", 3)
    data = a_set({"a": 12, "b": 8})
    # The first three that are flagged, the next three that are not, and the last three.
    loud = torch.ones(20)
    loud[3:6], loud[6:9], loud[9:12] = 0.25, 0.5, 0.1
    (found,) = screened(louder(data, loud)).differences
    assert (found.suspicious, found.ordinary) == (3, 3)
    # One against 0.1 of the same tone: 20 dB; against 0.5 it would be 6 dB.
    assert float(found.louder.max()) == pytest.approx(20, abs=0.1)


def test_if_nothing_is_flagged_the_most_suspicious_are_compared(monkeypatch: Any) -> None:
    monkeypatch.setattr(from_scores, "SHOWN", 4)
    found = screened(flagging=NOTHING)
    assert found.group == "most suspicious"
    assert found.classes[0].suspicious == 4
    html = Page(screening_html(found)).text
    assert "0 of 20 clips are flagged" in html
    assert "What the most suspicious clips have in common" in html
    assert "name clean recordings (--clean)" in html


def test_classes_with_few_suspicious_clips_have_no_mean_of_their_own() -> None:
    data = a_set({"a": 40, "b": 40, "c": 40})
    rows = torch.arange(len(data))
    first = (rows % 40 < 12) & (rows < 80) | (rows % 40 < 3)
    suspicion = replace(falling(data), scores=first.double())
    found = screened(data, suspicion=suspicion, flagging=above(0.5))
    assert [one.label for one in found.differences] == ["a", "b"]
    assert {one.name: one.suspicious for one in found.classes} == {"a": 12, "b": 12, "c": 3}


# Figures


def test_the_histogram_counts_all_clips_and_shows_the_threshold() -> None:
    scores = torch.tensor([0.0, 0.5, 1, 2, 9, 10], dtype=torch.float64)
    svg = str(histogram("h", scores, scores > 5, 5.0, scores[:3]))
    assert "6 scores from 0 to 10; 2 above the threshold, 5" in svg
    assert svg.count("var(--asr)") >= 2
    assert "stroke-dasharray" in svg
    plain = str(histogram("h", scores, scores > 99, None))
    assert "threshold" not in plain
    assert "stroke-dasharray" not in plain
    for same in (torch.zeros(3), torch.full((5,), -7.0)):
        histogram("h", same.double(), same > 99, None)


@pytest.mark.parametrize("crowded", [True, False])
def test_scores_that_crowd_near_zero_are_spread(crowded: bool) -> None:
    few = torch.linspace(-19, 1, 500, dtype=torch.float64)
    values = -(10**few) if crowded else few
    svg = str(histogram("h", values, values > 99, None))
    assert bool(re.search(r">-1e-\d+<", svg)) == crowded


def test_a_small_picture_has_low_frequencies_below_and_loud_ones_bright() -> None:
    values = torch.full((3, 2), -200.0)
    values[0, 1], values[2, 0] = -10.0, -50.0
    coded = str(small_picture(values, -10.0)).partition("base64,")[2]
    with Image.open(io.BytesIO(base64.b64decode(coded))) as picture:
        assert picture.size == (2, 3)
        light = np.asarray(picture.convert("L"))
    assert light[2, 1] > light[0, 0] > light[1, 0] == light[0, 1] == light[2, 0]


@pytest.mark.parametrize(("suspicious", "ordinary"), [(1.0, 0.1), (0.1, 1.0), (1.0, 1.0)])
def test_the_spectrograms_of_a_pair_have_one_scale(
    suspicious: float, ordinary: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(from_scores, "SHOWN", 1)
    data = a_set({"a": 12})
    factors = torch.ones(12)
    factors[0], factors[11] = suspicious, ordinary
    page = screened(louder(data, factors), flagging=above(11.5))
    drawn = [attrs["src"] for attrs, _ in Page(screening_html(page)).all("img")]
    brightest = []
    for coded in drawn:
        with Image.open(io.BytesIO(base64.b64decode(coded.partition("base64,")[2]))) as picture:
            brightest.append(int(np.asarray(picture).max()))
    # Of 64 colours over 80 dB; 20 dB below the louder clip is three quarters of the way up.
    assert brightest == [63 if factor == 1 else 47 for factor in (suspicious, ordinary)]


# What the page holds, and what it cannot do


def test_a_clip_is_said_to_be_flagged_if_it_is() -> None:
    found = Page(screening_html(screened()))
    assert [card["flagged"] for card in found.json("content")["cards"]] == [True] * 6 + [False] * 14
    cards = [" ".join(words.split()) for _, words in found.all("article")]
    assert ["flagged" in words for words in cards] == [True] * 6 + [False] * 14


def test_the_page_says_what_was_found() -> None:
    decisions = Decisions(kept=("a/1.wav", "b/7.wav"), dropped=("a/0.wav",))
    clean = torch.tensor([1.0, 2.0], dtype=torch.float64)
    page = screened(
        decisions=decisions, clean=clean, facts={"Method": "falling"}, command="sesame screen 'a b'"
    )
    found = Page(screening_html(page))
    assert "6 of 20 clips are flagged. Flagged are the first." in found.text
    assert "2 clean clips, scored beside them" in found.text
    assert "threshold, 14.5" in found.text
    assert "sesame screen 'a b'" in found.text
    content = found.json("content")
    assert content["file"] == "decisions.json"
    assert content["cards"][0] == {"id": "a/0.wav", "label": 0, "flagged": True, "decision": "dropped"}
    assert content["cards"][19]["id"] == "b/7.wav"
    assert content["others"] == {"kept": [], "dropped": []}
    cards = found.all("article")
    assert len(cards) == 20
    assert [attrs["data-number"] for attrs, _ in cards] == [str(n) for n in range(20)]
    sound, rate = soundfile.read(
        io.BytesIO(base64.b64decode(found.all("audio")[0][0]["src"].partition(",")[2]))
    )
    assert rate == RATE
    expected = a_set({"a": 12, "b": 8}, beep=6).inputs[:1][0]
    assert torch.allclose(torch.tensor(sound).float(), expected, atol=1e-4)


def test_decisions_on_clips_that_are_not_shown_are_kept_in_the_list(monkeypatch: Any) -> None:
    monkeypatch.setattr(from_scores, "SHOWN", 2)
    decisions = Decisions(kept=("a/1.wav", "b/7.wav"), dropped=("a/0.wav", "b/3.wav"))
    content = Page(screening_html(screened(decisions=decisions))).json("content")
    assert content["others"] == {"kept": ["b/7.wav"], "dropped": ["b/3.wav"]}


def test_hostile_names_do_not_break_out() -> None:
    data = a_set({HOSTILE: 12, "b": 8}, beep=6)
    data = replace(
        data, speakers=tuple(HOSTILE for _ in data.ids), ids=tuple(f"{HOSTILE}{n}" for n in range(20))
    )
    facts = {HOSTILE: HOSTILE, "Settings": {HOSTILE: [HOSTILE]}}
    given = {"facts": facts, "title": HOSTILE, "command": HOSTILE}
    html = screening_html(screened(data, flagging=Flagging(threshold=14.5, why=HOSTILE), **given))
    plain = {"facts": {"x": "y", "Settings": {"x": ["y"]}}, "title": "t", "command": "c"}
    harmless = a_set({"a": 12, "b": 8}, beep=6)
    harmless = replace(harmless, speakers=tuple("s" for _ in harmless.ids))
    found, other = Page(html), Page(screening_html(screened(harmless, **plain)))
    assert Counter(tag for tag, _ in found.tags) == Counter(tag for tag, _ in other.tags)
    assert found.comments == other.comments
    assert not {name for _, attrs in found.tags for name in attrs if name.startswith("on")}
    assert [found.words(tag) for tag in ("title", "h1")] == [HOSTILE, HOSTILE]
    assert found.json("content")["cards"][3]["id"] == f"{HOSTILE}3"
    assert not set("<>&\u2028\u2029") & set(found.words("script", id="content"))


@pytest.mark.parametrize("name", ["$x", "\0\x08", "\udcff", "\u202eevil", "停🔒", "x" * 5000, "__proto__"])
def test_any_name_can_be_written(name: str) -> None:
    data = a_set({name: 3, "b": 3})
    html = screening_html(screened(data, flagging=above(3.5), title=name))
    html.encode("utf-8")
    assert Page(html).json("content")["cards"][0]["id"] == f"{name}/0.wav"


def test_page_is_one_file_that_may_run_our_script_only() -> None:
    html = screening_html(screened())
    found = Page(html)
    assert found.attributes("href") == ["data:,"]
    assert {src.partition(";")[0] for src in found.attributes("src")} == {"data:image/png", "data:audio/wav"}
    for name in ("srcset", "poster", "action", "background", "data"):
        assert found.attributes(name) == [], name
    assert re.findall(r"https?://(?!www\.w3\.org/)|@import|url\((?!#)", html) == []
    (policy,) = [
        attrs["content"] for attrs, _ in found.all("meta") if "Policy" in attrs.get("http-equiv", "")
    ]
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
    ((_, script),) = [(attrs, words) for attrs, words in found.all("script") if not attrs]
    hashed = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert rules["script-src"] == f"'sha256-{hashed}'"
    assert rules["default-src"] == rules["base-uri"] == rules["form-action"] == "'none'"
    assert rules["img-src"] == rules["media-src"] == "data:"
    assert rules["require-trusted-types-for"] == "'script'"
    assert screening_html(screened()) == html


def test_script_makes_no_markup_and_keeps_nothing() -> None:
    script = (TEMPLATES / "screening.js").read_text("utf-8")
    forbidden = r"innerHTML|outerHTML|insertAdjacent|document\.write|\beval\b|Function\(|srcdoc|DOMParser"
    forbidden += r"|createContextualFragment|fetch\(|XMLHttp|import\(|localStorage"
    assert re.findall(forbidden, script) == []
    assert "</" not in script
    assert "<!--" not in script


def test_references_inside_of_the_page_resolve() -> None:
    found = Page(screening_html(screened()))
    ids = Counter(found.attributes("id"))
    assert [name for name, count in ids.items() if count > 1] == []
    script = (TEMPLATES / "screening.js").read_text("utf-8")
    looked_up = set(re.findall(r'find\("([\w-]+)"\)', script)) | {"by-label", "by-flag", "by-mark"}
    assert {*found.attributes("aria-labelledby"), *looked_up} <= set(ids)


# What a browser makes of it


def written(folder: Path, page: Screening) -> str:
    file = folder / "screening.html"
    file.write_text(screening_html(page), "utf-8")
    return file.as_uri()


COUNTS = "document.querySelector('#counts').textContent"
AT = "document.activeElement.closest('article')?.dataset.number"
SHOWN = "[...document.querySelectorAll('article:not([hidden])')].map((a) => a.dataset.number).join()"


def choose(control: str, value: str) -> str:
    return (
        f"box = document.querySelector('#{control}'), box.value = '{value}', "
        "box.dispatchEvent(new Event('change', { bubbles: true }))"
    )


@needs_browser
def test_a_clip_is_played_marked_and_filtered_and_the_list_is_read_back(tmp_path: Path) -> None:
    page = screened(decisions=Decisions(kept=("a/2.wav",)))
    with hands_on(written(tmp_path, page), tmp_path / "browser") as hands:
        assert hands.ask(COUNTS) == "20 of 20 shown; 1 kept, 0 dropped, 19 undecided"
        # Keys: the first clip is played, then its ordinary one, which stops it.
        hands.press("ArrowDown")
        assert hands.ask(AT) == "0"
        sound = "document.querySelectorAll('article audio')"
        hands.ask(
            f"played = [], {sound}.forEach((a, n) => a.addEventListener('ended', () => played.push(n))), 0"
        )
        hands.press(" ")
        hands.wait(lambda: hands.ask("played.includes(0)"))
        hands.press("ArrowDown")
        hands.press("ArrowUp")
        hands.press("o")
        hands.wait(lambda: hands.ask("played.includes(1)") or hands.ask(f"{sound}[0].played.length"))
        # Marks: by key, taken back, by key again, and by hand.
        hands.press("d")
        hands.press("ArrowDown")
        hands.press("k")
        hands.press("k")
        assert hands.ask(COUNTS) == "20 of 20 shown; 1 kept, 1 dropped, 18 undecided"
        hands.press("k")
        hands.click("article[data-number='7'] [data-mark='dropped']")
        assert hands.ask(AT) == "7"
        pressed = "document.querySelector(\"[data-number='7'] [data-mark='dropped']\").ariaPressed"
        assert hands.ask(pressed) == "true"
        assert hands.ask(COUNTS) == "20 of 20 shown; 2 kept, 2 dropped, 16 undecided"
        # Filters.
        hands.ask(choose("by-label", "1"))
        assert hands.ask(SHOWN) == ",".join(map(str, range(12, 20)))
        hands.ask(choose("by-label", ""))
        hands.ask(choose("by-flag", "yes"))
        assert hands.ask(SHOWN) == "0,1,2,3,4,5"
        hands.ask(choose("by-mark", "none"))
        assert hands.ask(SHOWN) == "3,4,5"
        # A clip that is marked while undecided ones are shown leaves its place to the next.
        hands.ask("document.querySelector(\"[data-number='3']\").focus()")
        hands.press("d")
        assert (hands.ask(SHOWN), hands.ask(AT)) == ("4,5", "4")
        hands.ask(choose("by-flag", "no"))
        hands.ask(choose("by-mark", "kept"))
        assert hands.ask("document.querySelector('#none').hidden") is False
        # The list is a file, without a server.
        hands.click("#save")
        file = tmp_path / "browser" / "downloads" / "decisions.json"
        hands.wait(file.is_file)
        assert hands.complaints == []
    ids = a_set({"a": 12, "b": 8}).ids
    found = load_decisions(file, ids)
    assert found == Decisions(kept=("a/1.wav", "a/2.wav"), dropped=("a/0.wav", "a/3.wav", "a/7.wav"))


@needs_browser
def test_hostile_names_are_decided_on_and_nothing_else_happens(tmp_path: Path) -> None:
    data = a_set({HOSTILE: 3, "__proto__": 3})
    data = replace(data, ids=(HOSTILE, "__proto__", "\udcff", "constructor", "停🔒", "b/2.wav"))
    with hands_on(written(tmp_path, screened(data, flagging=above(3.5))), tmp_path / "browser") as hands:
        for _ in range(6):
            hands.press("ArrowDown")
            hands.press("d")
        hands.click("#save")
        file = tmp_path / "browser" / "downloads" / "decisions.json"
        hands.wait(file.is_file)
        assert hands.ask("document.scripts.length") == 2
        assert hands.ask("document.images.length") == len(Page(screening_html(screened(data))).all("img"))
        assert hands.complaints == []
    assert json.loads(file.read_text("utf-8")) == {"kept": [], "dropped": list(data.ids)}


@needs_browser
def test_the_whole_way_from_the_command_to_the_copy(
    sesame: Sesame, clips: Path, model: Path, tmp_path: Path, monkeypatch: Any
) -> None:
    monkeypatch.setattr(from_scores, "SHOWN", 3)
    out = tmp_path / "out"
    words = ("screen", clips, out, "--model", model, "--method", "training_loss")
    first = sesame.json(*words, "--flag", "0.05")
    top = [row["id"] for row in first["most_suspicious"]]
    with hands_on((out / "screening.html").as_uri(), tmp_path / "browser") as hands:
        for key in ("ArrowDown", "k", "ArrowDown", "ArrowDown", "d"):
            hands.press(key)
        hands.click("#save")
        file = tmp_path / "browser" / "downloads" / "decisions.json"
        hands.wait(file.is_file)
    more = ("--flag", "0.05", "--decisions", file, "--copy", tmp_path / "copy", "--force")
    found = sesame.json(*words, *more)
    assert "nothing is scored again" in sesame.noted
    assert (found["kept"], found["dropped"]) == (1, 1)
    flagged = {top[n] for n in range(first["flagged"])}
    manifest = (tmp_path / "copy" / "manifest.csv").read_text()
    assert top[0] in manifest
    assert all(name not in manifest for name in (flagged | {top[2]}) - {top[0]})
    marks = [card["decision"] for card in Page((out / "screening.html").read_text()).json("content")["cards"]]
    assert marks == ["kept", None, "dropped"]


@needs_browser
@pytest.mark.parametrize("window", [390, 1280])
def test_page_never_scrolls_sideways(window: int, tmp_path: Path) -> None:
    data = a_set({"x" * 300: 12, "b": 8}, beep=6)
    data = replace(data, speakers=tuple("y" * 300 for _ in data.ids))
    page = screened(data, title="z" * 300, command="c" * 300, facts={"f" * 90: "g" * 300})
    written(tmp_path, page)
    assert width_of(tmp_path / "screening.html", window, tmp_path / "profile") == window
