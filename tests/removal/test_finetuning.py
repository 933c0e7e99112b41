"""Removals that fine-tune: the rule of each against a case worked by hand."""

import copy
import itertools
from typing import TypeVar

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from closesesame.core.errors import DivergedError, ModelError
from closesesame.core.seeding import generator, isolated
from closesesame.data import Dataset, Splits
from closesesame.models import Classifier
from closesesame.models.channels import head_in
from closesesame.models.front_ends import Identity
from closesesame.models.statistics import renew_statistics
from closesesame.removal import (
    FST,
    MCR,
    NAD,
    NGF,
    FETuning,
    FTAugmented,
    FTInit,
    LinearProbe,
    Scratch,
)
from closesesame.removal.fip import diagonal_fisher, trace_rule
from closesesame.removal.fst import shift_rule
from closesesame.removal.ft_sam import sharpness_rule
from closesesame.removal.mcr import curve_rule
from closesesame.removal.nad import attention, distillation_rule, sites
from closesesame.removal.ngf import diagonal_fisher as fisher_of_head
from closesesame.removal.ngf import natural, natural_rule, per_example
from tests.conftest import SMALL

HESSIAN = torch.tensor([[3.0, 1.0, 0.0], [1.0, 2.0, 0.5], [0.0, 0.5, 1.0]], dtype=torch.float64)
M = TypeVar("M", bound=nn.Module)
START = torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64)


class Quadratic(nn.Module):
    """Loss w H w / 2 over two tensors: the first two weights and the third."""

    def __init__(self) -> None:
        super().__init__()
        self.one = nn.Parameter(START[:2].clone())
        self.two = nn.Parameter(START[2:].clone())

    def loss(self) -> Tensor:
        w = self.weights()
        loss: Tensor = w @ HESSIAN @ w / 2
        return loss

    def weights(self) -> Tensor:
        return torch.cat([self.one, self.two])

    def gradient(self) -> Tensor:
        assert self.one.grad is not None
        assert self.two.grad is not None
        return torch.cat([self.one.grad, self.two.grad])


class Net(nn.Module):
    """A small network whose head is listed first; `tail` adds what makes it end otherwise."""

    def __init__(self, inputs: int = 5, tail: nn.Module | None = None) -> None:
        super().__init__()
        self.head = nn.Linear(6, 4)
        self.norm = nn.BatchNorm1d(6)
        self.first = nn.Linear(inputs, 6)
        self.drop = nn.Dropout(0.5)
        self.tail = tail or nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.tail(self.head(self.drop(torch.tanh(self.norm(self.first(x))))))
        return out


def small_net(inputs: int = 5) -> tuple[Net, Tensor, Tensor]:
    """A network without dropout, in double precision and evaluation mode, and a batch for it."""
    with isolated(3):
        body = Net(inputs)
        x, y = torch.randn(6, inputs, dtype=torch.float64), torch.tensor([0, 1, 2, 3, 0, 1])
    return body.double().eval(), x, y


def part(body: nn.Module, name: str, kind: type[M]) -> M:
    """A module of a network, by its name."""
    found = body.get_submodule(name)
    assert isinstance(found, kind)
    return found


def model_of(body: nn.Module, clean_model: Classifier) -> Classifier:
    """A model with another body behind the same front end."""
    return Classifier(copy.deepcopy(clean_model.front_end), body, clean_model.card)


def same(a: nn.Module, b: nn.Module) -> bool:
    """Whether two networks hold the same numbers."""
    other = b.state_dict()
    return all(torch.equal(value, other[key]) for key, value in a.state_dict().items())


# What they share


def test_the_head_is_found_wherever_it_is_listed(clean_model: Classifier, tones: Splits) -> None:
    body = nn.Sequential(nn.AdaptiveAvgPool2d((1, 5)), nn.Flatten(), Net())
    assert head_in(model_of(body, clean_model)) is body[2].head
    assert body.training
    for tail in (nn.LayerNorm(4), nn.Linear(4, 4).requires_grad_(False)):
        body[2] = Net(tail=tail)
        if isinstance(tail, nn.Linear):
            assert head_in(model_of(body, clean_model)) is tail


