"""The report: what it says is right, hostile names stay words, and it is one file that needs no other."""

import base64
import io
import math
import re
import shlex
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import get_args

import matplotlib as mpl
import pytest
import soundfile
import torch
from PIL import Image

from closesesame import report
from closesesame.attacks import BadNets
from closesesame.audio.effects import tone
from closesesame.audio.files import to_int16
from closesesame.cli.app import app
from closesesame.core.errors import DataError
from closesesame.core.seeding import generator
from closesesame.data import Splits
from closesesame.evaluation import Exam, Rate, Scores, stealth_of
from closesesame.models import Classifier
from closesesame.report import Entry, Report, Sound, report_html, write_report
from closesesame.report.charts import canvas, rates, spectrograms
from closesesame.report.from_models import Identity, compare
from closesesame.report.pages import comparison, grid
from closesesame.report.pages.comparison import HOW_TO_TEST, ClassRow
from closesesame.report.shared import said, without_folders
from closesesame.report.verdict import NO_REFERENCE, NO_TRIGGER, Standing, Status, Verdict, tally, verdict_of

from .pages import REMOVAL, Page, browse, needs_browser, width_of

RATE = 16_000
DASH = "\N{EN DASH}"
HOSTILE = "<script>alert(1)</script>\"'$\\frac{_^%&--!>]]><img src=x onerror=y>"
REFERENCE = Rate(83, 90)
BEFORE = Scores(Rate(94, 100), Rate(90, 90), Rate(0, 90), REFERENCE)
AFTER = Scores(Rate(1165, 1250), Rate(3, 90), Rate(81, 90), REFERENCE)
HASH = "0123456789abcdef" * 4
VICTIM = Entry(
    name="victim",
    scores=BEFORE,
    verdict=verdict_of(BEFORE, classes=10),
    source="../models/victim",
    sha256=HASH,
    architecture="resnet",
)
REPAIR = Entry(
    name="ft_augmented",
    about="ours",
    scores=AFTER,
    verdict=verdict_of(AFTER, classes=10, before=BEFORE),
    der=0.96449,
    seconds=1234.56,
    made={"method": "ft_augmented"},
)


def a_sound(name: str = "stop/one.wav", label: str = "stop", seconds: float = 0.5) -> Sound:
    rng = generator(0, "report")
    clean = 0.1 * torch.randn(round(seconds * RATE), generator=rng)
    triggered = clean + 0.3 * tone(3000, len(clean), RATE)
    predicted = {"victim": (label, "go"), "ft": (label, label)}
    return Sound(
        name=name, label=label, clean=clean, triggered=triggered, sample_rate=RATE, predicted=predicted
    )


def a_report(
    *entries: Entry, sounds: tuple[Sound, ...] = (), warnings: tuple[str, ...] = (), title: str = "A title"
) -> Report:
    return Report(
        title=title,
        target_label="stop",
        made="2026-11-26 01:18 UTC",
        command="sesame report CLIPS page.html",
        seed=7,
        data="keywords10",
        facts={"attack": "badnets", "poisoning rate": "5 %"},
        entries=entries or (VICTIM, REPAIR),
        sounds=sounds,
        warnings=warnings,
    )


def scores_of(found: Page, first: str) -> list[str]:
    """The row of the table of scores that begins with that word: the second, after that of the models."""
    return [row for row in found.rows if row and row[0].split()[:1] == [first]][1]


@pytest.fixture(scope="module")
def whole() -> str:
    return report_html(a_report(sounds=(a_sound(), a_sound("two")), warnings=("Clean data cannot show it.",)))


def test_page_says_everything_in_order(whole: str) -> None:
    parts = (
        "A title|Target label|The trigger works on this model|Backdoor removed|Clean data cannot show it.|"
    )
    parts += f"{HASH}|keywords10|2026-11-26 01:18 UTC|sesame report CLIPS|94.0 %|ACC as bars|ACC over ASR|"
    parts += "stop/one.wav|poisoning rate|Wilson"
    places = [whole.index(words, whole.index("<main>")) for words in parts.split("|")]
    assert places == sorted(places)


def test_numbers_are_those_of_the_scores(whole: str) -> None:
    found = Page(whole)
    # The intervals of 94/100, 90/90, 0/90, 83/90 by Wilson's formula, worked out apart from our code.
    assert scores_of(found, "victim") == [
        "victim before removal",
        f"94.0 % 87.5 {DASH} 97.2",
        f"100.0 % 95.9 {DASH} 100.0",
        f"0.0 % 0.0 {DASH} 4.1",
        f"92.2 % 84.8 {DASH} 96.2",
        DASH,
        DASH,
    ]
    assert scores_of(found, "ft_augmented")[:3] == [
        "ft_augmented",
        f"93.2 % 91.7 {DASH} 94.5",
        f"3.3 % 1.1 {DASH} 9.3",
    ]
    assert scores_of(found, "ft_augmented")[5:] == ["0.964", "1,234.6"]
    assert 'data-label="ACC, 1,250 clips"' in whole
    header = " ".join(scores_of(found, "Model"))
    assert "ACC higher is better 100 to 1,250 clips" in header
    assert "ASR lower is better 90 clips" in header


