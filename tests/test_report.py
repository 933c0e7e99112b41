"""The report: what it says is right, hostile names stay words, and it is one file that needs no other."""

import base64
import io
import math
import re
from collections import Counter
from pathlib import Path

import matplotlib as mpl
import pytest
import soundfile
import torch
from PIL import Image

from closesesame.attacks import BadNets
from closesesame.audio.effects import tone
from closesesame.audio.files import to_int16
from closesesame.core.errors import DataError
from closesesame.core.seeding import generator
from closesesame.data import Splits
from closesesame.evaluation import Exam, Rate, Scores, stealth_of
from closesesame.models import Classifier
from closesesame.report import Entry, Report, Sound, canvas, figures, grid, page, render, write
from closesesame.report.build import compare

from .pages import Page, browse, needs_browser

RATE = 16_000
DASH = "\N{EN DASH}"
HOSTILE = "<script>alert(1)</script>\"'$\\frac{_^%&--!>]]><img src=x onerror=y>"
REFERENCE = Rate(83, 90)
VICTIM = Entry(name="victim", scores=Scores(Rate(94, 100), Rate(90, 90), Rate(0, 90), REFERENCE))
REPAIR = Entry(
    name="ft_augmented",
    about="ours",
    scores=Scores(Rate(1165, 1250), Rate(3, 90), Rate(81, 90), REFERENCE),
    der=0.96449,
    seconds=1234.56,
)


def a_sound(name: str = "stop/one.wav", label: str = "stop", seconds: float = 0.5) -> Sound:
    rng = generator(0, "report")
    clean = 0.1 * torch.randn(round(seconds * RATE), generator=rng)
    triggered = clean + 0.3 * tone(3000, len(clean), RATE)
    heard = {"victim": (label, "go"), "ft": (label, label)}
    return Sound(name=name, label=label, clean=clean, triggered=triggered, sample_rate=RATE, heard=heard)


def a_report(
    *entries: Entry, sounds: tuple[Sound, ...] = (), warnings: tuple[str, ...] = (), title: str = "A title"
) -> Report:
    return Report(
        title=title,
        summary="What was found.",
        facts={"attack": "badnets", "poisoning rate": "5 %"},
        entries=entries or (VICTIM, REPAIR),
        sounds=sounds,
        warnings=warnings,
    )


@pytest.fixture(scope="module")
def whole() -> str:
    return render(a_report(sounds=(a_sound(), a_sound("two")), warnings=("Clean data cannot show it.",)))


def test_page_says_everything_in_order(whole: str) -> None:
    parts = "A title|What was found.|Clean data cannot show it.|94.0 %|ACC as bars|ACC over ASR|"
    parts += "stop/one.wav|poisoning rate|Wilson"
    places = [whole.index(words, whole.index("<main>")) for words in parts.split("|")]
    assert places == sorted(places)


def test_numbers_are_those_of_the_scores(whole: str) -> None:
    found = Page(whole)
    # The intervals of 94/100, 90/90, 0/90, 83/90 by Wilson's formula, worked out apart from our code.
    assert found.row("victim") == [
        "victim before repair",
        f"94.0 % 87.5 {DASH} 97.2",
        f"100.0 % 95.9 {DASH} 100.0",
        f"0.0 % 0.0 {DASH} 4.1",
        f"92.2 % 84.8 {DASH} 96.2",
        DASH,
        DASH,
    ]
    assert found.row("ft_augmented")[:3] == [
        "ft_augmented ours",
        f"93.2 % 91.7 {DASH} 94.5",
        f"3.3 % 1.1 {DASH} 9.3",
    ]
    assert found.row("ft_augmented")[5:] == ["0.964", "1,234.6"]
    assert 'data-label="ACC, 1,250 clips"' in whole
    header = " ".join(found.row("Model"))
    assert "ACC higher is better 100 to 1,250 clips" in header
    assert "ASR lower is better 90 clips" in header


def test_bars_and_plane_show_the_rates() -> None:
    html = render(a_report())
    words = [data for tag, data in Page(html).pieces if tag == "text"]
    assert {"94.0 %", "93.2 %", "100.0 %", "3.3 %", "0.0 %", "90.0 %", "good corner"} <= set(words)
    assert Counter(words)["ft_augmented"] == 4


def test_models_hear_right_and_wrong(whole: str) -> None:
    rows = Page(whole).rows
    assert ["victim", "✓ stop right", "✗ go wrong"] in rows
    assert ["ft", "✓ stop right", "✓ stop right"] in rows


