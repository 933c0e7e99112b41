"""The catalogue: all of it comes from the registry, its figures are measured, and it needs no network."""

import base64
import io
import re
from collections import Counter
from pathlib import Path
from typing import ClassVar, Literal

import pytest
import soundfile
import torch
from pydantic import Field

from closesesame.attacks import ATTACKS, Attack, Ultrasonic
from closesesame.attacks.base import Signal, State
from closesesame.attacks.described import attack_settings
from closesesame.audio.files import to_int16
from closesesame.core.described import Words, words_of
from closesesame.core.errors import DataError, SettingError
from closesesame.core.types import Wave
from closesesame.data import Splits
from closesesame.evaluation import measure_stealth
from closesesame.evaluation.stealth import spread
from closesesame.report import described
from closesesame.report.pages import catalogue
from closesesame.report.pages.catalogue import (
    CatalogueEntry,
    asked_for,
    attack_html,
    index_html,
    survey,
    write_catalogue,
)

from .pages import Page, browse, needs_browser

HOSTILE = "<script>alert(1)</script>\"'$\\frac{_^%&--!>]]><img src=x onerror=y>"
TWO = ("badnets", "ultrasonic")


class Odd(Attack):
    """Do nothing that matters.

    It is told in two paragraphs.
    """

    name: ClassVar[str] = "odd one"
    cite: ClassVar[str] = "doi:10.1000/odd(1)."
    audible: ClassVar[str] = HOSTILE
    needs: ClassVar[str] = "luck"
    label_modes = ("clean_label",)

    label_mode: Literal["all_to_one", "all_to_all", "clean_label"] = "clean_label"
    rate: float = Field(0.125, ge=0, le=1, description="of poison")
    training_strength: float | None = Field(0.25, gt=0, le=10, description="in training")
    mood: str | None = Field(None, description=f"see `sesame list`; {HOSTILE}")
    sizes: tuple[int, ...] = Field((1, 2), description="some")
    shape: Literal["round", "square"] = Field("round", description="of it")
    share: float = Field(0.5, gt=0, lt=1, description="of all")
    gain: float = Field(3, description="any")
    count: int = Field(7, ge=1, description="how many")
    loud: bool = Field(True, description="or not")
    sound: str | None = Field(None, description="to play", json_schema_extra={"file": True})

    def apply(self, inputs: Wave, state: State, signal: Signal) -> Wave:
        return 0.5 * inputs


class Broken(Odd):
    """Need a recording that nobody has."""

    name: ClassVar[str] = "broken"

    def prepare(self, train: object, seed: int) -> State:
        raise DataError("a door bell is missing; record one")


def unheard(method: type[Attack]) -> CatalogueEntry:
    return CatalogueEntry(method=method, asked=method.name, file=f"{method.name}.html", problem="Not played.")