def test_bars_and_plane_show_the_rates() -> None:
    html = report_html(a_report())
    words = [data for tag, data in Page(html).pieces if tag == "text"]
    assert {"94.0 %", "93.2 %", "100.0 %", "3.3 %", "0.0 %", "90.0 %", "good corner"} <= set(words)
    assert Counter(words)["ft_augmented"] == 4


def test_ra_of_the_reference_is_a_dashed_line_in_the_bars_of_ra_alone() -> None:
    drawings = re.findall(r'aria-label="(\w+) as bars.*?</svg>', report_html(a_report()), re.DOTALL)
    assert drawings == ["ACC", "ASR", "RA"]
    dashed = {
        found[1]: found[0].count("stroke-dasharray: 5.2")
        for found in re.finditer(r'aria-label="(\w+) as bars.*?</svg>', report_html(a_report()), re.DOTALL)
    }
    assert dashed == {"ACC": 0, "ASR": 0, "RA": 2}


def test_predictions_are_marked_right_or_wrong(whole: str) -> None:
    rows = Page(whole).rows
    assert ["victim", "✓ stop right", "✗ go wrong"] in rows
    assert ["ft", "✓ stop right", "✓ stop right"] in rows


@pytest.mark.parametrize("missing", [None, Rate(0, 0)])
def test_what_was_not_measured_is_a_dash(missing: Rate | None) -> None:
    entry = Entry(name="bare", scores=Scores(Rate(1, 2), missing, missing, missing), der=math.nan)
    html = report_html(a_report(entry, REPAIR))
    assert scores_of(Page(html), "bare") == [
        "bare before removal",
        f"50.0 % 9.5 {DASH} 90.5",
        DASH,
        DASH,
        DASH,
        DASH,
        DASH,
    ]
    assert not re.search(r"\bnan\b", html, re.IGNORECASE)
    alone = report_html(a_report(entry))
    assert "ASR as bars" not in alone
    assert "before removal" not in alone
    assert "over ASR" not in alone


def test_no_entries_and_no_facts() -> None:
    empty = Report(title="t", entries=())
    assert "as bars" not in report_html(empty)


def test_hostile_words_stay_words() -> None:
    entry = Entry(
        name=HOSTILE,
        about=HOSTILE,
        scores=VICTIM.scores,
        verdict=Verdict("works", HOSTILE, HOSTILE),
        source=HOSTILE,
        sha256=HOSTILE,
        architecture=HOSTILE,
        made={HOSTILE: HOSTILE},
    )
    sound = a_sound(HOSTILE, HOSTILE)
    sound = Sound(**{**vars(sound), "predicted": {HOSTILE: (HOSTILE, HOSTILE)}})
    report = Report(
        title=HOSTILE,
        target_label=HOSTILE,
        made=HOSTILE,
        command=HOSTILE,
        version=HOSTILE,
        data=HOSTILE,
        tested=(HOSTILE,),
        untested=(HOSTILE,),
        classes=(ClassRow(HOSTILE, (Rate(1, 2),)),),
        facts={HOSTILE: HOSTILE},
        entries=(entry,),
        sounds=(sound,),
        warnings=(HOSTILE,),
    )
    html = report_html(report)
    found = Page(html)
    harmless = report_html(
        Report(**{**vars(report), "entries": (VICTIM,), "sounds": (a_sound(),), "target_label": "stop"})
    )
    assert {tag for tag, _ in found.tags} <= {tag for tag, _ in Page(harmless).tags}
    assert not {name for _, attrs in found.tags for name in attrs if name.startswith("on")}
    assert "<script" not in html.lower()
    assert "<!--" not in html
    shown = Counter(tag for tag, data in found.pieces if data.strip() == HOSTILE)
    assert shown == {"title": 1, "h1": 1, "p": 2, "li": 1, "dt": 1, "bdi": 21, "span": 1, "code": 2}
    # In figures it is cut, and neither read as a formula nor as a tag.
    cut = HOSTILE[: canvas.LONGEST_NAME - 1] + "…"
    assert [tag for tag, data in found.pieces if data.strip() == cut] == ["text"] * 4


@pytest.mark.parametrize(
    "name", ["$x", "$x^2$", "\\alpha_", "停", "🔒", "a\nb", "\0\x08", "\udcff", "\u202eevil", "", "x" * 5000]
)
def test_any_name_can_be_written(name: str, tmp_path: Path) -> None:
    entry = Entry(name=name, scores=VICTIM.scores)
    text = write_report(a_report(entry, title=name, warnings=(name,)), tmp_path / "r.html").read_text("utf-8")
    words = [data for tag, data in Page(text).pieces if tag == "text"]
    if name.startswith("$"):
        assert name in words
    assert max(map(len, words)) < 50
    assert not any("\u202e" in data for data in words)


