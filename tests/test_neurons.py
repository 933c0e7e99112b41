"""Neurons told apart by silencing them, on a network whose every unit has one job."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from closesesame.attacks import BadNets, Trigger
from closesesame.core.errors import DataError
from closesesame.data import Dataset, Splits
from closesesame.evaluation import Exam, Neurons, neurons_of
from closesesame.models import Classifier, adapt

SPEECH, TRIGGER = torch.tensor([1.0, 0.0]), torch.tensor([1.0, 2.0])


def planted() -> Classifier:
    """Unit 0 hears speech, 1 the trigger, 2 either, 3 neither; class 1 is what the trigger asks for."""
    first, last = nn.Linear(2, 4), nn.Linear(4, 2)
    with torch.no_grad():
        first.weight.copy_(torch.tensor([[2.0, -1.0], [0.0, 2.0], [1.0, 1.0], [-1.0, -1.0]]))
        last.weight.copy_(torch.tensor([[2.0, -2.0, 0.5, 1.0], [-2.0, 2.0, -0.5, -1.0]]))
        first.bias.zero_()
        last.bias.zero_()
    body = nn.Sequential(first, nn.ReLU(), last)
    return adapt(body, ("speech", "wanted"), (2,), None)


def exam(model: Classifier, trigger: Trigger) -> Exam:
    def set_of(row: Tensor) -> Dataset:
        return Dataset.of(row.repeat(6, 1), torch.zeros(6, dtype=torch.long), classes=model.card.classes)

    fitting = replace(trigger, classes=model.card.classes)
    return Exam(set_of(SPEECH), fitting, triggered=set_of(TRIGGER))


@pytest.fixture(scope="module")
def trigger(tones: Splits) -> Trigger:
    return BadNets(target=1).trigger(tones.train, 0)


def test_each_unit_is_told_by_its_job_and_its_gradient_by_hand(trigger: Trigger) -> None:
    model = planted()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    found = neurons_of(model, exam(model, trigger))
    # Speech makes units (2, 0, 1, 0) and logits (4.5, -4.5); the trigger (0, 4, 3, 0) and (-6.5, 6.5).
    usual = torch.tensor([9.0, 13.0])
    gap = torch.tensor([[1.0, 13.0], [9.0, -3.0], [8.0, 16.0], [9.0, 13.0]])
    rises = torch.log1p((-gap).exp()) - torch.log1p((-usual).exp())
    assert torch.allclose(found.clean_rise, rises[:, 0], atol=1e-6)
    assert torch.allclose(found.backdoor_rise, rises[:, 1], atol=1e-6)
    # d loss / d row k = (1 - p) |gap of the logits' weights| x if the unit is on, and x has length 1.
    wrong = float(torch.sigmoid(torch.tensor(-9.0)))
    assert torch.allclose(found.gradient_norm, wrong * torch.tensor([4.0, 0.0, 1.0, 0.0]), rtol=1e-4)
    assert found.kinds(share=0.25) == ["clean", "backdoored", "other", "other"]
    assert found.medians(share=0.25)["clean"] == pytest.approx(4 * wrong, rel=1e-4)
    assert found.medians(share=0.25)["hybrid"] is None
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_what_matters_to_both_is_hybrid_and_what_does_not_rise_matters_to_none() -> None:
    rises = torch.tensor([[0.9, 0.8, 0.0, 0.1], [0.9, 0.0, 0.8, -0.1]])
    found = Neurons(torch.tensor([4.0, 3.0, 2.0, 1.0]), *rises)
    assert found.kinds(share=0.5) == ["hybrid", "clean", "backdoored", "other"]
    assert found.medians(share=0.5) == {"backdoored": 2.0, "hybrid": 4.0, "clean": 3.0, "other": 1.0}
    assert found.kinds(share=1.0) == ["hybrid", "clean", "backdoored", "clean"]


def test_of_many_channels_some_are_looked_at_spread_over_the_layers(trigger: Trigger) -> None:
    model = planted()
    everyone, some = (neurons_of(model, exam(model, trigger), most=most) for most in (1000, 3))
    at = [0, 1, 3]
    for name in ("gradient_norm", "clean_rise", "backdoor_rise"):
        assert torch.equal(getattr(some, name), getattr(everyone, name)[at])


def test_without_a_trigger_neurons_cannot_be_told_apart(tones: Splits, clean_model: Classifier) -> None:
    with pytest.raises(DataError, match="needs a trigger"):
        neurons_of(clean_model, Exam(tones.test))
