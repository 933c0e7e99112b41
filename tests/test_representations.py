"""How far a repair moved a model: distance, CKA and cosines by hand, and what a report shows of them."""

import copy
import math
from pathlib import Path

import pytest
import torch
from torch import nn

from closesesame.attacks import BadNets
from closesesame.core.evidence import Points
from closesesame.data import Splits
from closesesame.evaluation import Exam
from closesesame.evaluation.representations import (
    MOST_CLIPS,
    cosines,
    evidence_of,
    linear_cka,
    weight_distance,
)
from closesesame.models import Classifier, adapt, save_model
from closesesame.testing.examples import make_tones
from closesesame.training.features import features_of
from tests.commands import FolderOf, Sesame


def network(weight: tuple[float, float], bias: float, running: float) -> Classifier:
    """A linear layer of two weights, a bias and one that is 0, behind a batch norm without weights."""
    norm, head = nn.BatchNorm1d(1, affine=False), nn.Linear(1, 2)
    assert norm.running_mean is not None
    norm.running_mean.fill_(running)
    with torch.no_grad():
        head.weight.copy_(torch.tensor(weight)[:, None])
        head.bias.copy_(torch.tensor([bias, 0.0]))
    return adapt(nn.Sequential(norm, head), ("yes", "no"), (1,), None)


def test_the_distance_is_of_all_weights_and_in_units_of_the_first_model() -> None:
    suspect, repaired = network((2.0, 4.0), 4.0, running=0), network((2.0, 1.0), 8.0, running=9)
    assert weight_distance(repaired, suspect) == pytest.approx(5 / 6)  # |(0, -3, 4)| = 5, |(2, 4, 4)| = 6
    assert weight_distance(suspect, repaired) == pytest.approx(5 / math.sqrt(69))
    assert weight_distance(suspect, suspect) == 0


def test_networks_of_other_shapes_have_no_distance(clean_model: Classifier) -> None:
    assert weight_distance(clean_model, network((1.0, 1.0), 1.0, 0)) is None


def test_cka_of_a_matrix_by_hand() -> None:
    # Without their means, x = (-1, 0, 1) and y has the rows (-1, 1), (0, -2), (1, 1):
    # x'y = (2, 0), x'x = 2, y'y = diag(2, 6), so CKA = 4 / (2 sqrt(40)).
    x = torch.tensor([[4.0], [5.0], [6.0]])
    y = torch.tensor([[6.0, 1.0], [7.0, -2.0], [8.0, 1.0]])
    assert linear_cka(x, y) == pytest.approx(4 / (2 * math.sqrt(40)))
    assert linear_cka(y, x) == pytest.approx(linear_cka(x, y))
    turn = torch.tensor([[0.6, -0.8], [0.8, 0.6]])
    assert linear_cka(y, 3 * y @ turn + 1) == pytest.approx(1)
    assert linear_cka(y, y * torch.tensor([1.0, 3.0])) < 0.99  # stretching along one axis is no turn


def test_cosines_are_those_of_rows() -> None:
    first = torch.tensor([[1.0, 0.0], [3.0, 4.0], [1.0, 1.0]])
    second = torch.tensor([[0.0, 2.0], [6.0, 8.0], [-1.0, 0.0]])
    assert cosines(first, second).tolist() == pytest.approx([0, 1, -math.sqrt(0.5)])


def test_evidence_has_the_figures_of_each_repair_and_the_cosines_of_the_same_clip(
    clean_model: Classifier, tones: Splits
) -> None:
    test = make_tones(MOST_CLIPS + 100, 5)
    trigger = BadNets(target=1).trigger(tones.train, 0)
    exam = Exam(test, trigger)
    repaired = copy.deepcopy(clean_model)
    with torch.no_grad():
        for weight in repaired.body.parameters():
            weight.mul_(0.5)
    evidence = evidence_of(exam, clean_model, {"half": repaired, "same": clean_model}, "MODEL")
    assert "half: weights moved by 50 %, CKA 0." in evidence.text
    assert "same: weights moved by 0 %, CKA 1.00" in evidence.text
    assert "on 300 clean clips" in evidence.text
    (shape,) = evidence.shapes
    assert isinstance(shape, Points)
    assert [group.name for group in shape.groups] == ["MODEL", "half", "same"]
    assert [bool(group.suspicious.all()) for group in shape.groups] == [True, False, False]
    rows = torch.linspace(0, 299, 300).long()  # 400 clips of four classes, a hundred of them of the target
    clean, triggered = exam.pairs(rows)
    wanted = cosines(features_of(clean_model, clean), features_of(clean_model, triggered))
    assert torch.equal(shape.groups[0].values, wanted)
    assert float(wanted.max()) < 1
    other = features_of(repaired, triggered)
    assert torch.equal(shape.groups[1].values, cosines(features_of(repaired, clean), other))


def test_without_a_trigger_there_are_figures_and_no_cosines(clean_model: Classifier, tones: Splits) -> None:
    evidence = evidence_of(Exam(tones.test), clean_model, {"same": clean_model}, "MODEL")
    assert not evidence.shapes
    assert "on 200 clean clips" in evidence.text


def test_the_report_of_a_repaired_model_shows_it_and_that_of_one_model_does_not(
    clean_model: Classifier, clips: Path, model: Path, tmp_path: Path, sesame: Sesame, folder_of: FolderOf
) -> None:
    page = tmp_path / "page.html"
    repaired = save_model(clean_model, tmp_path / "repaired", {"task": "word"})
    sesame("report", clips, page, "--before", model)
    assert "Inside: how far" not in page.read_text()
    sesame("report", clips, page, "--before", model, "--after", repaired, "--force")
    html = page.read_text().replace("\N{NO-BREAK SPACE}", " ")
    assert "Inside: how far model was moved" in html
    assert "repaired: weights moved by 0 %, CKA 1.00" in html
