"""Feature shift tuning and its relatives: one step of each, followed by hand."""

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from closesesame.core.seeding import isolated
from closesesame.data import Splits
from closesesame.models import Classifier
from closesesame.removal import (
    FST,
    FETuning,
    FTInit,
    LinearProbe,
)
from closesesame.removal.fst import shift_rule
from closesesame.training import accuracy
from tests.removal.rules import (
    exact,
    part,
    small_net,
)
from tests.removal.tiny import (
    BARE,
    Tiny,
    asr,
    assert_same,
    body_of,
    moved,
    state,
    tiny,
    vectors,
    victim,
)

pytestmark = pytest.mark.usefixtures("in_fp32")

STEP: dict[str, Any] = {**BARE, "steps": 1, "lr": 0.2, "batch_size": 100}
HEAD = {"head.weight", "head.bias"}


def drawn_anew(body: Tiny, seed: int) -> None:
    with isolated(seed, "head"):
        fresh = nn.Linear(6, 3)
    body.head.load_state_dict(fresh.state_dict())


def step(body: Tiny, trained: list[Tensor], extra: float = 0.0, old: Tensor | None = None) -> None:
    """Descends on cross-entropy, and `extra` times the inner product of the head and the old one."""
    data = vectors(24)
    loss = F.cross_entropy(body(data.inputs[:]), data.labels)
    if old is not None:
        loss = loss + extra * (body.head.weight * old).sum()
    gradients = torch.autograd.grad(loss, trained)
    with torch.no_grad():
        for weight, gradient in zip(trained, gradients, strict=True):
            weight.sub_(0.2 * gradient)


def pair() -> tuple[Classifier, Tiny]:
    """A model to repair and a copy of its network, in training mode, to follow by hand."""
    model = tiny(1)
    return model, body_of(copy.deepcopy(model)).train()


def test_linear_probe_moves_the_head_from_where_it_stands_on_frozen_statistics() -> None:
    model, body = pair()
    body.eval()
    LinearProbe(**STEP).repair(model, vectors(24), vectors(4, 1), 0)
    step(body, [body.head.weight, body.head.bias])
    assert_same(model.body, body)
    assert moved(model.body, state(tiny(1).body)) == HEAD


def test_fe_tuning_moves_everything_but_a_head_that_is_drawn_anew() -> None:
    model, body = pair()
    FETuning(**STEP).repair(model, vectors(24), vectors(4, 1), 5)
    drawn_anew(body, 5)
    fresh = state(body)
    step(body, [*body.norm.parameters(), *body.first.parameters()])
    assert_same(model.body, body)
    # A bias before a batch norm changes nothing, so it has no gradient but rounding.
    assert moved(model.body, fresh) | {"first.bias"} == set(fresh) - HEAD


def test_ft_init_moves_everything_from_a_head_that_is_drawn_anew() -> None:
    model, body = pair()
    FTInit(**STEP).repair(model, vectors(24), vectors(4, 1), 5)
    drawn_anew(body, 5)
    fresh = state(body)
    step(body, list(body.parameters()))
    assert_same(model.body, body)
    assert moved(model.body, fresh) | {"first.bias"} == set(fresh)


@pytest.mark.parametrize("alpha", [0.0, 0.1, 2.0])
def test_fst_pushes_a_new_head_away_from_the_old_one_at_its_norm(alpha: float) -> None:
    model, body = pair()
    old = body.head.weight.detach().clone()
    chosen = FST(alpha=alpha, **STEP).repair(model, vectors(24), vectors(4, 1), 5)
    drawn_anew(body, 5)
    with torch.no_grad():
        body.head.weight.mul_(old.norm() / body.head.weight.norm())
    step(body, list(body.parameters()), alpha, old)
    with torch.no_grad():
        body.head.weight.mul_(old.norm() / body.head.weight.norm())
    assert_same(model.body, body)
    cosine = (body.head.weight.detach() * old).sum() / old.norm() ** 2
    assert chosen == {"cosine": pytest.approx(float(cosine), abs=1e-5)}


def test_fst_removes_a_trigger_that_the_linear_probe_leaves() -> None:
    tune, unseen = vectors(60), vectors(60, 1)
    probed, shifted = victim(), victim()
    assert asr(probed, unseen) == 1
    LinearProbe(augmentation="none").repair(probed, tune, vectors(6, 2), 0)
    assert asr(probed, unseen) == 1
    FST(lr=0.1, augmentation="none").repair(shifted, tune, vectors(6, 2), 0)
    assert asr(shifted, unseen) < 0.2
    assert accuracy(shifted, unseen) > 0.9


def test_fst_adds_alpha_times_the_old_head_at_its_norm() -> None:
    body, x, y = small_net()
    old = 2 * torch.ones_like(body.head.weight)
    before = body.head.weight.detach().clone()
    shift_rule(body.head, old, 0.3)(body, exact(x, y))
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
