"""Removals that prune channels, each against a case worked by hand or an independent formula."""

import copy

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.distributions import Normal, kl_divergence

from closesesame.core.errors import ModelError
from closesesame.core.seeding import isolated
from closesesame.data import Dataset, Splits
from closesesame.data.rows import Rows
from closesesame.models import Classifier, SmallCNN, adapt
from closesesame.models.channels import channels_in, channels_of
from closesesame.removal import ANP, BNP, CLP, EP, RNP, TSBD, FinePruning
from closesesame.removal.anp import noise_rule
from closesesame.removal.bnp import clean_statistics, divergence
from closesesame.removal.clp import lipschitz_bound
from closesesame.removal.common.masking import (
    THRESHOLDS,
    Masked,
    judge,
    masked_copy,
    prune_as_allowed,
    prune_below,
)
from closesesame.removal.ep import entropy, low_entropy
from closesesame.removal.fine_pruning import last_convolution, mean_output
from closesesame.removal.tsbd import most_changed
from closesesame.training import accuracy
from closesesame.training.rules.ascent import Ascent
from tests.conftest import WORDS


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


class Plain(nn.Module):
    """Convolution of 3 channels to 24, batch norm, mean, linear."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(24, 4)
        self.norm = nn.BatchNorm2d(24)
        self.conv = nn.Conv2d(3, 24, 3)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.head(torch.relu(self.norm(self.conv(x))).mean((2, 3)))
        return logits


def plain() -> tuple[Classifier, Plain]:
    with isolated(0), torch.no_grad():
        net = Plain()
        net.norm.weight.uniform_(-2, 2)
        net.norm.running_var = torch.rand(24) + 0.5
        net.norm.running_mean = torch.randn(24)
    return adapt(net, WORDS, (3, 8, 8), None), net


def pictures(n: int, seed: int = 0) -> Dataset:
    """Of no bounds, to be easy to compute with."""
    dark = Dataset.of(torch.zeros(n, 3, 8, 8), torch.arange(n) % 4, classes=WORDS)
    return dark.with_inputs(Rows.of(drawn(n, 3, 8, 8, seed=seed)))


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


def test_bnp_is_the_divergence_of_two_gaussians() -> None:
    mean1, mean2 = drawn(9), drawn(9, seed=1)
    spread1, spread2 = 0.5 + drawn(9, seed=2).abs(), 0.5 + drawn(9, seed=3).abs()
    expected = kl_divergence(Normal(mean1, spread1), Normal(mean2, spread2))
    assert torch.allclose(divergence(mean1, spread1**2, mean2, spread2**2), expected, atol=1e-5)


def test_bnp_statistics_are_those_of_all_examples_and_places() -> None:
    model, net = plain()
    data = pictures(300)  # more than one batch
    (found,) = clean_statistics(model, channels_in(model), data)
    values = net.conv(data.inputs[:]).detach().transpose(0, 1).flatten(1)
    assert torch.allclose(found[0], values.mean(1), atol=1e-5)
    assert torch.allclose(found[1], values.var(1, correction=0), rtol=1e-4)


def test_bnp_prunes_the_channel_whose_statistics_saw_something_else() -> None:
    model, net = plain()
    (found,) = clean_statistics(model, channels_in(model), pictures(300))
    net.norm.running_mean, net.norm.running_var = found[0].clone(), found[1].clone()
    net.norm.running_mean[7] += 3 * found[1][7].sqrt()
    repair = BNP().remove(model, pictures(300), 0)
    norm = repair.model.body.norm
    assert isinstance(norm, nn.BatchNorm2d)
    assert repair.chosen == {"pruned_channels": 1, "of": 24}
    assert float(norm.weight[7].detach()) == 0
    assert torch.equal(norm.bias, net.norm.bias)  # the authors' code leaves the shift


def test_bnp_needs_batch_norm() -> None:
    net = nn.Sequential(nn.Flatten(), nn.Linear(192, 8), nn.ReLU(), nn.Linear(8, 4))
    model = adapt(net, WORDS, (3, 8, 8), None)
    with pytest.raises(ModelError, match="compares batch-norm statistics; this model has no batch norm"):
        BNP().remove(model, pictures(20), 0)


def test_entropy_of_shared_bins() -> None:
    # Standardised: channel 0 is half -s, half +s; channel 1 has four values that are equally frequent.
    values = torch.tensor([[0.0, 0.0], [0.0, 1.0], [1.0, 2.0], [1.0, 3.0]])
    assert entropy(values, 0.1).tolist() == pytest.approx([np.log(2), np.log(4)])
    # One bin for everything holds no information.
    assert entropy(values, 100).tolist() == pytest.approx([0, 0])


@pytest.mark.parametrize("bin_width", [0.01, 0.1])
def test_ep_finds_the_planted_mixture(bin_width: float) -> None:
    values = drawn(500, 64, seed=1) * (1 + torch.arange(64)) + torch.arange(64) ** 2
    assert low_entropy(values, bin_width, 3).tolist() == []
    planted = [3, 31, 60]
    values[:50, planted] += 6 * (1 + torch.tensor(planted, dtype=torch.float32))
    assert low_entropy(values, bin_width, 3).tolist() == planted
    values[:, 10] = 4  # a channel that never changes counts for nothing
    assert low_entropy(values, bin_width, 3).tolist() == planted


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


def logits_under(net: Plain, x: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    """By hand: the batch norm's scale times `scale`, its shift times `shift`, batch statistics."""
    y = net.conv(x)
    centred = (y - y.mean((0, 2, 3), keepdim=True)) / (
        y.var((0, 2, 3), correction=0, keepdim=True) + 1e-5
    ).sqrt()
    y = centred * (net.norm.weight * scale)[:, None, None] + (net.norm.bias * shift)[:, None, None]
    return net.head(torch.relu(y).mean((2, 3)))  # type: ignore[no-any-return]