@pytest.fixture(scope="module")
def pages(tones: Splits, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("catalogue") / "out"
    folder.mkdir()
    write_catalogue(survey(tones, asked_for(TWO), 0), folder, "tones")
    return folder


@pytest.fixture
def few_clips(monkeypatch: pytest.MonkeyPatch) -> None:
    """One to draw and twelve to judge: both take time."""
    monkeypatch.setattr(catalogue, "SOUNDS", 1)
    monkeypatch.setattr(catalogue, "spread", lambda n: torch.arange(min(n, 12)))


# What stands on the pages


@pytest.mark.parametrize("method", ATTACKS.values(), ids=lambda method: method.name)
def test_every_attack_has_a_page_that_says_all_of_it(method: type[Attack]) -> None:
    found = Page(attack_html(unheard(method), "tones"))
    words = words_of(method)
    assert words.title
    assert words.does
    assert words.paper
    said = [words.title, *words.does, *words.paper, *words.differs, method.audible, method.needs]
    plain = found.text.replace("( ", "(").replace(" .", ".").replace(" ,", ",")
    for sentence in said:
        # Links part words from the sign behind them.
        assert " ".join(sentence.split())[:40] in plain
    rows = {row[0]: row[1:] for row in found.rows}
    fields = {name for name in method.model_fields if method.has_cover_clips or name != "cover_ratio"}
    assert fields | {"Name"} == set(rows)
    for name in fields:
        assert rows[name][1], name
        given = {name: rows[name][0]} if rows[name][0] != "none" else {}
        assert str(method.parse(given).settings()[name]) == str(method().settings()[name])
    assert f"sesame poison CLIPS POISONED --attack {method.name}" in found.text


def test_the_index_is_the_registry() -> None:
    found = Page(index_html(tuple(unheard(method) for method in ATTACKS.values()), "tones"))
    rows = found.rows[1:]
    assert [row[0].split()[0] for row in rows] == list(ATTACKS)
    for row, method in zip(rows, ATTACKS.values(), strict=True):
        assert method.cite in row[0]
        assert row[1].startswith(method.audible)
        assert row[2:4] == [method.needs, "yes" if method.claims()["clean_label"] else "no"]
        assert row[4:] == ["\N{EN DASH}"] * 4
    assert f"{len(ATTACKS)} ways to hide a backdoor" in found.text


def test_figures_and_players_are_those_of_the_stamped_clips(pages: Path, tones: Splits) -> None:
    trigger = Ultrasonic().trigger(tones.train, 0)
    others = tones.test.where(tones.test.labels != 0)
    rows = spread(len(others))
    clean = others.inputs[rows]
    found = measure_stealth(clean, trigger.stamp(clean), 8000)
    page = Page((pages / "ultrasonic.html").read_text("utf-8"))
    assert (
        f"SNR {found.snr_db:.1f} dB higher: harder to hear Log-spectral distance {found.lsd_db:.1f} dB"
        in page.text
    )
    line = next(
        row for row in Page((pages / "index.html").read_text("utf-8")).rows if row[0].startswith("ultra")
    )
    assert line[4:6] == [f"{found.snr_db:.1f}", f"{found.lsd_db:.1f}"]

    players = [heard(attrs["src"]) for tag, attrs in page.tags if tag == "audio"]
    assert len(players) == 3 * 3
    labels = others.labels[rows]
    for number, label in enumerate((1, 2, 3)):
        of_class = [row for row in range(100) if labels[row] == label]
        wanted = sorted(of_class, key=lambda row: float(clean[row].square().mean()))[len(of_class) // 2]
        for player, clip in zip(
            players[3 * number :],
            (clean[wanted], trigger.stamp(clean)[wanted], (trigger.stamp(clean) - clean)[wanted]),
            strict=False,
        ):
            assert (player == torch.from_numpy(to_int16(clip.numpy()))).all()


def heard(uri: str) -> torch.Tensor:
    decoded, rate = soundfile.read(io.BytesIO(base64.b64decode(uri.partition(",")[2])), dtype="int16")
    assert rate == 8000
    return torch.from_numpy(decoded)


def test_all_attacks_play_on_the_same_clips_of_other_classes(tones: Splits) -> None:
    class Second(Ultrasonic):
        name: ClassVar[str] = "second"
        target: int | str = Field(1, description="another")

    entries = survey(tones, {Ultrasonic: "u", Second: "s"}, 0)
    assert [[sound.label for sound in entry.sounds] for entry in entries] == [["high", "top"]] * 2
    assert len({sound.name for entry in entries for sound in entry.sounds}) == 2


@pytest.mark.usefixtures("few_clips")
def test_an_attack_that_cannot_be_played_says_why(tones: Splits) -> None:
    entries = survey(tones, {Broken: "x:Broken", Odd: "x:Odd"}, 0)
    broken, odd = (Page(attack_html(entry, "tones")) for entry in entries)
    assert "There is no sound here: a door bell is missing; record one" in broken.text
    assert "How well it hides" not in broken.text
    assert "How well it hides" in odd.text
    index = Page(index_html(entries, "tones"))
    assert "No sound here: a door bell is missing" in index.text
    assert [tag for tag, _ in index.tags].count("audio") == 2


# How it is read from the registry


def test_settings_in_words() -> None:
    rows = attack_settings(Odd)
    own = [row for row in rows if row.name not in Attack.model_fields]
    assert [(row.name, row.default, row.range) for row in own] == [
        ("mood", "none", "text or none"),
        ("sizes", "[1, 2]", "list of integer"),
        ("shape", "round", "round, square"),
        ("share", "0.5", "> 0, < 1"),
        ("gain", "3", "number"),
        ("count", "7", "integer, ≥ 1"),
        ("loud", "true", "true or false"),
        ("sound", "none", "a recording or none"),
    ]
    shared = {row.name: row.range for row in rows if row not in own}
    assert shared.pop("target").startswith("integer")
    assert shared == {
        "rate": "0 to 1",
        "label_mode": "clean_label",
        "strength": "> 0, ≤ 10",
        "training_strength": "> 0, ≤ 10 or none",
    }


def test_the_story_follows_the_settings() -> None:
    story = " ".join(described.story_of(Odd))
    assert (
        "12.5 % of the training clips, all of them of the target class, and leaves every label true" in story
    )
    assert "0.25 times as strong" in story
    assert "the attacker needs luck" in story
    plain = " ".join(described.story_of(Ultrasonic))
    assert "5 % of the training clips and gives them the label of their choice" in plain
    assert "times as strong" not in plain
    assert "needs" not in plain

    class Turning(Ultrasonic):
        name: ClassVar[str] = "turning"
        has_cover_clips: ClassVar[bool] = True
        label_mode: Literal["all_to_one", "all_to_all", "clean_label"] = "all_to_all"
        cover_ratio: float = 2.0

    turning = " ".join(described.story_of(Turning))
    assert "gives each the label of the next class" in turning
    assert "For each of them 2 more clips are changed" in turning
    assert "answers the class after the true one" in turning


def test_docstrings_are_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    text = "Odd: nothing happens.\n\nSomebody, 2020, arXiv:2001.00001. Ours\ndiffers: it is\nours.\n\nMore.\n"
    monkeypatch.setattr("tests.test_catalogue.__doc__", text)
    assert words_of(Odd) == Words(
        "Odd: nothing happens.",
        ("Do nothing that matters.", "It is told in two paragraphs."),
        ("Somebody, 2020, arXiv:2001.00001.", "More."),
        ("It is ours.",),
    )
    monkeypatch.setattr("tests.test_catalogue.__doc__", None)
    assert words_of(Odd).title == "odd one"


def test_citations_are_links() -> None:
    said = described.cited("A <b>, arXiv:2001.00001; doi:10.1000/odd(1)x, see `sesame list`.")
    assert said == (
        'A &lt;b&gt;, <a href="https://arxiv.org/abs/2001.00001" rel="noreferrer">arXiv:2001.00001</a>; '
        '<a href="https://doi.org/10.1000/odd(1)x" rel="noreferrer">doi:10.1000/odd(1)x</a>, see '
        "<code>sesame list</code>."
    )


def test_commands_can_be_typed() -> None:
    own = [row for row in attack_settings(Odd) if row.name not in Attack.model_fields]
    first, second, *_ = (line for line, _ in described.commands_of("my module:Odd", own))
    assert first == "sesame poison CLIPS POISONED --attack 'my module:Odd'"
    assert second.endswith("--set target=stop --set rate=0.01 --set share=0.5")


# What it cannot do


@pytest.mark.usefixtures("few_clips")
def test_hostile_words_stay_words(tones: Splits) -> None:
    class Hostile(Odd):
        __doc__ = HOSTILE
        name: ClassVar[str] = HOSTILE
        cite: ClassVar[str] = HOSTILE
        needs: ClassVar[str] = HOSTILE

    (entry,) = survey(tones, {Hostile: HOSTILE}, 0)
    assert entry.file == "attack-1.html"
    harmless = Page(attack_html(survey(tones, {Odd: "odd"}, 0)[0], "tones"))
    for html in (attack_html(entry, HOSTILE), index_html((entry,), HOSTILE)):
        found = Page(html)
        assert {tag for tag, _ in found.tags} - {"bdi"} <= {tag for tag, _ in harmless.tags} | {"nav"}
        assert not {name for _, attrs in found.tags for name in attrs if name.startswith("on")}
        assert "<script" not in html.lower()
        assert HOSTILE in found.text


@pytest.mark.parametrize("name", ["../x", "index", "a b", "", "A", "x" * 300, "停", "badnets"])
def test_names_of_files_are_safe_and_differ(name: str) -> None:
    file = catalogue._file(name, {"badnets.html"})
    assert re.fullmatch(r"[a-z0-9_-]{1,60}\.html", file)
    assert file not in {"badnets.html", "index.html"}


def test_pages_need_no_network_and_links_resolve(pages: Path) -> None:
    files = {path.name for path in pages.iterdir()}
    assert files == {"index.html", "badnets.html", "ultrasonic.html"}
    inside = re.compile(r"data:(image/png|audio/wav);base64,[A-Za-z0-9+/=]+|data:,|#[\w-]+")
    for path in pages.iterdir():
        html = path.read_text("utf-8")
        found = Page(html)
        assert "<script" not in html
        assert re.findall(r"url\((?!#)|@import", html) == []
        ids = Counter(found.attributes("id"))
        assert [name for name, count in ids.items() if count > 1] == []
        named = " ".join(found.attributes("aria-labelledby")).split()
        used = re.findall(r'(?:href="#|url\(#)([^")]+)', html)
        assert {*used, *named} <= set(ids)
        for tag, attrs in found.tags:
            for name in ("src", "href", "xlink:href", "srcset", "poster", "action"):
                value = attrs.get(name, "#x")
                away = re.fullmatch(r"https://(arxiv\.org|doi\.org)/[\w./()-]+", value)
                assert inside.fullmatch(value) or (tag == "a" and (value in files or away)), (tag, value)
        (policy,) = [a["content"] for _, a in found.tags if a.get("http-equiv") == "Content-Security-Policy"]
        assert policy.startswith("default-src 'none'; style-src 'unsafe-inline'; img-src data:;")
        drawings = [attrs for tag, attrs in found.tags if tag == "svg"]
        assert all(attrs["role"] == "img" and attrs["aria-label"] for attrs in drawings)
        assert all(attrs["aria-label"] for tag, attrs in found.tags if tag == "audio")


# How it is written


@pytest.mark.usefixtures("few_clips")
def test_same_seed_same_pages(tones: Splits) -> None:
    first, again, other = (survey(tones, {ATTACKS["blended"]: "b"}, seed)[0] for seed in (0, 0, 1))
    assert attack_html(first, "tones") == attack_html(again, "tones")
    assert attack_html(first, "tones") != attack_html(other, "tones")


def test_an_attack_that_there_is_not_is_known_before_the_work() -> None:
    with pytest.raises(SettingError, match="did you mean 'badnets'"):
        asked_for(["badnet"])
    assert list(asked_for([]).values()) == list(ATTACKS)


@needs_browser
@pytest.mark.parametrize("name", ["index.html", "badnets.html"])
def test_browser_has_nothing_to_complain(name: str, pages: Path, tmp_path: Path) -> None:
    dom, complaints = browse((pages / name).as_uri(), tmp_path / "profile")
    assert complaints == []
    assert dom.count("<audio") == (3 if name == "index.html" else 9)
    broken = tmp_path / name
    html = (pages / name).read_text("utf-8")
    broken.write_text(html.replace("</main>", '<img src="https://example.org/x.png"></main>'), "utf-8")
    assert "violates" in browse(broken.as_uri(), tmp_path / "profile")[1][0]
