"""EP: it takes untrusted examples, all of them, and prunes the channel that answers in two ways."""

import pytest
import torch
from torch import nn

from closesesame.core.seeding import isolated
from closesesame.data import Dataset
from closesesame.data.rows import Rows
from closesesame.models import Classifier, adapt
from closesesame.removal import EP
from closesesame.removal.common.by_score import outliers
from closesesame.removal.ep import minus_entropy
from closesesame.training import accuracy
from tests.conftest import WORDS
from tests.removal.pictures import Plain, drawn, pictures
from tests.removal.stained import Stained, mixture, stained
from tests.removal.tiny import asr, triggered, vectors


def norm_of(model: Classifier) -> torch.nn.BatchNorm1d:
    assert isinstance(model.body, Stained)
    return model.body.norm


def gone(model: Classifier) -> list[int]:
    return (norm_of(model).weight == 0).nonzero().flatten().tolist()


def test_a_planted_backdoor_is_removed_by_the_poisoned_training_set_whatever_its_labels_say() -> None:
    mixed, model = mixture(), stained()
    assert asr(model, vectors(60, 1)) == 1
    wrong = Dataset.of(mixed.inputs[:], mixed.labels.flip(0), classes=mixed.classes)
    for data in (mixed, wrong):
        repaired = EP().remove(model, data, 0).model
        assert gone(repaired) == [11]
        assert asr(repaired, vectors(60, 1)) < 0.1
        assert accuracy(repaired, vectors(60, 1)) > 0.9


def test_held_out_examples_are_looked_at_as_well() -> None:
    model = stained()
    assert EP().repair(model, vectors(450), triggered(vectors(75, 2)), 0)["pruned_channels"] == 1
    assert gone(model) == [11]
    clean = stained()
    EP().repair(clean, vectors(400), vectors(100, 2), 0)
    assert gone(clean) == []  # without poison there is nothing to be found


def test_its_settings_arrive() -> None:
    model = stained()
    assert EP(u=3.2).repair(model, mixture(), vectors(8), 0)["pruned_channels"] == 0  # at most 11 / sqrt(12)
    assert EP(bin_width=10).repair(model, mixture(), vectors(8), 0)["pruned_channels"] == 0
    with torch.no_grad():
        norm_of(model).bias[11] = -0.7
    EP().repair(model, mixture(), vectors(8), 0)
    assert float(norm_of(model).bias[11].detach()) == pytest.approx(
        -0.7
    )  # the authors' code leaves the shift
    EP(shift=True).repair(model, mixture(), vectors(8), 0)
    assert float(norm_of(model).bias[11].detach()) == 0


def test_it_asks_for_untrusted_examples() -> None:
    assert EP.untrusted


@pytest.mark.parametrize("bin_width", [0.01, 0.1])
def test_ep_finds_the_planted_mixture(bin_width: float) -> None:
    values = drawn(500, 64, seed=1) * (1 + torch.arange(64)) + torch.arange(64) ** 2
    assert outliers(minus_entropy(values, bin_width), 3).tolist() == []
    planted = [3, 31, 60]
    values[:50, planted] += 6 * (1 + torch.tensor(planted, dtype=torch.float32))
    assert outliers(minus_entropy(values, bin_width), 3).tolist() == planted
    values[:, 10] = 4  # a channel that never changes counts for nothing
    assert outliers(minus_entropy(values, bin_width), 3).tolist() == planted


def test_ep_takes_the_highest_place_and_prunes_the_shift_if_asked() -> None:
    with isolated(0), torch.no_grad():
        net = Plain()
        net.conv.weight.normal_(0, 0.01)
        net.conv.weight[4, :, 1, 1] = 3.0  # channel 4 answers to a bright spot, and to nothing else
        net.norm.bias.fill_(1)
    model = adapt(net, WORDS, (3, 8, 8), None)
    data = pictures(400)
    inputs = 0.1 * data.inputs[:].clone()
    inputs[::10, :, 4, 4] = 20.0
    poisoned = data.with_inputs(Rows.of(inputs))
    repair = EP(bin_width=0.1, shift=True).remove(model, poisoned, 0)
    norm = repair.model.body.norm
    assert isinstance(norm, nn.BatchNorm2d)
    assert (norm.weight == 0).nonzero().flatten().tolist() == [4]
    assert float(norm.bias[4].detach()) == 0
    kept = EP(bin_width=0.1).remove(model, poisoned, 0).model.body.norm
    assert isinstance(kept, nn.BatchNorm2d)
    assert float(kept.weight[4].detach()) == 0
    assert float(kept.bias[4].detach()) == 1
