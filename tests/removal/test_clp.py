"""CLP: how far is too far, on which side, and what counts as the gain of a channel."""

import pytest
import torch
from torch import Tensor, nn

from closesesame.models import Classifier, adapt
from closesesame.removal import CLP
from closesesame.training import accuracy
from tests.removal.tiny import asr, vectors, victim


class Ten(nn.Module):
    """Ten channels of equal weights, with a batch norm."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv1d(2, 10, 3, bias=False)
        self.norm = nn.BatchNorm1d(10)
        self.head = nn.Linear(10, 4)
        with torch.no_grad():
            self.conv.weight.copy_(torch.arange(6.0).view(2, 3).expand(10, 2, 3))
            self.norm.bias.fill_(1)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.head(torch.relu(self.norm(self.conv(x))).mean(2))
        return logits


def pruned(net: Ten, u: float) -> list[int]:
    model: Classifier = adapt(net, ("a", "b", "c", "d"), (2, 9), None)
    repair = CLP(u=u).remove(model, None, 0)
    norm = repair.model.body.norm
    assert isinstance(norm, nn.BatchNorm1d)
    gone = (norm.weight == 0).nonzero().flatten().tolist()
    assert (norm.bias == 0).nonzero().flatten().tolist() == gone
    assert repair.chosen == {"pruned_channels": len(gone), "of": 10}
    return gone


def grown(how: str, factor: float) -> Ten:
    """The network with channel 6 amplifying by a factor, in one of three ways."""
    net = Ten()
    assert net.norm.running_var is not None
    with torch.no_grad():
        if how == "kernel":
            net.conv.weight[6] *= factor
        elif how == "scale":
            net.norm.weight[6] = -factor
        else:
            net.norm.running_var[6] /= factor**2
    return net


@pytest.mark.parametrize("how", ["kernel", "scale", "variance"])
def test_one_of_ten_is_9_over_the_root_of_10_deviations_off_wherever_its_gain_comes_from(how: str) -> None:
    # With nine bounds of 1 and one of 1 + d: mean 1 + d / 10, deviation d / sqrt(10), so it is 2.846 above.
    assert pruned(grown(how, 5), u=2.84) == [6]
    assert pruned(grown(how, 5), u=2.85) == []
    assert pruned(grown(how, 5), u=3) == []


@pytest.mark.parametrize("how", ["kernel", "scale", "variance"])
def test_a_channel_that_amplifies_less_than_its_peers_stays(how: str) -> None:
    assert pruned(grown(how, 0.2), u=2.84) == []


def test_a_large_kernel_behind_a_small_scale_stays() -> None:
    net = grown("kernel", 5)
    with torch.no_grad():
        net.norm.weight[6] = 0.2
        net.norm.weight[1] = 2.0
    assert pruned(net, u=2) == [1]


def test_clp_shuts_a_trigger_that_its_unit_amplifies() -> None:
    unseen = vectors(60, 1)
    repaired = CLP(u=2).remove(victim(), None, 0).model
    assert asr(victim(), unseen) == 1
    assert asr(repaired, unseen) < 0.1
    assert accuracy(repaired, unseen) == accuracy(victim(), unseen) > 0.9