def test_anp_climbs_once_along_the_sign_and_mixes_two_losses() -> None:
    model, net = plain()
    with torch.no_grad():
        net.norm.bias.uniform_(-1, 1, generator=torch.Generator().manual_seed(5))
    twin, masked = masked_copy(model)
    masked.train()
    x, labels = drawn(12, 3, 8, 8), torch.arange(12) % 4

    def loss() -> Tensor:
        return nn.functional.cross_entropy(masked(x), labels)

    noise_rule(0.4, 1, 0.2, torch.Generator().manual_seed(9))(twin.body, loss)
    rng = torch.Generator().manual_seed(9)
    noise = [(0.4 * (2 * torch.rand(24, generator=rng) - 1)).requires_grad_() for _ in range(2)]
    mask = torch.ones(24, requires_grad=True)
    net.requires_grad_(False)

    def by_hand(scale: Tensor, shift: Tensor) -> Tensor:
        return nn.functional.cross_entropy(logits_under(net, x, scale, shift), labels)

    slopes = torch.autograd.grad(by_hand(1 + noise[0], 1 + noise[1]), noise)
    worse = [n.detach() + 0.4 * g.sign() for n, g in zip(noise, slopes, strict=True)]
    total = 0.2 * by_hand(mask, torch.ones(24)) + 0.8 * by_hand(mask + worse[0], 1 + worse[1])
    total.backward()  # type: ignore[no-untyped-call]
    assert mask.grad is not None
    assert masked.masks[0].grad is not None
    assert torch.allclose(masked.masks[0].grad, mask.grad, atol=1e-5)
    assert all(w.grad is None for w in masked.body.parameters())


def test_masks_prune_as_far_as_held_out_clips_allow(clean_model: Classifier, tones: Splits) -> None:
    layers = channels_in(clean_model)
    masks = [torch.linspace(0, 1, layer.count) for layer in layers]
    held_out = tones.validation
    free, bound = copy.deepcopy(clean_model), copy.deepcopy(clean_model)
    loose = prune_as_allowed(free, masks, held_out, 0.99, None)
    tight = prune_as_allowed(bound, masks, held_out, 0.0, None)
    assert loose["threshold"] == 0.9
    lowest = sum(int((mask <= 0.9).sum()) for mask in masks)
    assert loose["pruned_channels"] == lowest
    norm = channels_in(free)[0].norm
    original = layers[0].norm
    assert isinstance(norm, nn.BatchNorm2d)
    assert isinstance(original, nn.BatchNorm2d)
    assert int((norm.weight == 0).sum()) == int((masks[0] <= 0.9).sum())
    assert torch.equal(norm.bias, original.bias)  # pruned channels become constant
    assert tight["threshold"] is None or tight["pruned_channels"] < lowest
    assert accuracy(bound, held_out) >= accuracy(clean_model, held_out)