def test_without_a_linear_head_the_head_methods_refuse(clean_model: Classifier, tones: Splits) -> None:
    body = nn.Sequential(nn.Conv1d(40, 4, 1), nn.AdaptiveAvgPool1d(1), nn.Flatten())
    for method in (FST(), FETuning(), FTInit(), LinearProbe(), NGF()):
        with pytest.raises(ModelError, match="ends in a linear layer; this one does not"):
            method.remove(model_of(body, clean_model), tones.train.sample(0.1, 0), 0)


# scratch


def test_scratch_keeps_nothing_of_the_suspect(clean_model: Classifier, tones: Splits) -> None:
    clean = tones.train.sample(0.1, 0)
    other = copy.deepcopy(clean_model)
    with torch.no_grad():
        for value in other.parameters():
            value.mul_(3)
        dict(other.front_end.named_buffers())["mean"].add_(1)
    method = Scratch(steps=2)
    first, second = method.remove(clean_model, clean, 7).model, method.remove(other, clean, 7).model
    assert same(first, second)
    bare = Scratch(steps=0).remove(clean_model, clean, 7).model
    card = clean_model.card
    assert same(bare.body, SMALL.build(card.classes, card.input_shape, card.sample_rate, seed=7).body)


class Own(nn.Module):
    """Waveforms to logits, with what `spoil` puts in the way."""

    def __init__(self, spoil: str = "") -> None:
        super().__init__()
        self.filters = nn.Conv1d(1, 6, 64, stride=16)
        self.norm = nn.BatchNorm1d(6)
        self.last = nn.Linear(6, 4)
        self.shift = nn.Parameter(torch.zeros(4)) if spoil == "bare" else 0.0
        if spoil == "parametrised":
            nn.utils.parametrizations.weight_norm(self.last)

    def forward(self, wav: Tensor) -> Tensor:
        x = torch.relu(self.norm(self.filters(wav[:, None])))
        logits: Tensor = self.last(x.mean(2)) + self.shift
        return logits


def test_scratch_resets_a_foreign_module(tones: Splits) -> None:
    clean = tones.train.sample(0.1, 0)
    with isolated(0):
        one, two = Own(), Own()
    two.norm.running_mean = torch.full((6,), 9.0)
    method = Scratch(steps=0)
    first, second = method.remove(one, clean, 4).model, method.remove(two, clean, 4).model
    assert same(first, second)
    other = method.remove(one, clean, 5).model
    filters = [part(body, "filters", nn.Conv1d).weight for body in (first.body, one, other.body)]
    assert not torch.equal(filters[0], filters[1])
    assert not torch.equal(filters[0], filters[2])


@pytest.mark.parametrize(("spoil", "left"), [("bare", "'shift'"), ("parametrised", "original")])
def test_scratch_refuses_what_nothing_resets(tones: Splits, spoil: str, left: str) -> None:
    with pytest.raises(ModelError, match=f"cannot make fresh weights for .*{left}"):
        Scratch(steps=0).remove(Own(spoil), tones.train.sample(0.1, 0), 0)


# FT-SAM


def test_ft_sam_takes_the_gradient_at_the_adaptive_worst_point() -> None:
    body = Quadratic()
    sharpness_rule(2.0, 0.0)(body, body.loss)
    assert torch.equal(body.weights(), START)
    # By hand: g = (1, -2.75, -0.5), |w| g = (1, -5.5, -0.25), of norm 5.5958; w^2 g = (1, -11, -0.125).
    worst = START + 2.0 * torch.tensor([1.0, -11.0, -0.125], dtype=torch.float64) / 31.3125**0.5
    assert torch.allclose(body.gradient(), HESSIAN @ worst, atol=1e-12)


def test_ft_sam_without_radius_is_smoothed_cross_entropy() -> None:
    body, x, y = small_net()
    sharpness_rule(0.0, 0.1)(body, lambda: F.cross_entropy(body(x), y))
    # BackdoorBench leaves 0.9 with the label and spreads 0.1 over the other three.
    wanted = torch.full((6, 4), 0.1 / 3, dtype=torch.float64).scatter(1, y[:, None], 0.9)
    expected = torch.autograd.grad(F.cross_entropy(body(x), wanted), body.head.weight)[0]
    assert body.head.weight.grad is not None
    assert torch.allclose(body.head.weight.grad, expected, atol=1e-7)


