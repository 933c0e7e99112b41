"""CLP: how far is too far, on which side, and what counts as the gain of a channel."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from closesesame.models import Classifier, adapt
from closesesame.models.channels import channels_in, channels_of
from closesesame.removal import CLP
from closesesame.removal.clp import lipschitz_bound
from closesesame.training import accuracy
from tests.removal.pictures import plain
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


def test_clp_removes_a_trigger_that_its_unit_amplifies() -> None:
    unseen = vectors(60, 1)
    repaired = CLP(u=2).remove(victim(), None, 0).model
    assert asr(victim(), unseen) == 1
    assert asr(repaired, unseen) < 0.1
    assert accuracy(repaired, unseen) == accuracy(victim(), unseen) > 0.9


def test_clp_is_the_largest_singular_value_times_the_gain() -> None:
    model, net = plain()
    kernels = net.conv.weight.detach().numpy().reshape(24, 3, 9)
    largest = np.array([np.linalg.svd(kernel, compute_uv=False)[0] for kernel in kernels])
    assert net.norm.running_var is not None
    gain = net.norm.weight.detach().abs().numpy() / np.sqrt(net.norm.running_var.numpy() + 1e-5)
    (layer,) = channels_in(model)
    assert np.allclose(lipschitz_bound(layer).numpy(), largest * gain, rtol=1e-5)
    first = nn.Linear(2, 3)
    linear = nn.Sequential(first, nn.ReLU(), nn.Linear(3, 4))
    with torch.no_grad():
        first.weight.copy_(torch.tensor([[3.0, 4.0], [0.0, 2.0], [-5.0, 12.0]]))
    (layer,) = channels_of(linear, torch.zeros(1, 2))
    assert lipschitz_bound(layer).tolist() == pytest.approx([5, 2, 13])


def test_clp_prunes_the_one_channel_that_amplifies_and_needs_no_data() -> None:
    model, net = plain()
    with torch.no_grad():
        net.norm.weight.fill_(1)
        net.norm.weight[5] = 40
        net.norm.bias.fill_(1)
    repair = CLP().remove(model, None, 0)
    norm = repair.model.body.norm
    assert isinstance(norm, nn.BatchNorm2d)
    assert repair.chosen == {"pruned_channels": 1, "of": 24}
    assert norm.weight.detach().nonzero().flatten().tolist() == [c for c in range(24) if c != 5]
    assert float(norm.bias[5].detach()) == 0
    assert CLP(u=100).remove(model, None, 0).chosen["pruned_channels"] == 0