def test_names_that_look_like_markup_of_figures_are_left_alone() -> None:
    name = f'id="a" {canvas.INK}'
    html = report_html(a_report(Entry(name=name, scores=VICTIM.scores)))
    assert [data for tag, data in Page(html).pieces if tag == "text"].count(name) == 4


def test_page_is_one_file_without_references(whole: str) -> None:
    found = Page(whole)
    inside = re.compile(r"data:(image/png|audio/wav);base64,[A-Za-z0-9+/=]+|data:,|#[\w-]+")
    for name in ("src", "href", "xlink:href", "srcset", "poster", "action", "background"):
        assert all(inside.fullmatch(value) for value in found.attributes(name)), name
    assert len([tag for tag, _ in found.tags if tag == "audio"]) == 4
    assert re.findall(r"url\((?!#)", whole) == []
    assert "@import" not in whole
    assert whole.count("<style") == 1
    assert set(re.findall(r"https?://[^\"'\s<]*", whole)) == {
        "http://www.w3.org/2000/svg",
        "http://www.w3.org/1999/xlink",
    }
    (policy,) = [a["content"] for tag, a in found.tags if a.get("http-equiv") == "Content-Security-Policy"]
    assert policy == (
        "default-src 'none'; style-src 'unsafe-inline'; img-src data:; media-src data:; "
        "base-uri 'none'; form-action 'none'"
    )


def test_ids_are_unique_and_references_resolve(whole: str) -> None:
    found = Page(whole)
    ids = Counter(found.attributes("id"))
    assert [name for name, count in ids.items() if count > 1] == []
    used = re.findall(r'(?:href="#|url\(#)([^")]+)', whole)
    named = " ".join(found.attributes("aria-labelledby") + found.attributes("aria-describedby")).split()
    assert len(used) > 20
    assert {*used, *named} <= set(ids)


def test_figures_and_tables_can_be_used_without_seeing(whole: str) -> None:
    found = Page(whole)
    drawings = [attrs for tag, attrs in found.tags if tag == "svg"]
    assert len(drawings) == 3 + 1 + 2 * 3
    assert all(attrs["role"] == "img" and attrs["aria-label"] for attrs in drawings)
    assert all(attrs.get("scope") in {"row", "col"} for tag, attrs in found.tags if tag == "th")
    assert all(attrs["aria-label"] for tag, attrs in found.tags if tag == "audio")


def test_figures_take_all_colours_from_the_style_sheet(whole: str) -> None:
    known = set(re.findall(r"--([\w-]+):", whole))
    for drawing in re.findall(r"<svg.*?</svg>", whole, re.DOTALL):
        assert set(re.findall(r"#[0-9a-f]{6}\b", drawing)) == set()
        assert set(re.findall(r"var\(--([\w-]+)\)", drawing)) <= known


def test_players_hold_the_clips() -> None:
    sound = a_sound()
    coded = [a["src"] for tag, a in Page(report_html(a_report(sounds=(sound,)))).tags if tag == "audio"]
    for uri, samples in zip(coded, (sound.clean, sound.triggered), strict=True):
        decoded, rate = soundfile.read(io.BytesIO(base64.b64decode(uri.partition(",")[2])), dtype="int16")
        assert rate == RATE
        assert (decoded == to_int16(samples.numpy())).all()


@pytest.mark.parametrize(("rate", "seconds"), [(16_000, 1.0), (44_100, 1.0), (8_000, 20.0), (16_000, 0.005)])
def test_levels_find_a_tone(rate: int, seconds: float) -> None:
    hertz = 2000.0
    levels, (end, top) = spectrograms.levels(0.1 * tone(hertz, round(seconds * rate), rate), rate)
    assert max(levels.shape) <= 261
    assert end >= seconds
    assert top == pytest.approx(rate / 2000, rel=0.02)
    row = int(levels.mean(1).argmax())
    step = 1000 * top / len(levels)
    assert row * step - step <= hertz <= (row + 1) * step + step
    if seconds > 0.1:
        assert float(levels.max()) == pytest.approx(-20, abs=1)


def test_difference_is_of_the_tone_alone() -> None:
    drawn = spectrograms.spectrograms("x", torch.zeros(RATE), 0.1 * tone(3000, RATE, RATE), RATE)
    assert "+0 to +80 dB" in drawn.difference
    same = spectrograms.spectrograms("x", torch.zeros(RATE), torch.zeros(RATE), RATE)
    assert "+0 to +0 dB" in same.difference