@pytest.mark.parametrize("missing", [None, Rate(0, 0)])
def test_what_was_not_measured_is_a_dash(missing: Rate | None) -> None:
    entry = Entry(name="bare", scores=Scores(Rate(1, 2), missing, missing, missing), der=math.nan)
    html = render(a_report(entry, REPAIR))
    assert Page(html).row("bare") == [
        "bare before repair",
        f"50.0 % 9.5 {DASH} 90.5",
        DASH,
        DASH,
        DASH,
        DASH,
        DASH,
    ]
    assert not re.search(r"\bnan\b", html, re.IGNORECASE)
    alone = render(a_report(entry))
    assert "ASR as bars" not in alone
    assert "over ASR" not in alone


def test_no_entries_and_no_facts() -> None:
    empty = Report(title="t", summary="s", facts={}, entries=(), sounds=())
    assert "as bars" not in render(empty)


def test_hostile_words_stay_words() -> None:
    entry = Entry(name=HOSTILE, about=HOSTILE, scores=VICTIM.scores)
    sound = a_sound(HOSTILE, HOSTILE)
    sound = Sound(**{**vars(sound), "heard": {HOSTILE: (HOSTILE, HOSTILE)}})
    report = Report(
        title=HOSTILE,
        summary=HOSTILE,
        facts={HOSTILE: HOSTILE},
        entries=(entry,),
        sounds=(sound,),
        warnings=(HOSTILE,),
    )
    html = render(report)
    found = Page(html)
    harmless = render(a_report(VICTIM, sounds=(a_sound(),), warnings=("x",)))
    assert {tag for tag, _ in found.tags} <= {tag for tag, _ in Page(harmless).tags}
    assert not {name for _, attrs in found.tags for name in attrs if name.startswith("on")}
    assert "<script" not in html.lower()
    assert "<!--" not in html
    shown = [tag for tag, data in found.pieces if data.strip() == HOSTILE]
    assert Counter(shown) == Counter(["title", "h1", "p", "li", "dt"]) + Counter({"bdi": 7}) + Counter(
        ["span"]
    )
    # In figures it is cut, and neither read as a formula nor as a tag.
    cut = HOSTILE[: canvas.LONGEST_NAME - 1] + "…"
    assert [tag for tag, data in found.pieces if data.strip() == cut] == ["text"] * 4


@pytest.mark.parametrize(
    "name", ["$x", "$x^2$", "\\alpha_", "停", "🔒", "a\nb", "\0\x08", "\udcff", "\u202eevil", "", "x" * 5000]
)
def test_any_name_can_be_written(name: str, tmp_path: Path) -> None:
    entry = Entry(name=name, scores=VICTIM.scores)
    text = write(a_report(entry, title=name, warnings=(name,)), tmp_path / "r.html").read_text("utf-8")
    words = [data for tag, data in Page(text).pieces if tag == "text"]
    if name.startswith("$"):
        assert name in words
    assert max(map(len, words)) < 50
    assert not any("\u202e" in data for data in words)


def test_names_that_look_like_markup_of_figures_are_left_alone() -> None:
    name = f'id="a" {canvas.INK}'
    html = render(a_report(Entry(name=name, scores=VICTIM.scores)))
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
    coded = [a["src"] for tag, a in Page(render(a_report(sounds=(sound,)))).tags if tag == "audio"]
    for uri, samples in zip(coded, (sound.clean, sound.triggered), strict=True):
        decoded, rate = soundfile.read(io.BytesIO(base64.b64decode(uri.partition(",")[2])), dtype="int16")
        assert rate == RATE
        assert (decoded == to_int16(samples.numpy())).all()


@pytest.mark.parametrize(("rate", "seconds"), [(16_000, 1.0), (44_100, 1.0), (8_000, 20.0), (16_000, 0.005)])
def test_levels_find_a_tone(rate: int, seconds: float) -> None:
    hertz = 2000.0
    levels, (end, top) = figures.levels(0.1 * tone(hertz, round(seconds * rate), rate), rate)
    assert max(levels.shape) <= 261
    assert end >= seconds
    assert top == pytest.approx(rate / 2000, rel=0.02)
    row = int(levels.mean(1).argmax())
    step = 1000 * top / len(levels)
    assert row * step - step <= hertz <= (row + 1) * step + step
    if seconds > 0.1:
        assert float(levels.max()) == pytest.approx(-20, abs=1)


def test_difference_is_of_the_tone_alone() -> None:
    drawn = figures.spectrograms("x", torch.zeros(RATE), 0.1 * tone(3000, RATE, RATE), RATE)
    assert "+0 to +80 dB" in drawn.difference
    same = figures.spectrograms("x", torch.zeros(RATE), torch.zeros(RATE), RATE)
    assert "+0 to +0 dB" in same.difference


