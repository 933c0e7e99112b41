"""The rule of each removal against a case worked by hand."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from closesesame.core.errors import ModelError
from closesesame.data import Splits
from closesesame.models import Classifier
from closesesame.models.channels import head_in
from closesesame.removal import FinePruning
from closesesame.removal.fine_pruning import mean_activation
from closesesame.training import accuracy
from closesesame.training.rules.gradient_norm import gradient_norm_rule

HESSIAN = torch.tensor([[3.0, 1.0, 0.0], [1.0, 2.0, 0.5], [0.0, 0.5, 1.0]], dtype=torch.float64)
START = torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64)


class Quadratic(nn.Module):
    """Loss w H w / 2 over two tensors: the first two weights and the third."""

    def __init__(self) -> None:
        super().__init__()
        self.one = nn.Parameter(START[:2].clone())
        self.two = nn.Parameter(START[2:].clone())
        self.unused = nn.Parameter(torch.zeros(1))

    def loss(self) -> Tensor:
        w = torch.cat([self.one, self.two])
        loss: Tensor = w @ HESSIAN @ w / 2
        return loss


def gradient(r: float, alpha: float, *, per_tensor: bool) -> Tensor:
    body = Quadratic()
    gradient_norm_rule(r, alpha, per_tensor=per_tensor)(body, body.loss)
    assert torch.allclose(torch.cat([body.one, body.two]), START, atol=1e-15)
    assert body.unused.grad is None
    assert body.one.grad is not None
    assert body.two.grad is not None
    return torch.cat([body.one.grad, body.two.grad])


def test_gnft_is_the_gradient_of_loss_plus_lambda_times_its_norm() -> None:
    # On a quadratic the difference is exact: grad ||g|| = H g / ||g||, and lambda = alpha r.
    g = HESSIAN @ START
    expected = g + 0.7 * 0.05 * HESSIAN @ (g / g.norm())
    assert torch.allclose(gradient(0.05, 0.7, per_tensor=False), expected, atol=1e-12)
    w = START.clone().requires_grad_()
    penalised = w @ HESSIAN @ w / 2 + 0.035 * (HESSIAN @ w).norm()
    assert torch.allclose(torch.autograd.grad(penalised, w)[0], expected, atol=1e-12)


def test_gnft_per_tensor_moves_each_tensor_by_r() -> None:
    g = HESSIAN @ START
    v = torch.cat([g[:2] / g[:2].norm(), g[2:] / g[2:].norm()])
    expected = g + 0.7 * 0.05 * HESSIAN @ v
    assert torch.allclose(gradient(0.05, 0.7, per_tensor=True), expected, atol=1e-12)
    assert not torch.allclose(expected, gradient(0.05, 0.7, per_tensor=False))


def test_gnft_alpha_0_is_sgd_and_alpha_1_is_sam() -> None:
    g = HESSIAN @ START
    assert torch.allclose(gradient(0.5, 0.0, per_tensor=False), g)
    assert torch.allclose(gradient(0.5, 1.0, per_tensor=False), HESSIAN @ (START + 0.5 * g / g.norm()))


def test_gnft_zero_gradient_is_no_nan() -> None:
    body = Quadratic()
    with torch.no_grad():
        body.one.zero_()
        body.two.zero_()
    gradient_norm_rule(0.05, 0.7, per_tensor=True)(body, body.loss)
    assert body.one.grad is not None
    assert body.one.grad.isfinite().all()


class Noisy(nn.Module):
    """Batch norm and dropout: what a second pass could disturb."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(4)
        self.drop = nn.Dropout(0.5)
        self.head = nn.Linear(4, 1)
        self.masks: list[Tensor] = []

    def forward(self, x: Tensor) -> Tensor:
        y = self.drop(self.norm(x))
        self.masks.append(y == 0)
        loss: Tensor = self.head(y).square().mean()
        return loss


def test_gnft_updates_batch_norm_once_and_keeps_the_dropout_mask() -> None:
    body, x = Noisy().train(), torch.randn(16, 4, generator=torch.Generator().manual_seed(0))
    gradient_norm_rule(0.5, 0.7, per_tensor=True)(body, lambda: body(x))
    assert body.norm.running_mean is not None
    assert torch.allclose(body.norm.running_mean, 0.1 * x.mean(0))
    assert int(body.norm.num_batches_tracked or 0) == 1
    assert torch.equal(*body.masks)