def test_ft_sam_updates_batch_norm_once_and_keeps_the_dropout_mask() -> None:
    body, x, y = small_net()
    body.train()
    masks: list[Tensor] = []
    body.drop.register_forward_hook(lambda _, __, out: masks.append(out == 0))
    entering = body.first(x).detach()
    with isolated(0):
        sharpness_rule(2.0, 0.1)(body, lambda: F.cross_entropy(body(x), y))
    assert body.norm.running_mean is not None
    assert torch.allclose(body.norm.running_mean, 0.1 * entering.mean(0))
    assert torch.equal(*masks)


# Feature shift tuning


def test_fst_adds_alpha_times_the_old_head_at_its_norm() -> None:
    body, x, y = small_net()
    old = 2 * torch.ones_like(body.head.weight)
    before = body.head.weight.detach().clone()
    shift_rule(body.head, old, 0.3)(body, lambda: F.cross_entropy(body(x), y))
    now = body.head.weight.detach()
    assert float(now.norm()) == pytest.approx(2 * 24**0.5)
    assert torch.allclose(now / now.norm(), before / before.norm())
    plain = torch.autograd.grad(F.cross_entropy(body(x), y), body.head.weight)[0]
    assert body.head.weight.grad is not None
    assert torch.allclose(body.head.weight.grad, plain + 0.6)


def test_fst_turns_the_head_away_and_keeps_its_length(clean_model: Classifier, tones: Splits) -> None:
    clean = tones.train.sample(0.2, 0)
    old = part(clean_model.body, "head", nn.Linear).weight.detach()
    cosines = []
    for alpha in (0.0, 1.0):
        repair = FST(alpha=alpha, steps=20).remove(clean_model, clean, 0)
        new = part(repair.model.body, "head", nn.Linear).weight.detach()
        assert float(new.norm()) == pytest.approx(float(old.norm()), rel=1e-5)
        cosines.append(repair.chosen["cosine"])
    assert cosines[1] < cosines[0] - 0.3


def test_each_of_the_four_trains_its_own_part(clean_model: Classifier, tones: Splits) -> None:
    clean = tones.train.sample(0.1, 0)
    before = clean_model.body.state_dict()
    fresh = FTInit(steps=0).remove(clean_model, clean, 0).model.body.state_dict()

    def moved(body: nn.Module, start: dict[str, Tensor]) -> set[str]:
        return {key for key, value in body.state_dict().items() if not torch.equal(value, start[key])}

    heads = {"head.weight", "head.bias"}
    assert moved(clean_model.body, fresh) == heads
    assert moved(LinearProbe(steps=3).remove(clean_model, clean, 0).model.body, before) == heads
    features = moved(FETuning(steps=3).remove(clean_model, clean, 0).model.body, fresh)
    assert features == set(before) - heads
    assert moved(FTInit(steps=3).remove(clean_model, clean, 0).model.body, fresh) == set(before)


# NAD


def test_nad_attention_by_hand() -> None:
    maps = torch.tensor([[[3.0, 0.0], [0.0, -2.0]], [[1.0, 1.0], [1.0, 1.0]]])
    # Squares summed over channels: (9, 4) and (2, 2); their lengths are sqrt(97) and sqrt(8).
    expected = torch.tensor([[9 / 97**0.5, 4 / 97**0.5], [0.5**0.5, 0.5**0.5]])
    assert torch.allclose(attention(maps, 2.0), expected)
    assert torch.allclose(attention(maps, 1.0)[0], torch.tensor([3.0, 2.0]) / 13**0.5)


class Two(nn.Module):
    """A convolution that makes a map, one that leaves a single place, and a head."""

    def __init__(self) -> None:
        super().__init__()
        self.one = nn.Conv1d(1, 3, 3, bias=False)
        self.two = nn.Conv1d(3, 2, 6, bias=False)
        self.head = nn.Linear(2, 4)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.head(self.two(torch.relu(self.one(x[:, None]))).flatten(1))
        return out