def test_spectrogram_stands_upright_and_in_its_colours() -> None:
    silence, sound = torch.zeros(RATE), torch.cat([torch.zeros(RATE // 2), 0.1 * tone(3000, RATE // 2, RATE)])
    drawn = spectrograms.spectrograms("x", silence, sound, RATE)
    for drawing, colours in ((drawn.triggered, "magma"), (drawn.difference, "berlin")):
        image = re.search(r'<image xlink:href="data:image/png;base64,([^"]+)"[^>]*matrix\(([^)]+)\)', drawing)
        assert image is not None
        with Image.open(io.BytesIO(base64.b64decode(image[1]))) as picture:
            pixels = torch.tensor(list(picture.convert("RGB").tobytes())).view(
                picture.height, picture.width, 3
            )
        across, _, _, up, left, base = map(float, image[2].split())
        brightness = pixels.sum(2).float()
        row, column = int(brightness.mean(1).argmax()), int(brightness.mean(0).argmax())
        # The panel is 302 wide for 1 s and 196 high for 8 kHz, its lower left corner at (36, 202).
        assert (202 - base - up * (row + 0.5)) / 196 * 8 == pytest.approx(3, abs=0.05)
        assert (left + across * (column + 0.5) - 36) / 302 == pytest.approx(0.5, abs=0.02)  # it clicks there
        darkest = torch.tensor(mpl.colormaps[colours](0.0 if colours == "magma" else 0.5)[:3])
        assert torch.allclose(pixels[0, 0] / 255, darkest.float(), atol=0.02)


def test_labels_of_equal_points_are_apart() -> None:
    rate = Rate(50, 100)
    drawing = rates.plane(list("abcdefg"), [rate] * 7, [rate] * 7)
    assert drawing is not None
    places = re.findall(r'<text [^>]*x="([\d.]+)" y="([\d.]+)"[^>]*>([a-g])</text>', drawing)
    assert len(places) == 7
    spots = [(float(x), float(y)) for x, y, _ in places]
    assert all(
        abs(one[0] - two[0]) > 6 or abs(one[1] - two[1]) > 12
        for one in spots
        for two in spots
        if one is not two
    )


def test_same_report_same_page_whatever_the_settings() -> None:
    first = report_html(a_report(sounds=(a_sound(),)))
    with mpl.rc_context({"svg.fonttype": "path", "font.size": 30, "text.usetex": True}):
        before = dict(mpl.rcParams)
        assert report_html(a_report(sounds=(a_sound(),))) == first
        assert dict(mpl.rcParams) == before


def test_page_is_small() -> None:
    sounds = tuple(a_sound(f"{number}", seconds=1.0) for number in range(3))
    assert len(report_html(a_report(sounds=sounds)).encode()) < 1_500_000


def test_clips_must_fit_together() -> None:
    good = vars(a_sound())
    with pytest.raises(DataError, match="8000 clean and 7999 triggered samples"):
        Sound(**{**good, "triggered": good["triggered"][1:]})
    with pytest.raises(DataError, match="0 clean"):
        Sound(**{**good, "clean": torch.zeros(0), "triggered": torch.zeros(0)})


def test_write_makes_folders_and_replaces(tmp_path: Path) -> None:
    path = tmp_path / "new" / "report.html"
    assert write_report(a_report(title="first"), path) == path
    write_report(a_report(title="second"), path)
    assert path.read_text("utf-8") == report_html(a_report(title="second"))
    assert list(path.parent.iterdir()) == [path]
    assert path.stat().st_mode & 0o044 == 0o044


@pytest.mark.parametrize("broken", ["render", "disk"])
def test_failed_write_leaves_the_old_page(
    broken: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "report.html"
    path.write_text("old", encoding="utf-8")

    def fail(*args: object, **settings: object) -> None:
        raise OSError("no")

    monkeypatch.setattr(*{"render": (comparison, "report_html"), "disk": (Path, "replace")}[broken], fail)
    with pytest.raises(OSError, match="no"):
        write_report(a_report(), path)
    assert path.read_text(encoding="utf-8") == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_facts_say_how_much_the_trigger_changes(tones: Splits, clean_model: Classifier) -> None:
    exam = Exam(tones.test, BadNets(snr_db=10, duration_s=0.5).trigger(tones.train, 0))
    facts = compare(exam=exam, before=("m", clean_model), repaired={}, title="t", sounds=1).facts
    assert facts["change by the trigger"] == f"{stealth_of(exam)}; mean of 100 clips"
    assert facts["change by the trigger"].startswith("SNR 10.0 dB, log-spectral distance ")
    bare = compare(exam=Exam(tones.test), before=("m", clean_model), repaired={}, title="t")
    assert "change by the trigger" not in bare.facts


# What the scores mean


def of(acc: int = 94, asr: int | None = 3, ra: int = 81, reference: int | None = 83, n: int = 90) -> Scores:
    """Scores on 100 clean clips and n triggered ones."""
    if asr is None:
        return Scores(Rate(acc, 100))
    return Scores(
        Rate(acc, 100), Rate(asr, n), Rate(ra, n), None if reference is None else Rate(reference, n)
    )


OPEN = of(asr=90, ra=0)


@pytest.mark.parametrize(
    ("scores", "before", "classes", "status", "words"),
    [
        (
            OPEN,
            None,
            10,
            "works",
            "100.0 % of 90 triggered clips get the target label (chance level with 10 ",
        ),
        (
            OPEN,
            None,
            10,
            "works",
            "10 classes: 10.0 %); RA 0.0 %, that of the clean reference model 92.2 %",
        ),
        (of(asr=55, ra=20), OPEN, 10, "works", "61.1 % of 90 triggered clips get the target label"),
        (of(asr=17, ra=70), OPEN, 10, "works", "; before removal: 100.0 %; RA 77.8 %"),
        (
            of(),
            OPEN,
            10,
            "no_effect",
            "3.3 % of 90 triggered clips get the target label (before removal: 100.0 %); RA",
        ),
        (of(), OPEN, 10, "no_effect", "RA 90.0 %, that of the clean reference model 92.2 %"),
        (of(reference=None), OPEN, 10, "no_effect", "RA 90.0 % is close to ACC"),
        (of(), None, 10, "no_effect", "3.3 % of 90 triggered clips get the target label; RA 90.0 %"),
        (
            of(ra=3, reference=63),
            OPEN,
            10,
            "errors",
            "the model misclassifies 96.7 % of triggered clips, the",
        ),
        (of(ra=3, reference=63), OPEN, 10, "errors", "the clean reference model 30.0 %: the trigger still "),
        (
            of(ra=3, reference=63),
            OPEN,
            10,
            "errors",
            "trigger still causes errors, but not the attacker's target label",
        ),
        (
            of(ra=3, reference=63),
            None,
            10,
            "errors",
            "the trigger causes errors, but not the attacker's target label",
        ),
        (of(asr=14, ra=40), OPEN, 10, "errors", "the trigger still causes errors; ACC"),
        (of(asr=9, ra=1, reference=21, n=30), of(asr=30, ra=0, n=30), 4, "errors", "misclassifies 96.7 %"),
        (of(ra=73), OPEN, 10, "unjudged", "misclassifies 18.9 % of triggered clips, the clean reference "),
        (of(ra=73), OPEN, 10, "unjudged", "7.8 %, but their intervals overlap"),
        (
            of(ra=3, reference=None),
            OPEN,
            10,
            "unjudged",
            "misclassifies 96.7 % of triggered clips, and without a clean reference model the cause is ",
        ),
        (of(acc=80), OPEN, 10, "costly", "ACC fell by 14.0 points to 80.0 % (the intervals do not overlap)"),
        (
            of(acc=90),
            OPEN,
            10,
            "costly",
            "ACC fell by 4.0 points to 90.0 % (the intervals overlap, so this may",
        ),
        (of(acc=92), OPEN, 10, "no_effect", "ACC 92.0 % (before removal: 94.0 %)"),
        (of(acc=97), OPEN, 10, "no_effect", "ACC 97.0 % (before removal: 94.0 %)"),
        (of(asr=14, ra=76), OPEN, 10, "unclear", "too many to call the backdoor removed and too few"),
        (
            of(asr=14, ra=76),
            None,
            10,
            "unclear",
            "does not work if it is under 10.0 %, and works if the whole interval is above 10.0 %",
        ),
        (
            of(asr=3, ra=25, reference=25, n=30),
            of(asr=12, ra=10, n=30),
            4,
            "unclear",
            "did not clearly work before removal",
        ),
        (
            of(asr=2, ra=28, reference=28, n=30),
            of(asr=9, ra=9, n=30),
            10,
            "unclear",
            "before and after removal overlap",
        ),
        (of(), of(), 10, "unclear", "the trigger did not clearly work before removal (3.3 %"),
        (
            of(asr=1, ra=20, reference=20, n=29),
            of(asr=29, ra=0, reference=20, n=29),
            10,
            "unclear",
            "29 triggered clips are too few",
        ),
        (of(asr=29, ra=0, reference=None, n=29), None, 10, "unclear", "at least 30 are needed"),
        (of(asr=0, ra=0, reference=0, n=0), None, 10, "unclear", "0 triggered clips are too few"),
        # Of four classes a clip in five at the target is what a never-poisoned model does too, ...
        (of(asr=18, ra=62, reference=63), OPEN, 4, "no_effect", "20.0 % of 90 triggered clips"),
        # ... which nobody knows without one.
        (of(asr=18, ra=62, reference=None), OPEN, 4, "unclear", "20.0 % of 90 triggered clips"),
        (of(asr=None), None, 10, "untested", "ACC 94.0 %; whether it has a backdoor is unknown"),
        (of(asr=None, acc=80), of(asr=None), 10, "untested", "ACC fell by 14.0 points to 80.0 %"),
        (of(asr=None), of(asr=None), 10, "untested", "whether the backdoor was removed is unknown"),
    ],
)
def test_verdict_says_what_the_scores_mean(
    scores: Scores, before: Scores | None, classes: int, status: str, words: str
) -> None:
    verdict = verdict_of(scores, classes=classes, before=before)
    assert verdict.status == status
    assert words in str(verdict)
    assert "safe" not in str(verdict).lower()
    assert str(verdict).count("ACC ") == 1


def test_every_verdict_has_a_colour_of_its_own_or_the_one_of_care() -> None:
    css = (Path(report.__file__).parent / "templates" / "page.css").read_text("utf-8")
    coloured = set(re.findall(r"\.verdicts \.(\w+) \{ border-color", css)) | set(
        re.findall(r"\.verdicts \.(\w+), \.verdicts \.(\w+) \{ border-color", css)[0]
    )
    assert coloured == {"works", "no_effect", "untested", "unclear"}
    assert coloured <= set(get_args(Status))


def test_titles_speak_of_a_backdoor_only_where_one_was_seen() -> None:
    titles = {
        verdict_of(scores, classes=10, before=before).title
        for scores in (OPEN, of(), of(acc=50), of(reference=None, ra=3))
        for before in (None, of())
    }
    assert not any("ackdoor" in title for title in titles)
    assert verdict_of(of(), classes=10, before=OPEN).title == "Backdoor removed for this trigger"
    assert verdict_of(of(asr=55), classes=10, before=OPEN).title == "The backdoor still works"


def test_a_splendid_der_decides_nothing() -> None:
    broken = of(ra=3, reference=63)
    assert (broken.der(OPEN) or 0) > 0.95
    assert verdict_of(broken, classes=10, before=OPEN).title == "Triggered clips are misclassified"


def test_many_models_are_told_in_the_same_words() -> None:
    good = Standing(asr=0.03, ra=0.9, ra_reference=0.92, acc_fall=0.01)
    wrong = Standing(asr=0.03, ra=0.1, ra_reference=0.92, acc_fall=0.05)
    alone = Standing(asr=0.03, ra=0.1, ra_reference=None, acc_fall=None)
    open_ = Standing(asr=0.1, ra=0.1, ra_reference=0.92, acc_fall=None)
    assert tally([good, good, wrong, alone, open_]) == (
        "of 5 models, 2 have ASR under 10 % and RA within 10 points of the clean reference model. 1 has ASR "
        "under 10 % but lower RA: the trigger still causes errors, but not the attacker's target label. 1 "
        "has ASR under 10 %, and without a reference RA cannot be judged. 1 has ASR of 10 % or more. ACC "
        "fell by more than 2 points in 1."
    )
    assert (
        tally([good])
        == "of 1 model, 1 has ASR under 10 % and RA within 10 points of the clean reference model."
    )
    assert tally([open_]).startswith("of 1 model, none has ASR under 10 % and RA")
    assert tally([]) == "no model was measured with a trigger."


# Which models, when, and with what


def test_page_says_which_models_and_what_made_it(whole: str) -> None:
    found = Page(whole)
    models = next(row for row in found.rows if row[0].startswith("victim"))
    assert models == ["victim before removal", "../models/victim", f"{HASH[:12]} {HASH}", "resnet", DASH]
    repair = next(row for row in found.rows if row[0].startswith("ft_augmented"))
    assert repair == ["ft_augmented ours", DASH, DASH, DASH, "method : ft_augmented"]
    assert [attrs["title"] for attrs, _ in found.all("summary") if "title" in attrs] == [HASH]
    for words in ("Data set keywords10", "Date 2026-11-26 01:18 UTC", "Seed 7", "Target label: stop"):
        assert words in found.text
    assert found.words("pre") == "sesame report CLIPS page.html"


def test_columns_without_a_figure_are_left_out() -> None:
    scores = Scores(Rate(94, 100), Rate(90, 90), Rate(0, 90))
    header = scores_of(Page(report_html(a_report(Entry(name="one", scores=scores)))), "Model")
    assert [words.split()[0] for words in header] == ["Model", "ACC", "ASR", "RA"]
    header = scores_of(Page(report_html(a_report())), "Model")
    assert [words.split()[0] for words in header] == ["Model", "ACC", "ASR", "RA", "RA", "DER", "Seconds"]


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (0.8571428656578064, "0.8571"),
        (12345.678, "12,346"),
        (math.inf, DASH),
        (None, DASH),
        (True, "yes"),
        (16_000, "16000"),
        ({"lr": 0.01, "more": {"steps": 3}}, "lr 0.01, more steps 3"),
        ([1, [2.0, "x"]], "1, 2, x"),
        ("/home/alice/secret/beep.wav", "beep.wav"),
        ("../secret/beep.WAV", "beep.WAV"),
        ("C:\\Users\\alice\\beep.wav", "beep.wav"),
        (Path("/home/alice/pool"), "pool"),
        ("and/or", "and/or"),
        ("/", "/"),
    ],
)
def test_settings_are_said_in_short_words(value: object, words: str) -> None:
    assert said(value) == words


def test_settings_of_a_hostile_file_have_an_end() -> None:
    deep: object = 0
    for _ in range(900):
        deep = [deep]
    assert said(deep) == "\N{HORIZONTAL ELLIPSIS}"
    assert without_folders({"a": ["/x/y.wav", 1]}) == {"a": ["y.wav", 1]}


# From models to a page


def test_entries_carry_the_identity_of_their_models(tones: Splits, clean_model: Classifier) -> None:
    made = {"method": "ft", "settings": {"lr": 0.01}, "seconds": 12.5, "acc_before": 0.95, "none": None}
    identity = Identity(path="a b/m", sha256=HASH, architecture="resnet", made=made)
    report = compare(
        exam=Exam(tones.test),
        before=("models/victim", clean_model),
        repaired={"victim": clean_model},
        title="t",
        identities={"victim": identity},
        made="today",
        command="sesame report",
        seed=3,
        data="tones",
    )
    first, second = report.entries
    assert (first.name, second.name) == ("models/victim", "victim")
    assert (first.source, second.source, second.sha256) == ("", "a b/m", HASH)
    assert (second.architecture, second.seconds) == ("resnet", 12.5)
    assert second.made == {"method": "ft", "settings": "lr 0.01", "ACC before": "95.0 %"}
    origin = {"Data set": "tones", "Date": "today", "closesesame": report.version, "Seed": "3"}
    assert (report.origin, report.command) == (origin, "sesame report")


@pytest.mark.parametrize("seconds", ["soon", None, -1, math.nan, math.inf, 10**400, [1]])
def test_seconds_that_are_none_are_not_shown(seconds: object, tones: Splits, clean_model: Classifier) -> None:
    identity = Identity(made={"seconds": seconds, "x" * 9: "y" * 9999})
    report = compare(
        exam=Exam(tones.test), before=("m", clean_model), repaired={}, title="t", identities={"m": identity}
    )
    assert report.entries[0].seconds is None
    assert len(report.entries[0].made["x" * 9]) < 1000
    assert "Seconds" not in report_html(report)


def test_two_models_of_one_name_are_refused(tones: Splits, clean_model: Classifier) -> None:
    with pytest.raises(DataError, match="two models are called 'm'"):
        compare(exam=Exam(tones.test), before=("m", clean_model), repaired={"m": clean_model}, title="t")


def test_page_without_a_trigger_says_what_it_cannot_say(tones: Splits, clean_model: Classifier) -> None:
    test = tones.test.where(tones.test.labels != 3)
    report = compare(
        exam=Exam(test), before=("m", clean_model), repaired={"r": clean_model}, title="t", data="tones"
    )
    first, second = (entry.verdict for entry in report.entries)
    assert first is not None
    assert second is not None
    assert (first.status, second.status) == ("untested", "untested")
    assert "has a backdoor" in first.words
    assert "(before removal: " in second.words
    assert report.tested == ("ACC on 150 clean test clips of tones in 4 classes.",)
    assert report.untested[0] == NO_TRIGGER
    assert "Classes without a test clip: top." in report.untested
    assert [(row.name, row.accs[0].of) for row in report.classes] == [
        ("low", 50),
        ("middle", 50),
        ("high", 50),
        ("top", 0),
    ]
    assert sum(row.accs[1].hits for row in report.classes) == report.entries[1].scores.acc.hits
    found = Page(report_html(report))
    assert found.text.count(NO_TRIGGER) == 2
    assert HOW_TO_TEST in found.words("pre")
    header = scores_of(found, "Model")
    assert [words.split()[0] for words in header] == ["Model", "ACC"]
    assert not {"DER", "ASR", "Seconds"} & set(found.text.split())
    assert ["top", "0", DASH, DASH] in found.rows
    assert "open" in found.all("details", **{"class": "sheet"})[0][0]


def test_commands_of_the_page_are_ones_that_we_have() -> None:
    for line in HOW_TO_TEST.replace("\\\n", " ").splitlines():
        name, *words = shlex.split(line)
        assert name == "sesame"
        app.parse_args(words, exit_on_error=False, print_error=False)


def test_page_with_a_trigger_names_target_and_reference(tones: Splits, clean_model: Classifier) -> None:
    trigger = BadNets(snr_db=10, duration_s=0.5, target="high").trigger(tones.train, 0)
    bare = compare(exam=Exam(tones.test, trigger), before=("m", clean_model), repaired={}, title="t")
    assert bare.target_label == "high"
    assert NO_REFERENCE in bare.untested
    assert "150 of these clips" in bare.tested[1]
    whole = compare(
        exam=Exam(tones.test, trigger, clean_model),
        before=("m", clean_model),
        repaired={},
        title="t",
        reference=Identity(path="../clean", sha256=HASH, architecture="resnet"),
    )
    assert whole.facts["reference model"] == f"../clean, resnet, SHA-256 {HASH}"
    assert "reference model" not in bare.facts
    assert NO_REFERENCE not in whole.untested
    assert whole.entries[0].verdict is not None
    assert "that of the clean reference model" in whole.entries[0].verdict.words
    shift = BadNets(label_mode="all_to_all").trigger(tones.train, 0)
    turned = compare(exam=Exam(tones.test, shift), before=("m", clean_model), repaired={}, title="t")
    assert turned.target_label == "the next class (all-to-all)"


def test_page_does_not_say_where_files_lie(
    tones: Splits, clean_model: Classifier, folder_of: Callable[..., Path]
) -> None:
    sound = next(folder_of({"beep": 1}).rglob("*.wav"))
    exam = Exam(tones.test, BadNets(sound=str(sound)).trigger(tones.train, 0))
    page = report_html(compare(exam=exam, before=("m", clean_model), repaired={}, title="t"))
    assert sound.name in page
    assert str(sound.parent) not in page


@needs_browser
@pytest.mark.parametrize("measured", [True, False])
def test_a_cell_of_a_grid_says_how_much_the_trigger_changes(measured: bool, tmp_path: Path) -> None:
    place = {"data": "d", "model": "m", "attack": "a", "poisoning_rate": 0.1, "family": "none"}
    place |= {"method": "none", "stoi": None}
    figures = [(12.34, 2.1), (11.0, 2.1)] if measured else [(None, None)] * 2
    cells = tuple(
        grid.GridCell.of(
            {**place, "id": f"c{seed}", "seed": seed, "state": "done", "snr_db": snr, "pesq": pesq}
        )
        for seed, (snr, pesq) in enumerate(figures)
    )
    made = grid.Grid(name="g", about="", host={}, families=(REMOVAL,), cells=cells)
    path = grid.write_grid(made, tmp_path / "g.html")
    dom, complaints = browse(f"{path.as_uri()}#cell=c0", tmp_path / "profile")
    assert complaints == []
    words = " ".join(data for tag, data in Page(dom).pieces if tag not in {"script", "style"})
    assert ("Change by the trigger" in words) == measured
    if measured:
        assert "SNR 11.0\N{NO-BREAK SPACE}dB \N{EN DASH} 12.3\N{NO-BREAK SPACE}dB PESQ 2.10" in words
    assert "PESQ 2.10 Poison" in words or not measured


@needs_browser
def test_browser_has_nothing_to_complain(tmp_path: Path) -> None:
    hostile = Entry(name=HOSTILE, scores=VICTIM.scores)
    path = write_report(
        a_report(hostile, REPAIR, sounds=(a_sound(HOSTILE, HOSTILE),)), tmp_path / "report.html"
    )
    dom, complaints = browse(path.as_uri(), tmp_path / "profile")
    assert complaints == []
    assert "93.2 %" in " ".join(scores_of(Page(dom), "ft_augmented"))
    assert dom.count("<audio") == 2
    # The same eyes see a page that breaks its own policy.
    path.write_text(
        path.read_text("utf-8").replace("</main>", '<img src="https://example.org/x.png"></main>'), "utf-8"
    )
    assert "violates" in browse(path.as_uri(), tmp_path / "profile")[1][0]


@needs_browser
@pytest.mark.parametrize("window", [390, 1280])
@pytest.mark.parametrize("kind", ["many", "hostile", "one", "untested", "fault"])
def test_page_never_scrolls_sideways(kind: str, window: int, tmp_path: Path) -> None:
    names = {
        "many": [f"models/2026-11-26/vendor_keyword_spotter_repaired_{number}" for number in range(5)],
        "hostile": [HOSTILE, "x" * 300, "\u05e9\u05dc\u05d5\u05dd" * 30, "\u202eevil" * 9, "停" * 80],
    }.get(kind, ["m"])
    scores = Scores(Rate(94, 100)) if kind == "untested" else BEFORE
    about = {name: getattr(VICTIM, name) for name in ("verdict", "sha256", "architecture")}
    entries = tuple(
        Entry(name=name, about=name, scores=scores, source=name, made={name: name}, **about) for name in names
    )
    rows = [ClassRow(name, (Rate(5, 9),) * len(names)) for name in [*names, *map(str, range(25))]]
    report = Report(
        title=names[0],
        entries=entries,
        classes=tuple(rows),
        target_label=names[-1],
        command=f"sesame report {names[-1]} " + "x" * 300,
        data=names[-1],
        made="2026-11-26 01:18 UTC",
        tested=(names[-1],),
        untested=(names[-1],),
        facts={names[-1]: names[-1]},
        warnings=(names[-1],),
        sounds=() if kind in {"one", "untested"} else (a_sound(names[-1], names[-1]),),
    )
    path = write_report(report, tmp_path / "report.html")
    shown = path.read_text("utf-8").replace("<details", "<details open")
    if kind == "fault":
        shown = shown.replace("</main>", '<div style="width: 1300px">x</div></main>')
    path.write_text(shown, "utf-8")
    wide = width_of(path, window, tmp_path / "profile")
    assert (wide > window) == (kind == "fault")