def test_gnft_puts_everything_back_exactly_even_if_a_pass_fails() -> None:
    body, x = Noisy().train(), torch.randn(16, 4, generator=torch.Generator().manual_seed(0))
    before = {key: value.clone() for key, value in body.named_parameters()}
    statistics: list[Tensor] = []

    def loss() -> Tensor:
        value: Tensor = body(x)
        if statistics:
            assert not torch.equal(body.head.weight, before["head.weight"])  # the second pass is elsewhere
            raise KeyboardInterrupt
        statistics.extend(buffer.clone() for buffer in body.buffers())
        return value

    with pytest.raises(KeyboardInterrupt):
        gradient_norm_rule(0.3, 0.7, per_tensor=True)(body, loss)
    assert all(torch.equal(value, before[key]) for key, value in body.named_parameters())
    assert all(torch.equal(value, kept) for value, kept in zip(body.buffers(), statistics, strict=True))


def test_gnft_puts_the_draws_of_any_device_back_between_the_two_passes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    said: list[str] = []

    def remember(body: nn.Module) -> Callable[[], None]:
        del body
        said.append("remember")
        return lambda: said.append("put back")

    def loss() -> Tensor:
        said.append("pass")
        return body(x)  # type: ignore[no-any-return]

    body, x = Noisy().train(), torch.randn(16, 4, generator=torch.Generator().manual_seed(0))
    monkeypatch.setattr("closesesame.training.rules.gradient_norm.remember_draws", remember)
    gradient_norm_rule(0.3, 0.7, per_tensor=True)(body, loss)
    assert said == ["remember", "pass", "put back", "pass"]


class Known(nn.Module):
    """Units with known mean activations; units 1 and 3 carry the classes."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(4, 4, bias=False)

    def forward(self, features: Tensor) -> Tensor:
        x = features.mean((1, 2))[:, None].abs()
        logits: Tensor = self.head(torch.cat([0.5 * x, 3 * x, 0.1 * x, 2 * x], 1))
        return logits


def test_fine_pruning_ranks_units_by_mean_activation(tones: Splits, clean_model: Classifier) -> None:
    model = Classifier(clean_model.front_end, Known(), clean_model.card)
    activation = mean_activation(model, head_in(model), tones.validation)
    assert activation.argsort().tolist() == [2, 0, 3, 1]
    assert activation / activation[0] == pytest.approx([1, 6, 0.2, 4], rel=1e-4)


def test_fine_pruning_stops_within_the_tolerance_and_pruned_units_stay_dead(
    tones: Splits, clean_model: Classifier
) -> None:
    clean = tones.train.sample(0.3, 0)
    method = FinePruning(tolerance=0.1, step=0.1, steps=3)
    repair = method.remove(clean_model, clean, 0)
    pruned = repair.chosen["pruned_units"]
    assert 0 < pruned < repair.chosen["of"] == 16
    dead = (head_in(repair.model).weight == 0).all(0)
    assert int(dead.sum()) == pruned
    # Without fine-tuning, the kept step is within the tolerance and one more step is not.
    bare = FinePruning(tolerance=0.1, step=0.1, steps=0).remove(clean_model, clean, 0)
    _, held_out = clean.hold_out(method.hold_out, 0)
    allowed = 0.9 * accuracy(clean_model, held_out)
    assert accuracy(bare.model, held_out) >= allowed
    layer = head_in(bare.model)
    tune, _ = clean.hold_out(method.hold_out, 0)
    order = mean_activation(clean_model, head_in(clean_model), tune).argsort()
    with torch.no_grad():
        layer.weight[:, order[: pruned + 2]] = 0
    assert accuracy(bare.model, held_out) < allowed


def test_fine_pruning_needs_a_linear_layer(clean_model: Classifier, tones: Splits) -> None:
    body = nn.Sequential(nn.Conv1d(40, 4, 1), nn.AdaptiveAvgPool1d(1), nn.Flatten())
    model = Classifier(clean_model.front_end, body, clean_model.card)
    with pytest.raises(ModelError, match="ends in a linear layer; this one does not"):
        FinePruning().remove(model, tones.train.sample(0.2, 0), 0)