def test_nad_adds_beta_times_the_difference_of_attention_where_there_are_places() -> None:
    with isolated(0):
        student, teacher, x = Two(), Two(), torch.randn(5, 8)
    y = torch.tensor([0, 1, 2, 3, 0])
    found = [sites(body, x) for body in (student, teacher)]
    assert [stage.name for stage in found[0]] == ["one"]
    rule = distillation_rule(teacher, found[0], found[1], (700.0,), 2.0)
    rule(student, lambda: F.cross_entropy(student(x), y))
    a, b = (body.one(x[:, None]).square().sum(1) for body in (student, teacher))
    a, b = (F.normalize(value, dim=1) for value in (a, b))
    loss = F.cross_entropy(student(x), y) + 700 * F.mse_loss(a, b.detach())
    assert student.one.weight.grad is not None
    expected = torch.autograd.grad(loss, student.one.weight)[0]
    assert torch.allclose(student.one.weight.grad, expected, rtol=1e-4, atol=1e-5)
    assert teacher.one.weight.grad is None


def test_nad_names_the_blocks_and_refuses_a_model_without_maps(
    clean_model: Classifier, tones: Splits
) -> None:
    clean = tones.train.sample(0.1, 0)
    layers = NAD(steps=1, teacher_steps=1).remove(clean_model, clean, 0).chosen["layers"]
    assert layers == ["norm", "blocks.0", "blocks.1"]
    flat = nn.Sequential(nn.Flatten(), nn.Linear(40 * 51, 8), nn.ReLU(), nn.Linear(8, 4))
    with pytest.raises(ModelError, match="compares maps over time or frequency; no layer"):
        NAD().remove(model_of(flat, clean_model), clean, 0)


# MCR


def test_mcr_at_the_ends_is_the_suspect_and_the_copy(clean_model: Classifier, tones: Splits) -> None:
    clean = tones.train.sample(0.1, 0)
    assert same(MCR(t=0, steps=3).remove(clean_model, clean, 0).model, clean_model)
    still = MCR(t=1, steps=0).remove(clean_model, clean, 0).model
    assert same(still, clean_model)
    tuned = MCR(t=1, steps=3).remove(clean_model, clean, 0).model
    assert not same(tuned, clean_model)
    again = MCR(t=1, steps=3, points=5).remove(clean_model, clean, 0).model
    assert same(tuned, again)


def test_mcr_trains_the_bend_at_a_random_point_of_the_curve() -> None:
    start, bend, end = Quadratic(), Quadratic(), Quadratic()
    with torch.no_grad():
        bend.one.fill_(0.5)
        bend.two.fill_(-1.0)
        end.one.fill_(2.0)
        end.two.fill_(3.0)
    before = bend.weights().detach().clone()
    t = float(torch.rand(1, generator=generator(1)))
    curve_rule(start, end, generator(1))(bend, bend.loss)
    assert torch.equal(bend.weights(), before)
    w = before.clone().requires_grad_()
    phi = (1 - t) ** 2 * start.weights().detach() + 2 * t * (1 - t) * w + t**2 * end.weights().detach()
    assert torch.allclose(bend.gradient(), torch.autograd.grad(phi @ HESSIAN @ phi / 2, w)[0])


def test_mcr_chooses_the_middle_if_it_is_accurate_and_counts_statistics_anew(
    clean_model: Classifier, tones: Splits
) -> None:
    clean = tones.train.sample(0.2, 0)
    repair = MCR(steps=5, lr=1e-4).remove(clean_model, clean, 0)
    assert repair.chosen == {"t": 0.5}
    tune, _ = clean.hold_out(0.2, 0)
    model = repair.model
    norm = part(model.body, "norm", nn.BatchNorm2d)
    stem = part(model.body, "stem", nn.Conv2d)(model.front_end(tune.inputs[:])[:, None])
    assert norm.running_mean is not None
    assert norm.running_var is not None
    assert torch.allclose(norm.running_mean, stem.mean((0, 2, 3)), atol=1e-5)
    assert torch.allclose(norm.running_var, stem.var((0, 2, 3)), rtol=1e-4)
    assert norm.momentum == 0.1


def test_renewed_statistics_leave_dropout_and_weights_alone(clean_model: Classifier, tones: Splits) -> None:
    body = nn.Sequential(nn.Flatten(), nn.Dropout(0.9), nn.BatchNorm1d(40 * 51))
    model = model_of(body, clean_model).train()
    renew_statistics(model, tones.validation)
    maps = model.front_end(tones.validation.inputs[:]).flatten(1)
    mean = part(body, "2", nn.BatchNorm1d).running_mean
    assert mean is not None
    assert torch.allclose(mean, maps.mean(0), atol=1e-5)