def test_the_limit_of_the_loss_holds_where_the_accuracy_allows_more(
    clean_model: Classifier, tones: Splits
) -> None:
    masks = [torch.linspace(0, 1, layer.count) for layer in channels_in(clean_model)]
    loss = judge(clean_model, tones.validation)[1]
    chosen = []
    for rise in (None, 0.05):
        model = copy.deepcopy(clean_model)
        chosen.append(prune_as_allowed(model, masks, tones.validation, 0.99, rise)["threshold"])
    assert chosen[0] == 0.9
    assert chosen[1] is None or chosen[1] < 0.9
    assert judge(model, tones.validation)[1] <= loss + 0.05


def test_the_tolerance_is_relative_and_the_highest_threshold_within_it_is_taken(
    clean_model: Classifier, tones: Splits
) -> None:
    masks = [torch.linspace(0, 1, layer.count) for layer in channels_in(clean_model)]
    before, found = judge(clean_model, tones.validation)[0], {}
    for threshold in THRESHOLDS:
        model = copy.deepcopy(clean_model)
        prune_below(model, masks, threshold)
        found[threshold] = judge(model, tones.validation)[0]
    tolerance = 0.3
    allowed = [threshold for threshold, now in found.items() if now >= 0.7 * before]
    assert 0 < len(allowed) < len(THRESHOLDS)
    chosen = prune_as_allowed(copy.deepcopy(clean_model), masks, tones.validation, tolerance, None)
    assert chosen["threshold"] == allowed[-1]


def test_a_threshold_that_is_given_is_taken_whatever_it_costs(clean_model: Classifier, tones: Splits) -> None:
    masks = [torch.linspace(0, 1, layer.count) for layer in channels_in(clean_model)]
    for method in (ANP(threshold=0.6), RNP(threshold=0.6)):
        model = copy.deepcopy(clean_model)
        chosen = method.prune(model, masks, tones.validation)
        pruned = sum(int((mask <= 0.6).sum()) for mask in masks)
        assert chosen == {"threshold": 0.6, "pruned_channels": pruned, "of": sum(map(len, masks))}
        norm = channels_in(model)[0].norm
        assert isinstance(norm, nn.BatchNorm2d)
        assert torch.equal(norm.weight == 0, masks[0] <= 0.6)


def test_tolerance_and_rise_arrive(clean_model: Classifier, tones: Splits) -> None:
    masks = [torch.linspace(0, 1, layer.count) for layer in channels_in(clean_model)]
    for settings in ((0.6, 0.05), (0.05, 0.6), (0.3, None)):
        method = RNP(threshold=None, tolerance=settings[0], rise=settings[1])
        one, two = copy.deepcopy(clean_model), copy.deepcopy(clean_model)
        chosen = method.prune(one, masks, tones.validation)
        assert chosen == prune_as_allowed(two, masks, tones.validation, *settings)


def test_masks_nothing_can_be_pruned(clean_model: Classifier, tones: Splits) -> None:
    model = copy.deepcopy(clean_model)
    masks = [torch.zeros(layer.count) for layer in channels_in(model)]
    chosen = prune_as_allowed(model, masks, tones.validation, 0.0, None)
    assert chosen["threshold"] is None
    assert chosen["pruned_channels"] == 0
    before = clean_model.state_dict()
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_anp_and_rnp_train_masks_only(clean_model: Classifier, tones: Splits) -> None:
    clean = tones.train.sample(0.2, 0)
    for method in (ANP(steps=5, threshold=0.9), RNP(steps=5, threshold=0.9)):
        repaired = method.remove(clean_model, clean, 0).model
        for layer, before in zip(channels_in(repaired), channels_in(clean_model), strict=True):
            assert torch.equal(layer.rows(), before.rows())
            now, then = layer.statistics, before.statistics
            assert now is not None
            assert then is not None
            assert now.running_mean is not None
            assert then.running_mean is not None
            assert torch.equal(now.running_mean, then.running_mean)
            alive = now.weight != 0
            assert torch.equal(now.weight[alive], then.weight[alive])


class Slope(nn.Module):
    """Loss 10 w, so the gradient is 10."""

    def __init__(self) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.tensor([1.0]))

    def loss(self) -> Tensor:
        return 10 * self.w.sum()


