"""Evidence: what methods show is plain data, and pages draw it without knowing the method."""

import re
from typing import ClassVar, Literal

import pytest
import torch
from torch import Tensor

from closesesame.attacks import BadNets
from closesesame.core.errors import SettingError
from closesesame.core.evidence import (
    Change,
    Changes,
    Curve,
    Distributions,
    Evidence,
    Group,
    Map,
    Points,
    Series,
)
from closesesame.data import Dataset, Splits
from closesesame.detection import DETECTIONS, Detection
from closesesame.detection.base import hidden_order, ranks_of
from closesesame.evaluation import Exam, neurons_of
from closesesame.evaluation.neurons import KINDS
from closesesame.inspection import INSPECTIONS, Inspection, MaxMargin, Verdict
from closesesame.listing import method_to_show
from closesesame.models import Classifier
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


def test_changes_go_from_a_hollow_dot_to_a_full_one_beside_the_reference() -> None:
    rows = (Change(name=HOSTILE, before=90.0, after=35.0, reference=5.0),)
    shape = Changes(caption="What", unit="metres", before="old", after="new", reference="usual", rows=rows)
    drawing = str(draw("key", shape))
    left, right = (float(x) for x in re.findall(r'x="([\d.]+)"[^>]*>(?:0|100)</text>', drawing))
    (line,) = re.findall(r'<path d="M ([\d.]+) [^>]*style="fill: none; stroke: var\(--ink\)', drawing)
    dots = re.findall(r'<use [^>]*x="([\d.]+)"[^>]*style="fill: (var\(--\w+\))', drawing)
    shares = [(float(x) - left) / (right - left) for x in (dots[0][0], dots[1][0], line)]
    assert shares == pytest.approx([0.9, 0.35, 0.05], abs=0.01)
    assert [colour for _, colour in dots] == ["var(--paper)", SUSPICIOUS]
    assert "hollow: old; full: new; line: usual" in drawing
    assert "<script" not in drawing


def test_a_series_is_a_dot_a_time_and_a_line_through_running_means() -> None:
    values = torch.cat([torch.zeros(10), torch.ones(10)])
    drawing = str(draw("key", Series(caption="What", unit="metres", times="day", values=values)))
    dots = re.findall(r'<use [^>]*x="([\d.]+)" y="([\d.]+)" style="fill: var\(--acc\)', drawing)
    assert len(dots) == 20
    assert [y for _, y in dots] == [dots[0][1]] * 10 + [dots[-1][1]] * 10
    (path,) = re.findall(r'<path d="([^"]+)"[^>]*style="fill: none; stroke: var\(--ink\)', drawing)
    line = [tuple(map(float, point)) for point in re.findall(r"([\d.]+) ([\d.]+)", path)]
    low, high = float(dots[0][1]), float(dots[-1][1])  # a mean of two lies between two dots
    assert line[0] == pytest.approx(((float(dots[0][0]) + float(dots[1][0])) / 2, low), abs=0.01)
    assert line[-1][1] == pytest.approx(high, abs=0.01)
    assert any(y == pytest.approx((low + high) / 2, abs=0.01) for _, y in line)
    words = [data for tag, data in Page(drawing).pieces if tag == "text"]
    assert {"metres", "day"} <= set(words)
    assert 'aria-label="What: 0 at first, 1 at last, as means over a tenth"' in drawing
    assert "1 at first, 1 at last" in draw("key", Series(caption="", unit="", times="", values=torch.ones(1)))


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
    shown = method.evidence(clean_model, tones.train, tones.validation, 0)
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


class Ranked(Detection):
    """Give the scores 0, 1, 2 and so on; equal ones to the first four clips."""

    name: ClassVar[str] = "ranked"
    cite: ClassVar[str] = "none"
    of: ClassVar[Literal["training clips", "inputs"]] = "training clips"

    def suspicion(self, model: Classifier, examples: Dataset, clean: Dataset, seed: int) -> Tensor:
        """By place alone."""
        return torch.arange(len(examples)).clamp(min=3).double()


