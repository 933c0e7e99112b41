"""Gradient rules for `fit`, against cases worked by hand."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from closesesame.data import Splits
from closesesame.models import Classifier
from closesesame.training import Batch
from closesesame.training.rules.ascent import Ascent
from closesesame.training.rules.gradient_norm import gradient_norm_rule
from tests.removal.rules import HESSIAN, START, Quadratic, scripted


def gradient(r: float, alpha: float, *, per_tensor: bool) -> Tensor:
    body = Quadratic()
    gradient_norm_rule(r, alpha, per_tensor=per_tensor)(body, body.batch())
    assert torch.allclose(body.weights(), START, atol=1e-15)
    return body.gradient()


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
    gradient_norm_rule(0.05, 0.7, per_tensor=True)(body, body.batch())
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
    gradient_norm_rule(0.5, 0.7, per_tensor=True)(body, scripted(lambda: body(x)))
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
        gradient_norm_rule(0.3, 0.7, per_tensor=True)(body, scripted(loss))
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
    gradient_norm_rule(0.3, 0.7, per_tensor=True)(body, scripted(loss))
    assert said == ["remember", "pass", "put back", "pass"]


class Slope(nn.Module):
    """Loss 10 w, so the gradient is 10."""

    def __init__(self) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.tensor([1.0]))

    def batch(self) -> Batch:
        return scripted(lambda: 10 * self.w.sum())


def test_unlearning_climbs_with_a_short_gradient_until_clean_classes_are_lost(
    clean_model: Classifier, tones: Splits
) -> None:
    body = Slope()
    climbing = Ascent(clean_model, tones.validation, stop_accuracy=0.0, clip=4)
    climbing(body, body.batch())
    assert body.w.grad is not None
    assert float(body.w.grad) == pytest.approx(-4)  # SGD subtracts it: up
    done, body = Ascent(clean_model, tones.validation, stop_accuracy=1.0), Slope()
    done(body, body.batch())
    assert body.w.grad is None
    assert (climbing.batches, done.batches) == (1, 0)
