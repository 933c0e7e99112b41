"""Evidence: what methods show is plain data, and pages draw it without knowing the method."""

import re

import pytest
import torch

from closesesame.attacks import BadNets
from closesesame.core.evidence import Curve, Distributions, Evidence, Group, Map, Points
from closesesame.data import Splits
from closesesame.evaluation import Exam, neurons_of
from closesesame.evaluation.neurons import KINDS
from closesesame.models import Classifier
from closesesame.removal import FT
from closesesame.removal.dbrpu import DBRPU
from closesesame.report import Report, report_html
from closesesame.report.charts.distributions import draw
from closesesame.report.from_models import compare

from .pages import Page

HOSTILE = "<script>alert(1)</script>\"'$\\frac{_^%&--!>]]><img src=x onerror=y>"
SUSPICIOUS, OTHER = "var(--asr)", "var(--acc)"


def group(name: str, values: list[float], suspicious: list[bool]) -> Group:
    return Group(
        name=name, values=torch.tensor(values), suspicious=torch.tensor(suspicious, dtype=torch.bool)
    )


def marks(drawing: str) -> dict[str, int]:
    """How many dots of each colour a drawing has."""
    uses = re.findall(r'<use [^>]*style="fill: (var\(--\w+\))[^"]*fill-opacity[^>]*/>', drawing)
    return {colour: uses.count(colour) for colour in set(uses)}


def test_points_are_drawn_at_their_values_with_the_suspicious_in_another_colour() -> None:
    shape = Points(
        caption="What",
        unit="metres",
        groups=(group("first", [1.0, 2.0, 9.0], [False, False, True]), group("none", [], [])),
        threshold=5.0,
    )
    drawing = draw("key", shape)
    assert marks(drawing) == {OTHER: 2, SUSPICIOUS: 1}
    words = [data for tag, data in Page(str(drawing)).pieces if tag == "text"]
    assert {"first (3)", "none (0)", "metres; dashed: threshold"} <= set(words)
    assert 'aria-label="What; medians: first 2"' in drawing
    assert "stroke-dasharray" in drawing
    plain = Points(caption="What", unit="m", groups=shape.groups)
    assert "stroke-dasharray: 4" not in draw("key", plain)


def test_distributions_are_scaled_to_their_own_peaks() -> None:
    at = torch.linspace(0, 1, 11)
    wide = Curve(name="wide", at=at, density=torch.full((11,), 0.01))
    narrow = Curve(name="narrow", at=at, density=100 * (at == 0.5).float(), suspicious=True)
    drawing = draw("key", Distributions(caption="Two", unit="metres", curves=(wide, narrow)))
    tops = {}
    for path, colour in re.findall(
        r'<path d="([^"]+)"[^>]*style="fill: none; stroke: (var\(--\w+\))', drawing
    ):
        if colour in {OTHER, SUSPICIOUS}:
            tops[colour] = min(float(y) for y in re.findall(r"[\d.]+ ([\d.]+)", path))
    assert tops[OTHER] == pytest.approx(tops[SUSPICIOUS], abs=0.1)


def test_map_keeps_to_its_scale() -> None:
    values = torch.tensor([[-50.0, 0.0], [0.0, 50.0]])
    shape = Map(caption="A map", values=values, seconds=0.5, rows="band", unit="dB", scale=(-1.0, 2.0))
    words = [data for tag, data in Page(str(draw("key", shape))).pieces if tag == "text"]
    assert {"band", "dB", "time, s"} <= set(words)
    assert {"\N{MINUS SIGN}1.00", "2.00"} <= set(words)


def test_page_shows_evidence_and_its_sound() -> None:
    sound = (torch.zeros(80), 8000)
    shape = Map(
        caption=HOSTILE,
        values=torch.zeros(2, 2),
        seconds=1,
        rows=HOSTILE,
        unit=HOSTILE,
        scale=(0.0, 1.0),
        sound=sound,
    )
    points = Points(caption=HOSTILE, unit=HOSTILE, groups=(group(HOSTILE, [1.0], [True]),))
    shown = Evidence(title=HOSTILE, text=HOSTILE, shapes=(shape, points))
    html = report_html(Report(title="t", entries=(), evidence=(shown, shown)))
    found = Page(html)
    assert len(found.all("audio")) == 2
    assert [words for _, words in found.all("h2")].count(HOSTILE) == 2
    assert "<script" not in html.lower()
    ids = found.attributes("id")
    assert len(ids) == len(set(ids))


def test_neurons_are_shown_by_kind(tones: Splits, clean_model: Classifier) -> None:
    found = neurons_of(clean_model, Exam(tones.test, BadNets(target=1).trigger(tones.train, 0)))
    shown = found.evidence()
    (points,) = shown.shapes
    assert isinstance(points, Points)
    assert [one.name for one in points.groups] == list(KINDS)
    assert [len(one.values) for one in points.groups] == [found.kinds().count(kind) for kind in KINDS]
    assert [bool(one.suspicious.all()) for one in points.groups if len(one.values)] == [
        kind == "backdoored" for kind in KINDS if found.kinds().count(kind)
    ]
    for one in points.groups:
        if len(one.values):
            assert float(one.values.median()) == pytest.approx(found.medians()[one.name])  # type: ignore[index]


def test_dbrpu_shows_what_it_works_on(tones: Splits, clean_model: Classifier) -> None:
    method = DBRPU()
    before = {name: value.clone() for name, value in clean_model.state_dict().items()}
    shown = method.evidence(clean_model, tones.validation, 0)
    assert all(torch.equal(value, before[name]) for name, value in clean_model.state_dict().items())
    maps = [shape for shape in shown.shapes if isinstance(shape, Map)]
    assert 1 <= len(maps) <= 4
    for one in maps:
        assert one.sound is not None
        wav, rate = one.sound
        assert rate == tones.train.sample_rate
        assert len(wav) == tones.train.input_shape[0]
        assert 0.01 < float(wav.square().mean().sqrt()) < 0.2
    (points,) = [shape for shape in shown.shapes if isinstance(shape, Points)]
    assert points.threshold == method.threshold
    for layer in points.groups:
        assert torch.equal(layer.suspicious, layer.values > method.threshold)
    assert len([shape for shape in shown.shapes if isinstance(shape, Distributions)]) == 4
    page = compare(
        exam=Exam(tones.test), before=("m", clean_model), repaired={}, title="t", evidence=(shown,)
    )
    assert "Examples synthesised from the model" in report_html(page)


def test_a_removal_shows_nothing_unless_it_says_so(tones: Splits, clean_model: Classifier) -> None:
    assert FT().evidence(clean_model, tones.validation, 0) is None