def test_a_detection_shows_where_the_scores_of_a_class_stand(tones: Splits, clean_model: Classifier) -> None:
    # 40 clips: ranks 2/40 for the first four, then 4.5/40 to 39.5/40; the highest 5 % are the last two.
    labels = torch.tensor([0, 0, 1, 1] + [0] * 17 + [1] * 16 + [0, 3, 3])
    examples = tones.train.take(torch.arange(40))
    examples = examples.with_labels(labels[hidden_order(examples).argsort()])  # in the order that is scored
    found = Ranked().evidence(clean_model, examples, tones.validation, 0)
    assert ranks_of(torch.arange(40).clamp(min=3).double())[[0, 3, 4, 39]].tolist() == pytest.approx(
        [0.05, 0.05, 0.1125, 0.9875]
    )
    (shape,) = found.shapes
    assert isinstance(shape, Distributions)
    name = examples.classes[3]
    assert shape.caption == f"“{name}”: 2 of its 2 clips are among the 2 with the highest scores"
    others, own = shape.curves
    assert (others.name, own.name, others.suspicious, own.suspicious) == (
        "all other classes",
        f"“{name}”",
        False,
        True,
    )
    assert own.at[[0, -1]].tolist() == [2.5, 97.5]
    assert own.density.tolist() == [0.0] * 19 + [1.0]
    # Four equal scores at 5 %, which is where the second part begins; then two clips in each part.
    assert (38 * others.density).round().tolist() == [0.0, 4.0, *[2.0] * 17, 0.0]
    # Clips of one class alone, and scores that tell nothing apart.
    alone = examples.with_labels(torch.zeros(40, dtype=torch.long))
    (shape,) = Ranked().evidence(clean_model, alone, tones.validation, 0).shapes
    assert isinstance(shape, Distributions)
    assert len(shape.curves) == 1


@pytest.mark.parametrize("name", DETECTIONS)
def test_the_detections_of_papers_show_their_scores(
    name: str, tones: Splits, clean_model: Classifier
) -> None:
    found = DETECTIONS.make(name, DETECTIONS[name].quick).evidence(
        clean_model, tones.train, tones.validation, 0
    )
    assert name in found.title
    assert 1 <= len(found.shapes) <= 4
    report_html(Report(title="t", entries=(), evidence=(found,)))


class Finds(Inspection):
    """Recover what the settings say, with an alarm or without."""

    name: ClassVar[str] = "finds"
    cite: ClassVar[str] = "none"
    alarm: bool = True
    wave: bool = False

    def judge(self, model: Classifier, clean: Dataset, seed: int) -> Verdict:
        """The number of the clean clips and of the seed stand among the statistics."""
        pattern = torch.linspace(-1, 1, model.card.input_shape[0]) if self.wave else torch.eye(3, 5) - 0.5
        return Verdict(
            backdoored=self.alarm,
            target="high" if self.alarm else None,
            statistics={"low": float(len(clean)), "high": 7.0, "top": float(seed), "middle": 0.25},
            compared="this with that",
            threshold=0.125,
            p_value=0.0625,
            pattern=pattern,
        )


def test_an_inspection_shows_its_statistics_and_its_pattern(tones: Splits, clean_model: Classifier) -> None:
    found = Finds().evidence(clean_model, tones.train, tones.validation, 5)
    points, pattern = found.shapes
    assert isinstance(points, Points)
    assert [(one.name, one.values.tolist()) for one in points.groups] == [
        ("“high”", [7.0]),
        ("other classes", [float(len(tones.validation)), 5.0, 0.25]),
    ]
    assert [one.suspicious.tolist() for one in points.groups] == [[True], [False] * 3]
    assert "this with that" in found.text
    assert "“high” 7, “top” 5." in found.text
    assert "names “high” as the target label" in found.text
    assert isinstance(pattern, Map)
    assert torch.equal(pattern.values, torch.eye(3, 5) - 0.5)
    assert (pattern.scale, pattern.sound) == ((-0.5, 0.5), None)
    quiet = Finds(alarm=False, wave=True).evidence(clean_model, tones.train, tones.validation, 5)
    points, pattern = quiet.shapes
    assert isinstance(points, Points)
    assert [one.name for one in points.groups] == ["all classes"]
    assert "It raises no alarm" in quiet.text
    assert isinstance(pattern, Map)
    wave = torch.linspace(-1, 1, clean_model.card.input_shape[0])
    assert torch.equal(pattern.values, clean_model.front_end(wave[None])[0])
    assert pattern.sound is not None
    assert torch.equal(pattern.sound[0], wave)
    report_html(Report(title="t", entries=(), evidence=(found, quiet)))


def test_max_margin_shows_its_margins(tones: Splits, clean_model: Classifier) -> None:
    method = MaxMargin(starts=3, steps=3)
    (points,) = method.evidence(clean_model, tones.train, tones.validation, 0).shapes
    assert isinstance(points, Points)
    values = sorted(float(value) for group in points.groups for value in group.values)
    assert values == sorted(method.inspect(clean_model, None, 0).statistics.values())


def test_methods_that_have_something_to_show_are_known_before_any_work() -> None:
    assert isinstance(method_to_show("dbrpu"), DBRPU)
    assert isinstance(method_to_show("max_margin"), MaxMargin)
    assert isinstance(method_to_show(f"{__name__}:Finds"), Finds)
    for name in ("clp", "badnets", "resnet", "lowpass"):
        with pytest.raises(SettingError, match="nothing to show of a model; methods that have are") as error:
            method_to_show(name)
        assert {"dbrpu", *DETECTIONS, *INSPECTIONS} == set(str(error.value).split("have are ")[1].split(", "))
    with pytest.raises(SettingError, match="did you mean 'max_margin'"):
        method_to_show("max_margn")