def test_unlearning_climbs_with_a_short_gradient_until_clean_classes_are_lost(
    clean_model: Classifier, tones: Splits
) -> None:
    body = Slope()
    climbing = Ascent(clean_model, tones.validation, floor=0.0, clip=4)
    climbing(body, body.loss)
    assert body.w.grad is not None
    assert float(body.w.grad) == pytest.approx(-4)  # SGD subtracts it: up
    done, body = Ascent(clean_model, tones.validation, floor=1.0), Slope()
    done(body, body.loss)
    assert body.w.grad is None
    assert (climbing.batches, done.batches) == (1, 0)


def test_rnp_unlearns_until_the_floor(clean_model: Classifier, tones: Splits) -> None:
    clean = tones.train.sample(0.2, 0)
    chosen = RNP(floor=0.3, unlearning_steps=60, steps=1).remove(clean_model, clean, 0).chosen
    assert 0 < chosen["unlearning_batches"] < 60
    assert chosen["unlearning_batches"] % Ascent.LOOK == 0


def test_tsbd_zeroes_what_changed_most_within_the_neurons_that_changed_most() -> None:
    changes = [
        torch.tensor([[0.0, 9.0, 0.0], [4.0, 3.0, 5.0]]),  # 9, 12
        torch.tensor([[8.0, 0.5], [1.0, 1.0], [2.0, 0.0]]),  # 8.5, 2, 2
    ]
    first, second = most_changed(changes, 0.4, 0.5)  # 2 neurons of 5, with 6 weights of which 3 go
    assert first.tolist() == [[False, True, False], [True, False, True]]
    assert not second.any()
    first, second = most_changed(changes, 0.6, 0.5)  # 3 neurons, 8 weights of which 4 go: 9, 8, 5, 4
    assert first.tolist() == [[False, True, False], [True, False, True]]
    assert second.tolist() == [[True, False], [False, False], [False, False]]
    assert not any(mask.any() for mask in most_changed(changes, 0.0, 0.5))
    assert all(mask.all() for mask in most_changed(changes, 1.0, 1.0))


def test_tsbd_zeroes_in_the_model_as_it_was(clean_model: Classifier, tones: Splits) -> None:
    clean = tones.train.sample(0.2, 0)
    repair = TSBD(steps=0, unlearning_steps=8, unlearning_lr=0.01).remove(clean_model, clean, 0)
    zeroed = 0
    for layer, before in zip(channels_in(repair.model), channels_in(clean_model), strict=True):
        now, then = layer.rows(), before.rows()
        assert torch.equal(now[now != 0], then[now != 0])
        zeroed += int(((now == 0) & (then != 0)).sum())
    assert zeroed == repair.chosen["zeroed_weights"] > 0


def test_fine_pruning_of_the_last_convolution(tones: Splits, clean_model: Classifier) -> None:
    clean = tones.train.sample(0.3, 0)
    last = last_convolution(clean_model)
    assert last.name == "blocks.1.skip"
    repair = FinePruning(layer="convolution", step=0.1, steps=2).remove(clean_model, clean, 0)
    norm = last_convolution(repair.model).norm
    assert isinstance(norm, nn.BatchNorm2d)
    tune, _ = clean.hold_out(0.2, 0)
    order = mean_output(clean_model, last, tune).argsort()
    dead = order[: repair.chosen["pruned_units"]]
    assert sorted(dead.tolist()) == (norm.weight == 0).nonzero().flatten().tolist() != []
    assert float(norm.bias[dead].detach().abs().max()) == 0


def test_fine_pruning_ranks_channels_by_their_positive_part() -> None:
    model, net = plain()
    with torch.no_grad():
        net.norm.weight.fill_(1)
        net.norm.bias.copy_(torch.linspace(-30, 30, 24))  # the first are never on, though far from zero
    (layer,) = channels_in(model)
    found = mean_output(model, layer, pictures(20))
    values = net.norm.eval()(net.conv(pictures(20).inputs[:])).detach().relu().mean((0, 2, 3))
    assert torch.allclose(found, values, rtol=0.02, atol=0.02)
    assert float(found[0]) < float(found[23])
    assert last_convolution(SmallCNN().build(WORDS, (4000,), 8000, seed=0)).name == "9"


def test_masked_network_is_the_network(clean_model: Classifier, tones: Splits) -> None:
    twin, masked = masked_copy(clean_model)
    assert isinstance(masked, Masked)
    inputs = tones.test.inputs[:8]
    with torch.no_grad():
        assert torch.allclose(twin.eval()(inputs), clean_model(inputs), atol=1e-4)
        masked.masks[0].fill_(1.5)
        masked.clamp()
        assert float(masked.masks[0].max()) == 1