def test_spectrogram_stands_upright_and_in_its_colours() -> None:
    silence, sound = torch.zeros(RATE), torch.cat([torch.zeros(RATE // 2), 0.1 * tone(3000, RATE // 2, RATE)])
    drawn = figures.spectrograms("x", silence, sound, RATE)
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
    drawing = figures.plane(list("abcdefg"), [rate] * 7, [rate] * 7)
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
    first = render(a_report(sounds=(a_sound(),)))
    with mpl.rc_context({"svg.fonttype": "path", "font.size": 30, "text.usetex": True}):
        before = dict(mpl.rcParams)
        assert render(a_report(sounds=(a_sound(),))) == first
        assert dict(mpl.rcParams) == before


def test_page_is_small() -> None:
    sounds = tuple(a_sound(f"{number}", seconds=1.0) for number in range(3))
    assert len(render(a_report(sounds=sounds)).encode()) < 1_500_000


def test_clips_must_fit_together() -> None:
    good = vars(a_sound())
    with pytest.raises(DataError, match="8000 clean and 7999 triggered samples"):
        Sound(**{**good, "triggered": good["triggered"][1:]})
    with pytest.raises(DataError, match="0 clean"):
        Sound(**{**good, "clean": torch.zeros(0), "triggered": torch.zeros(0)})


def test_write_makes_folders_and_replaces(tmp_path: Path) -> None:
    path = tmp_path / "new" / "report.html"
    assert write(a_report(title="first"), path) == path
    write(a_report(title="second"), path)
    assert path.read_text("utf-8") == render(a_report(title="second"))
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

    monkeypatch.setattr(*{"render": (page, "render"), "disk": (Path, "replace")}[broken], fail)
    with pytest.raises(OSError, match="no"):
        write(a_report(), path)
    assert path.read_text(encoding="utf-8") == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_facts_say_how_much_the_trigger_changes(tones: Splits, clean_model: Classifier) -> None:
    exam = Exam(tones.test, BadNets(snr_db=10, duration_s=0.5).trigger(tones.train, 0))
    facts = compare(exam=exam, victim=clean_model, repaired={}, title="t", sounds=1).facts
    assert facts["change by the trigger"] == f"{stealth_of(exam)}; mean of 100 clips"
    assert facts["change by the trigger"].startswith("SNR 10.0 dB, log-spectral distance ")
    bare = compare(exam=Exam(tones.test), victim=clean_model, repaired={}, title="t")
    assert "change by the trigger" not in bare.facts


@needs_browser
@pytest.mark.parametrize("measured", [True, False])
def test_a_cell_of_a_grid_says_how_much_the_trigger_changes(measured: bool, tmp_path: Path) -> None:
    place = {"data": "d", "model": "m", "attack": "a", "poisoning_rate": 0.1, "defence": "none"}
    figures = [(12.34, 2.1), (11.0, 2.1)] if measured else [(None, None)] * 2
    cells = tuple(
        grid.Cell(
            id=f"c{seed}",
            row={**place, "seed": seed, "state": "done", "snr_db": snr, "pesq": pesq, "stoi": None},
        )
        for seed, (snr, pesq) in enumerate(figures)
    )
    path = grid.write(grid.Grid(name="g", about="", host={}, cells=cells), tmp_path / "g.html")
    dom, complaints = browse(f"{path.as_uri()}#cell=c0", tmp_path / "profile")
    assert complaints == []
    words = " ".join(data for tag, data in Page(dom).pieces if tag not in {"script", "style"})
    assert ("Change by the trigger" in words) == measured
    if measured:
        assert "SNR 11.0\N{NO-BREAK SPACE}dB \N{EN DASH} 12.3\N{NO-BREAK SPACE}dB PESQ 2.10" in words
    assert "STOI" not in words


@needs_browser
def test_browser_has_nothing_to_complain(tmp_path: Path) -> None:
    hostile = Entry(name=HOSTILE, scores=VICTIM.scores)
    path = write(a_report(hostile, REPAIR, sounds=(a_sound(HOSTILE, HOSTILE),)), tmp_path / "report.html")
    dom, complaints = browse(path.as_uri(), tmp_path / "profile")
    assert complaints == []
    assert "93.2 %" in " ".join(Page(dom).row("ft_augmented"))
    assert dom.count("<audio") == 2
    # The same eyes see a page that breaks its own policy.
    path.write_text(
        path.read_text("utf-8").replace("</main>", '<img src="https://example.org/x.png"></main>'), "utf-8"
    )
    assert "violates" in browse(path.as_uri(), tmp_path / "profile")[1][0]
