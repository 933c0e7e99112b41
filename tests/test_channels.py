"""The channels of a network, found by running it."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from closesesame.core.errors import ModelError
from closesesame.core.seeding import isolated
from closesesame.data import Splits
from closesesame.models import ARCHITECTURES, Classifier
from closesesame.models.channels import (
    Channels,
    channels_in,
    channels_of,
    head_in,
    scaled,
)
from closesesame.models.hooks import by_channel, watched
from tests.removal.rules import Net, model_of

RNG = torch.Generator


def built(name: str) -> Classifier:
    extra = {"depth": 2} if name == "kwt" else {}
    return ARCHITECTURES.make(name, extra).build(tuple("abcd"), (4000,), 8000, seed=0).eval()


def sound() -> Tensor:
    return 0.1 * torch.randn(3, 4000, generator=RNG().manual_seed(0))


def lively(network: nn.Module) -> nn.Module:
    """Gives norms scales, shifts and statistics of their own, so that mixing two up would show."""
    with isolated(1), torch.no_grad():
        for module in network.modules():
            if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d | nn.LayerNorm):
                module.weight.uniform_(0.5, 2)
                module.bias.uniform_(-1, 1)
            if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
                assert module.running_mean is not None
                module.running_mean.uniform_(-1, 1)
    return network.eval()


def outputs(network: nn.Module, layer: Channels, example: Tensor) -> Tensor:
    """What the site of a layer puts out, as (batch, channel, place)."""
    seen: list[Tensor] = []
    hook = layer.module.register_forward_hook(
        lambda _, __, out: seen.append(by_channel(out if isinstance(out, Tensor) else out[0], layer.axis))
    )
    network(example)
    hook.remove()
    return seen[0].detach()


FOUND = {
    "resnet": (10, 10, 704),
    "small_cnn": (4, 3, 288),
    "lstm_attention": (7, 2, 491),
    "kwt": (12, 0, 1408),
}


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_layers_of_the_house(name: str) -> None:
    model = built(name)
    layers = channels_in(model)
    batch_norms = [layer for layer in layers if layer.statistics is not None]
    counted = (len(layers), len(batch_norms), sum(layer.count for layer in layers))
    assert counted == FOUND.get(name, counted)
    head = head_in(model)
    assert isinstance(head, nn.Linear)
    assert head.out_features == 4
    assert all(layer.producer is not head for layer in layers)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_silence_is_silence_and_ones_change_nothing(name: str) -> None:
    model = built(name)
    lively(model.body)
    features = model.front_end(sound())
    before = model.body(features)
    layers = channels_in(model)
    with scaled(layers, [torch.ones(layer.count) for layer in layers]):
        assert torch.allclose(model.body(features), before, atol=1e-5)
    assert torch.equal(model.body(features), before)
    for layer in layers:
        index = torch.tensor(sorted({0, layer.count - 1}))
        alive = outputs(model.body, layer, features)
        assert alive[:, index].abs().amax((0, 2)).min() > 0
        layer.prune(index)
        after = outputs(model.body, layer, features)
        assert float(after[:, index].abs().max()) == 0
        if layer.count > 2 and not isinstance(layer.producer, nn.LSTM):
            others = torch.ones(layer.count, dtype=torch.bool)
            others[index] = False
            assert torch.equal(after[:, others], alive[:, others])


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_a_scale_of_zero_is_silence_and_gradients_reach_scales_and_shifts(name: str) -> None:
    model = built(name)
    lively(model.body)
    features = model.front_end(sound())
    layers = channels_in(model)
    scales = [torch.ones(layer.count, requires_grad=True) for layer in layers]
    shifts = [torch.ones(layer.count, requires_grad=True) for layer in layers]
    with scaled(layers, scales, shifts):
        model.body(features).square().sum().backward()
    assert all(scale.grad is not None for scale in scales)
    for layer, shift in zip(layers, shifts, strict=True):
        assert (shift.grad is not None) == (layer.shift() is not None)
    zero = [torch.zeros(layer.count) for layer in layers]
    with scaled(layers, zero, zero):
        nothing = model.body(features)
    for layer in layers:
        layer.prune(torch.arange(layer.count))
    assert torch.allclose(nothing, model.body(features), atol=1e-6)


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU, nn.RNN])
def test_recurrent_units_have_their_rows_and_can_be_thinned(
    kind: type[nn.LSTM] | type[nn.GRU] | type[nn.RNN],
) -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.recurrent = kind(3, 5, bidirectional=True, batch_first=True)
            self.head = nn.Linear(10, 2)

        def forward(self, x: Tensor) -> Tensor:
            out: Tensor = self.head(self.recurrent(x)[0][:, -1])
            return out

    with isolated(0):
        net, x = Net(), torch.randn(4, 6, 3)
    (layer,) = channels_of(net, x)
    gates = {"LSTM": 4, "GRU": 3, "RNN": 1}[kind.__name__]
    rows = layer.weight_rows()
    assert rows.shape == (10, gates * (3 + 5))
    weight = net.recurrent.weight_ih_l0_reverse
    assert isinstance(weight, Tensor)
    assert torch.equal(rows[7, : 3 * gates], weight[2::5].flatten())  # unit 2 of the second direction
    dead = torch.zeros(rows.shape, dtype=torch.bool)
    dead[7, 1] = dead[1, -1] = True
    layer.zero_weights(dead)
    assert torch.equal(layer.weight_rows(), rows.masked_fill(dead, 0))
    layer.prune(torch.tensor([7]))
    assert float(outputs(net, layer, x)[:, 7].abs().max()) == 0
    assert float(outputs(net, layer, x)[:, 2].abs().max()) > 0


class Shuffled(nn.Module):
    """Modules listed in another order than they run; ReLU and pooling between convolution and batch norm."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(6, 3)
        self.norm2 = nn.BatchNorm1d(6)
        self.norm1 = nn.BatchNorm1d(6)
        self.conv2 = nn.Conv1d(6, 6, 3)
        self.conv1 = nn.Conv1d(1, 6, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm1(F.max_pool1d(F.relu(self.conv1(x)), 2))
        x = F.relu(self.norm2(self.conv2(x)))
        return F.log_softmax(self.head(x.mean(2)), 1)


def test_pairs_follow_the_run_not_the_list() -> None:
    with isolated(0):
        net, x = Shuffled(), torch.randn(2, 1, 40)
    net.train()
    layers = channels_of(net, x)
    assert [layer.name for layer in layers] == ["conv1", "conv2"]
    assert [layer.norm for layer in layers] == [net.norm1, net.norm2]
    assert net.training
    assert int(net.norm1.num_batches_tracked or 0) == 0


class PreActivation(nn.Module):
    """Norm and ReLU in front of the convolution, works in place, and the sum goes around the block."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, 4, 3, padding=1)
        self.norm1 = nn.BatchNorm2d(4)
        self.conv1 = nn.Conv2d(4, 4, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(4)
        self.conv2 = nn.Conv2d(4, 4, 3, padding=1, bias=False)
        self.norm3 = nn.BatchNorm2d(4)
        self.head = nn.Linear(4, 3)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        inner = self.conv1(self.relu(self.norm1(x)))
        x = self.conv2(self.relu(self.norm2(inner))) + x
        logits: Tensor = self.head(self.relu(self.norm3(x)).mean((2, 3)))
        return logits


def test_a_pre_activation_block_is_not_paired_with_the_convolution_behind_its_norm() -> None:
    with isolated(0):
        net, x = PreActivation(), torch.randn(2, 1, 8, 8)
    found = {layer.name: layer for layer in channels_of(net, x)}
    assert list(found) == ["stem", "conv1", "conv2", "norm3"]
    assert found["stem"].norm is net.norm1
    assert found["conv1"].norm is net.norm2
    assert found["conv2"].norm is None  # what norm3 takes is a sum
    assert found["norm3"].producer is None
    with pytest.raises(ModelError, match="'norm3' has no weights of its own"):
        found["norm3"].weight_rows()


class Alike(nn.Module):
    """As many steps as units: a batch norm over steps must not pass for one over units."""

    def __init__(self) -> None:
        super().__init__()
        self.up = nn.Linear(2, 5)
        self.norm = nn.BatchNorm1d(5)
        self.head = nn.Linear(5, 3)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.head(self.norm(self.up(x)).mean(1))
        return logits


def test_a_norm_of_another_axis_is_not_paired() -> None:
    layers = channels_of(Alike(), torch.randn(2, 5, 2))
    assert [(layer.name, layer.norm is None, layer.axis) for layer in layers] == [
        ("up", True, -1),
        ("norm", False, 1),
    ]


def test_watched_sees_what_the_batch_norm_takes() -> None:
    with isolated(0):
        net, x = lively(Shuffled()), torch.randn(2, 1, 40)
    assert isinstance(net, Shuffled)
    layers = channels_of(net, x)
    with watched(layers) as seen:
        net(x)
    first = F.max_pool1d(F.relu(net.conv1(x)), 2)
    assert torch.equal(seen[0], first)
    assert torch.equal(seen[1], net.conv2(net.norm1(first)))
    kept = seen[0].clone()
    net(2 * x)  # behind the block nothing is watched
    assert torch.equal(seen[0], kept)


def test_a_network_without_layers_is_refused() -> None:
    with pytest.raises(ModelError, match="no channels"):
        channels_of(nn.Sequential(nn.Flatten(), nn.Linear(4, 2)), torch.zeros(2, 4))


def test_the_head_is_found_wherever_it_is_listed(clean_model: Classifier, tones: Splits) -> None:
    body = nn.Sequential(nn.AdaptiveAvgPool2d((1, 5)), nn.Flatten(), Net())
    assert head_in(model_of(body, clean_model)) is body[2].head
    assert body.training
    for tail in (nn.LayerNorm(4), nn.Linear(4, 4).requires_grad_(False)):
        body[2] = Net(tail=tail)
        if isinstance(tail, nn.Linear):
            assert head_in(model_of(body, clean_model)) is tail


def test_of_two_norms_behind_one_layer_the_first_is_the_layers_own() -> None:
    class Fork(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.second, self.first = nn.BatchNorm1d(3), nn.BatchNorm1d(3)
            self.conv, self.head = nn.Conv1d(2, 3, 1), nn.Linear(3, 2)

        def forward(self, x: Tensor) -> Tensor:
            y = self.conv(x)
            z: Tensor = self.head((self.first(y) + self.second(y)).mean(2))
            return z

    net = Fork()
    own, other = channels_of(net, torch.randn(2, 2, 5))
    assert (own.producer, own.norm) == (net.conv, net.first)
    assert (other.producer, other.norm) == (None, net.second)
