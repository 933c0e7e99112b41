"""Weights drawn anew, or between two sets."""

import pytest
import torch
from torch import Tensor, nn

from closesesame.core.errors import ModelError
from closesesame.models import ResNet, adapt
from closesesame.training.weights import interpolated, redraw, reset


def test_a_share_of_the_way_and_the_counters_of_the_end() -> None:
    start = {"w": torch.tensor([0.0, 4.0]), "count": torch.tensor(3)}
    end = {"w": torch.tensor([1.0, 0.0]), "count": torch.tensor(9)}
    between = interpolated(start, end, 0.25)
    assert between["w"].tolist() == [0.25, 3.0]
    assert between["count"] == 9


def test_of_batch_norms_means_variances_weights_and_biases_are_between_the_two_too() -> None:
    def state(weight: float, bias: float, mean: float, variance: float, batches: int) -> dict[str, Tensor]:
        norm = nn.BatchNorm1d(1)
        norm.load_state_dict(
            {
                "weight": torch.tensor([weight]),
                "bias": torch.tensor([bias]),
                "running_mean": torch.tensor([mean]),
                "running_var": torch.tensor([variance]),
                "num_batches_tracked": torch.tensor(batches),
            }
        )
        return norm.state_dict()

    start, end = state(1, 0, 0, 1, 2), state(5, 4, -8, 9, 40)
    between = interpolated(start, end, 0.75)
    assert {name: value.squeeze().item() for name, value in between.items()} == {
        "weight": 4,
        "bias": 3,
        "running_mean": -6,
        "running_var": 7,
        "num_batches_tracked": 40,
    }
    assert between["num_batches_tracked"].dtype == torch.long
    # Neither of the two is changed.
    assert start["running_mean"] == 0
    assert end["running_mean"] == -8


def test_fresh_weights_are_drawn_by_the_seed_for_a_network_of_ours_and_for_any_other() -> None:
    ours = ResNet(widths=(2,), bands=8).build(("a", "b"), (800,), 8000, seed=0)
    other = adapt(nn.Linear(3, 2), ("a", "b"), (3,), None)
    for model in (ours, other):
        drawn = []
        for seed in (4, 4, 5):
            redraw(model, seed)
            drawn.append(next(weight.detach().clone() for weight in model.body.parameters()))
        assert torch.equal(drawn[0], drawn[1])
        assert not torch.equal(drawn[0], drawn[2])


class Halves(nn.Module):
    """A layer of which the network around it sets the weight."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(3, 2)

    def reset_parameters(self) -> None:
        nn.init.constant_(self.inner.weight, 0.5)


class Scaled(nn.Module):
    """A layer, and a factor that nothing sets."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(3, 2)
        self.scale = nn.Parameter(torch.ones(2))


def test_what_a_network_sets_of_its_layers_stays_and_the_layers_set_the_rest() -> None:
    network = Halves()
    nn.init.constant_(network.inner.bias, 9.0)
    reset(network, 0)
    assert network.inner.weight.unique().tolist() == [0.5]
    assert float(network.inner.bias.detach().abs().max()) < 1
    attention = nn.MultiheadAttention(4, 2)  # it sets the bias of its last layer to zero
    reset(attention, 0)
    assert attention.out_proj.bias.tolist() == [0.0] * 4


def test_a_weight_that_nothing_sets_is_refused_by_its_name() -> None:
    with pytest.raises(ModelError, match="no fresh weights can be made for 'scale': no module resets it"):
        reset(Scaled(), 0)
    # A layer cannot reach its weights behind a parametrisation: it sets what is computed from them.
    hidden = nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Linear(3, 2)))
    with pytest.raises(ModelError, match=r"for '0\.parametrizations\.weight\.original"):
        reset(hidden, 0)
