"""ANP: its settings arrive, masks stay within bounds, and low ones are pruned in the model itself."""

import copy
from typing import Any

import pytest
import torch
from torch import Generator, Tensor, nn

from closesesame.data import Dataset
from closesesame.models import Classifier
from closesesame.removal import ANP
from closesesame.removal.anp import noise_rule
from closesesame.removal.common.masking import (
    masked_copy,
)
from closesesame.training import Training, accuracy, fit
from tests.removal.pictures import Plain, drawn, plain
from tests.removal.rules import batch_of, scripted
from tests.removal.stained import Stained, stained
from tests.removal.tiny import BARE, TRIGGER, asr, vectors

pytestmark = pytest.mark.usefixtures("in_fp32")


def test_settings_arrive_and_masks_are_within_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    settings: dict[str, Any] = BARE | {"lr": 2.0, "batch_size": 40, "steps": 3}
    given: list[tuple[float, ...]] = []
    seen: list[tuple[Classifier, list[Tensor], Dataset]] = []

    def rule(eps: float, ascent_steps: int, alpha: float, rng: Generator) -> Any:
        given.append((eps, ascent_steps, alpha))
        return noise_rule(eps, ascent_steps, alpha, rng)

    def prune(_: ANP, model: Classifier, masks: list[Tensor], held_out: Dataset) -> dict[str, Any]:
        seen.append((model, masks, held_out))
        return {}

    monkeypatch.setattr("closesesame.removal.anp.noise_rule", rule)
    monkeypatch.setattr(ANP, "prune", prune)
    model, held_out = stained(), vectors(9, 1)
    ANP(**settings, eps=0.7, alpha=0.1, ascent_steps=2).repair(model, vectors(40), held_out, 0)
    assert given == [(0.7, 2, 0.1)]
    ((pruned, (masks,), held),) = seen
    assert pruned is model
    assert held is held_out
    assert float(masks.min()) >= 0
    assert float(masks.max()) <= 1
    assert (masks < 1).any()


def test_more_noise_moves_masks_more_and_no_noise_is_plain_fine_tuning_of_masks() -> None:
    data = vectors(40)
    found = []
    for alpha, eps in ((1.0, 0.4), (1.0, 0.01), (0.0, 0.4)):
        twin, masked = masked_copy(stained())
        rule = noise_rule(eps, 1, alpha, torch.Generator().manual_seed(0))
        settings = BARE | {"optimizer": "sgd", "lr": 0.1, "batch_size": 40, "steps": 2}
        fit(twin, data, Training(**settings), seed=0, gradient=rule)
        found.append(masked.masks[0].detach().clone())
    assert torch.equal(found[0], found[1])  # alpha is the share of the loss without noise
    assert not torch.allclose(found[0], found[2])


def test_the_noise_makes_the_loss_worse() -> None:
    twin, masked = masked_copy(stained())
    data, losses = vectors(60), []
    masked.eval()

    def loss() -> Tensor:
        value = nn.functional.cross_entropy(twin.body(data.inputs[:]), data.labels)
        losses.append(float(value.detach()))
        return value

    noise_rule(0.4, 1, 0.2, torch.Generator().manual_seed(0))(masked, scripted(loss))
    drawn, climbed, without = losses
    assert climbed > drawn
    assert climbed > without


def test_a_planted_backdoor_is_removed() -> None:
    model, data, clean = stained(), vectors(60, 1), vectors(100)
    heard = clean.inputs[:]  # what hears the trigger hears a little of everything, as in a trained network
    heard[:, TRIGGER] = 0.02 * torch.randn(100, generator=torch.Generator().manual_seed(4))
    clean = Dataset.of(heard, clean.labels, classes=clean.classes)
    assert asr(model, data) == 1
    before = copy.deepcopy(model.state_dict())
    repair = ANP(steps=60).remove(model, clean, 0)
    assert isinstance(repair.model.body, Stained)
    norm = repair.model.body.norm
    assert 11 in (norm.weight == 0).nonzero().flatten().tolist()
    assert asr(repair.model, data) < 0.1
    assert accuracy(repair.model, data) > 0.85
    assert repair.chosen["threshold"] == 0.2
    changed = {k for k, v in repair.model.state_dict().items() if not torch.equal(v, before[k])}
    assert changed == {"body.norm.weight"}


def test_the_published_settings() -> None:
    method = ANP()
    assert (method.eps, method.ascent_steps, method.alpha, method.lr) == (0.4, 1, 0.2, 0.2)
    assert (method.steps, method.batch_size, method.threshold, method.momentum) == (2000, 128, 0.2, 0.9)
    assert (method.tolerance, method.max_loss_rise) == (0.1, None)


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

    noise_rule(0.4, 1, 0.2, torch.Generator().manual_seed(9))(twin.body, batch_of(x, labels))
    rng = torch.Generator().manual_seed(9)
    noise = [(0.4 * (2 * torch.rand(24, generator=rng) - 1)).requires_grad_() for _ in range(2)]
    mask = torch.ones(24, requires_grad=True)
    net.requires_grad_(False)

    def by_hand(scale: Tensor, shift: Tensor) -> Tensor:
        return nn.functional.cross_entropy(logits_under(net, x, scale, shift), labels)

    slopes = torch.autograd.grad(by_hand(1 + noise[0], 1 + noise[1]), noise)
    worse = [n.detach() + 0.4 * g.sign() for n, g in zip(noise, slopes, strict=True)]
    total = 0.2 * by_hand(mask, torch.ones(24)) + 0.8 * by_hand(mask + worse[0], 1 + worse[1])
    total.backward()
    assert mask.grad is not None
    assert masked.masks[0].grad is not None
    assert torch.allclose(masked.masks[0].grad, mask.grad, atol=1e-5)
    assert all(w.grad is None for w in masked.body.parameters())