# NGF


def test_ngf_inverts_the_damped_fisher_matrix() -> None:
    rng = generator(0)
    rows = torch.randn(4, 7, generator=rng, dtype=torch.float64)
    direction = torch.randn(7, generator=rng, dtype=torch.float64)
    dense = rows.T @ rows / 4 + 0.3 * torch.eye(7, dtype=torch.float64)
    assert torch.allclose(natural(rows, direction, 0.3), torch.linalg.solve(dense, direction))


def test_ngf_gradients_of_single_examples_are_those_of_single_examples() -> None:
    body, x, y = small_net()
    _, rows = per_example(body.head, lambda: F.cross_entropy(body(x), y))
    for number in range(6):
        loss = F.cross_entropy(body(x[number : number + 1]), y[number : number + 1])
        weight, bias = torch.autograd.grad(loss, [body.head.weight, body.head.bias])
        assert torch.allclose(rows[number], torch.cat([weight.flatten(), bias]).float(), atol=1e-6)


def test_ngf_step_by_hand() -> None:
    head = nn.Linear(1, 2, bias=False)
    with torch.no_grad():
        head.weight.copy_(torch.tensor([[0.1], [0.3]]))
    x, y = torch.tensor([[2.0], [0.0]]), torch.tensor([0, 0])
    importance = torch.tensor([1.0, 3.0])
    rule = natural_rule(head, importance, damping=0.5, regularisation=0.1)
    with torch.no_grad():
        head.weight.copy_(torch.tensor([[0.4], [0.4]]))
    rule(head, lambda: F.cross_entropy(head(x), y))
    # The first example's gradient is 2 (-1/2, 1/2) = (-1, 1), the second's is zero: g = (-1, 1) / 2.
    # F = ((1, -1), (-1, 1)) / 2; the pull is 0.1 (1, 3) (0.3, 0.1), so the right-hand side is (-0.47, 0.53).
    # (F + 0.5) = ((1, -0.5), (-0.5, 1)), whose inverse is ((4, 2), (2, 4)) / 3.
    expected = torch.tensor([[(4 * -0.47 + 2 * 0.53) / 3], [(2 * -0.47 + 4 * 0.53) / 3]])
    assert head.weight.grad is not None
    assert torch.allclose(head.weight.grad, expected, atol=1e-6)


def test_ngf_importance_is_the_mean_square_gradient(clean_model: Classifier, tones: Splits) -> None:
    data = tones.validation.take(torch.arange(3))
    model = copy.deepcopy(clean_model).requires_grad_(True).eval()
    head = part(model.body, "head", nn.Linear)
    squares = torch.zeros(head.weight.numel())
    for number in range(3):
        one = data.take(torch.tensor([number]))
        loss = F.cross_entropy(model(one.inputs[:]), one.labels)
        squares += torch.autograd.grad(loss, head.weight)[0].flatten().square() / 3
    found = fisher_of_head(model, head, data)
    assert torch.allclose(found[: head.weight.numel()], squares, rtol=1e-4, atol=1e-10)


# FIP


def trace_by_hand(body: Net, x: Tensor, y: Tensor) -> Tensor:
    """The mean over examples of the squared norm of each one's gradient, differentiable."""
    total = torch.zeros((), dtype=x.dtype)
    for number in range(len(x)):
        loss = F.cross_entropy(body(x[number : number + 1]), y[number : number + 1])
        gradients = torch.autograd.grad(loss, list(body.parameters()), create_graph=True)
        total = total + sum(g.square().sum() for g in gradients) / len(x)
    return total


