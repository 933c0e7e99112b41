"""IBD-PSC, by hand: logits that are the first two samples, behind two batch norms."""

import copy
import math

import pytest
import torch
from torch import Tensor, nn

from closesesame.core import machine
from closesesame.data import Dataset
from closesesame.detection import IbdPsc
from closesesame.detection.common.activations import batch_norms
from closesesame.detection.ibd_psc import amplified
from closesesame.models import Classifier, adapt
from closesesame.testing.examples import own_network
from closesesame.training import predict


class Twice(nn.Module):
    """Two samples through two batch norms; the last shifts the second, the head favours the first class."""

    def __init__(self, advantage: float, shift: float = 0.0) -> None:
        super().__init__()
        self.head = nn.Linear(2, 2)
        self.last, self.first = nn.BatchNorm1d(2, eps=0), nn.BatchNorm1d(2, eps=0)
        with torch.no_grad():
            self.head.weight.copy_(torch.eye(2))
            self.last.bias[1] = shift
            self.head.bias.copy_(torch.tensor([advantage, 0.0]))

    def forward(self, wav: Tensor) -> Tensor:
        logits: Tensor = self.head(self.last(self.first(wav[:, :2])))
        return logits


def model(advantage: float, shift: float = 0.0) -> Classifier:
    return adapt(Twice(advantage, shift), ("a", "b"), (800,), 8_000)


def clips(*second: float) -> Dataset:
    wav = torch.zeros(len(second), 800)
    wav[:, 1] = torch.tensor(second)
    labels = torch.zeros(len(second), dtype=torch.long)
    return Dataset.of(wav, labels, classes=("a", "b"), sample_rate=8_000)


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def counts(method: IbdPsc, advantage: float, clean: Dataset) -> range:
    suspect = model(advantage)
    return method.counts(suspect, batch_norms(suspect), clean)


def test_the_score_is_the_mean_probability_of_the_class_that_was_answered() -> None:
    with machine.precision("fp32"):
        scores = IbdPsc().score(model(1.2, 0.2), clips(0.9, -0.4, 2.0), clips(0.9), 0).scores
    # The last norm alone makes 1.5 (x + 0.2) of the second sample x, and both make 1.5 (1.5 x + 0.2).
    wanted = [
        (sigmoid(1.2 - 1.5 * 1.1) + sigmoid(1.2 - 1.5 * 1.55)) / 2,
        (sigmoid(1.2 + 1.5 * 0.2) + sigmoid(1.2 + 1.5 * 0.4)) / 2,
        (sigmoid(1.5 * 2.2 - 1.2) + sigmoid(1.5 * 3.2 - 1.2)) / 2,  # the second class was answered
    ]
    assert scores.tolist() == pytest.approx(wanted, abs=1e-6)


def test_the_first_model_is_the_one_that_gets_more_clean_clips_wrong_than_allowed() -> None:
    assert counts(IbdPsc(), 1.2, clips(1.0)) == range(1, 3)
    assert counts(IbdPsc(models=1), 1.2, clips(1.0)) == range(1, 2)
    assert counts(IbdPsc(), 1.6, clips(1.0)) == range(2, 3)
    assert counts(IbdPsc(error=0.5, models=1), 1.2, clips(1.0, 0.0)) == range(2, 3)  # half is not more
    assert counts(IbdPsc(error=0.4, models=1), 1.2, clips(1.0, 0.0)) == range(1, 2)
    assert counts(IbdPsc(factor=2, models=1), 1.6, clips(1.0)) == range(1, 2)


def test_an_input_is_flagged_above_the_threshold_of_the_paper() -> None:
    assert IbdPsc().flags_above() == 0.9
    assert IbdPsc(threshold=0.7).flags_above() == 0.7


def test_without_such_a_model_the_highest_counts_are_taken() -> None:
    assert counts(IbdPsc(), 9.0, clips(1.0)) == range(1, 3)
    assert counts(IbdPsc(models=1), 9.0, clips(1.0)) == range(2, 3)


def test_scale_and_shift_of_the_norms_that_are_computed_last_are_amplified() -> None:
    network = Twice(0.3)
    with torch.no_grad():
        network.first.bias.fill_(0.2)
        network.last.bias.fill_(0.5)
    suspect = adapt(network, ("a", "b"), (800,), 8_000)
    by_hand = copy.deepcopy(network)
    with torch.no_grad():
        by_hand.last.weight.mul_(3)
        by_hand.last.bias.mul_(3)
    data = clips(0.7, -0.2)
    before = predict(suspect, data)
    with amplified(batch_norms(suspect)[-1:], 3):
        found = predict(suspect, data)
    torch.testing.assert_close(found, predict(by_hand, data))
    assert torch.equal(predict(suspect, data), before)
    assert not torch.allclose(found, before)


def test_networks_of_others_list_their_norms_in_any_order() -> None:
    suspect = model(0.0)
    assert [norm.name for norm in batch_norms(suspect)] == ["first", "last"]
    assert len(batch_norms(adapt(own_network(), ("a", "b", "c", "d"), (4000,), 8_000))) == 1