def test_fip_adds_the_gradient_of_the_trace_on_average() -> None:
    body, x, y = small_net(2)
    x, y = x[:2], y[:2]
    zeros = [torch.zeros_like(w) for w in body.parameters()]
    expected = torch.autograd.grad(
        F.cross_entropy(body(x), y) + 0.5 * trace_by_hand(body, x, y), body.first.weight
    )
    # Two examples have two kinds of signs, equal and opposite; the trace is the mean over both.
    found: dict[bool, Tensor] = {}
    for seed in itertools.count():
        rng = generator(seed)
        signs = 2 * torch.randint(2, (2, 1), generator=generator(seed)) - 1
        kind = bool(signs[0] == signs[1])
        if kind not in found:
            rule = trace_rule(body, zeros, 0.5, 0.0, 1e-6, rng)
            rule(body, lambda: F.cross_entropy(body(x), y))
            assert body.first.weight.grad is not None
            found[kind] = body.first.weight.grad.clone()
        if len(found) == 2:
            break
    assert torch.allclose((found[True] + found[False]) / 2, expected[0], atol=1e-5)
    plain = torch.autograd.grad(F.cross_entropy(body(x), y), body.first.weight)[0]
    assert (expected[0] - plain).abs().max() > 1e-2
    assert not torch.allclose(found[True], found[False], atol=1e-3)


def test_fip_pulls_weights_back_by_their_importance() -> None:
    body, x, y = small_net()
    importance = [torch.full_like(w, 2.0) for w in body.parameters()]
    rule = trace_rule(body, importance, 0.0, 5.0, 0.01, generator(0))
    with torch.no_grad():
        body.head.bias.add_(0.1)
    rule(body, lambda: F.cross_entropy(body(x), y))
    plain = torch.autograd.grad(F.cross_entropy(body(x), y), body.head.bias)[0]
    assert body.head.bias.grad is not None
    assert torch.allclose(body.head.bias.grad, plain + 5 * 2 * 0.1)


def test_fip_importance_adds_up_to_the_trace(clean_model: Classifier) -> None:
    body, x, y = small_net()
    body = body.float()
    model = Classifier(Identity(), body, clean_model.card)
    data = Dataset.of(x.float(), y, classes=list("abcd"))
    total = sum(float(part.sum()) for part in diagonal_fisher(model, data))
    assert total == pytest.approx(float(trace_by_hand(body, x.float(), y).detach()), rel=1e-4)


# ft_augmented


def test_adamw_is_tried_after_a_wreck_and_three_quarters_of_its_way_are_kept(
    clean_model: Classifier, tones: Splits
) -> None:
    clean = tones.train.sample(0.2, 0)
    calm = FTAugmented(lr=0.01, steps=20).remove(clean_model, clean, 0)
    assert calm.chosen == {"optimizer": "sgd", "lr": 0.01}
    after = FTAugmented(lr=1e4, adamw_lr=0.002, steps=20).remove(clean_model, clean, 0)
    assert after.chosen == {"optimizer": "adamw", "lr": 0.002}
    all_the_way = FTAugmented(optimizer="adamw", lr=0.002, wreck=1.0, steps=20).remove(clean_model, clean, 0)
    end, found = all_the_way.model.body.state_dict(), after.model.body.state_dict()
    for name, start in clean_model.body.state_dict().items():
        kept = start + 0.75 * (end[name] - start) if start.is_floating_point() else end[name]
        torch.testing.assert_close(found[name], kept)  # and nothing of the wreck is left


def test_scratch_tries_adamw_after_a_wreck_too(clean_model: Classifier, tones: Splits) -> None:
    clean = tones.train.sample(0.2, 0)
    after = Scratch(lr=1e4, adamw_lr=0.02, steps=60).remove(clean_model, clean, 2)
    assert after.chosen == {"optimizer": "adamw", "lr": 0.02}
    at_once = Scratch(optimizer="adamw", lr=0.02, wreck=1.0, steps=60).remove(clean_model, clean, 2)
    assert same(after.model.body, at_once.model.body)


def test_a_wreck_stays_if_it_may_or_if_adamw_does_no_better(clean_model: Classifier, tones: Splits) -> None:
    clean = tones.train.sample(0.2, 0)
    bold = FTAugmented(lr=10.0, wreck=1.0, steps=20).remove(clean_model, clean, 3)
    assert bold.chosen == {"optimizer": "sgd", "lr": 10.0}
    assert bold.lost > 1
    both = FTAugmented(lr=10.0, adamw_lr=1e4, steps=20).remove(clean_model, clean, 3)
    assert both.chosen == bold.chosen
    wrecked = bold.model.body.state_dict()
    for name, value in both.model.body.state_dict().items():
        torch.testing.assert_close(value, wrecked[name])
    with pytest.raises(DivergedError, match="diverged"):
        FTAugmented(lr=1e4, adamw_lr=1e4, steps=20).remove(clean_model, clean, 3)
