"""MCR: what lies at which point of the curve, and which point is chosen on what."""

import copy
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from closesesame.core.seeding import derive, generator
from closesesame.data import Splits
from closesesame.models import Classifier
from closesesame.removal import (
    MCR,
)
from closesesame.removal.mcr import curve_rule
from closesesame.training import Training, accuracy, fit, predict
from tests.removal.rules import (
    HESSIAN,
    Quadratic,
    part,
    same,
)
from tests.removal.tiny import BARE, body_of, moved, state, tiny, vectors

pytestmark = pytest.mark.usefixtures("in_fp32")

SHORT: dict[str, Any] = {**BARE, "steps": 6, "lr": 0.3, "batch_size": 8}
TUNE, HELD_OUT = vectors(24), vectors(30, 5)


def repaired(t: float | None, **more: Any) -> tuple[Classifier, dict[str, Any]]:
    model = tiny(2)
    return model, MCR(t=t, **(SHORT | more)).repair(model, TUNE, HELD_OUT, 7)


def test_the_curve_runs_from_the_suspect_over_the_bend_to_a_fine_tuned_copy() -> None:
    start, end, bend = (copy.deepcopy(tiny(2)) for _ in range(3))
    settings = Training(optimizer="sgd", **SHORT)
    fit(end, TUNE, settings, seed=derive(7, "copy"))
    with torch.no_grad():
        for weight, far in zip(bend.body.parameters(), end.body.parameters(), strict=True):
            weight.copy_((weight + far) / 2)
    rule = curve_rule(start.body, end.body, generator(7, "place"))
    fit(bend, TUNE, settings, seed=derive(7, "bend"), gradient=rule)
    assert not moved(repaired(0.0)[0], state(start))
    assert not moved(repaired(1.0)[0], state(end))
    # At a quarter: 9 parts of the start, 6 of the bend and 1 of the end, of 16.
    weights = dict(repaired(0.25)[0].body.named_parameters())
    first, middle, last = (dict(model.body.named_parameters()) for model in (start, bend, end))
    for name, weight in weights.items():
        expected = (9 * first[name] + 6 * middle[name] + last[name]) / 16
        torch.testing.assert_close(weight, expected)
    assert moved(bend, state(end)) >= {"body.first.weight", "body.head.weight"}


def test_the_bend_is_trained_as_long_as_the_copy() -> None:
    still = [dict(repaired(0.5, steps=steps)[0].named_parameters()) for steps in (0, 6)]
    suspect = dict(tiny(2).named_parameters())
    for name, weight in still[0].items():
        torch.testing.assert_close(weight, suspect[name])
    end = dict(repaired(1.0)[0].named_parameters())
    straight = {name: (suspect[name] + end[name]) / 2 for name in end}
    assert any(not torch.allclose(straight[name], still[1][name], atol=1e-3) for name in end)


def test_between_the_ends_statistics_are_those_of_the_tuning_examples() -> None:
    body = body_of(repaired(0.3)[0])
    values = body.first(TUNE.inputs[:]).detach()
    assert body.norm.running_mean is not None
    assert body.norm.running_var is not None
    torch.testing.assert_close(body.norm.running_mean, values.mean(0))
    torch.testing.assert_close(body.norm.running_var, values.var(0))
    assert body.norm.momentum == 0.1


@pytest.fixture(scope="module")
def able() -> Classifier:
    """A model that is right nearly always."""
    model = tiny(2)
    fit(model, TUNE, Training(optimizer="sgd", **(SHORT | {"steps": 80})), seed=0)
    assert accuracy(model, HELD_OUT) > 0.8
    return model


def towards_wrong(able: Classifier, **settings: Any) -> tuple[Classifier, float]:
    """Repairs it with wrong labels, so the curve leads away from what is right; returns the point as well."""
    model, wrong = copy.deepcopy(able), TUNE.with_labels((TUNE.labels + 1) % 3)
    method = MCR(points=13, **(SHORT | {"steps": 10, "lr": 0.3} | settings))
    return model, method.repair(model, wrong, HELD_OUT, 0)["t"]


def test_the_point_nearest_to_the_middle_that_is_accurate_enough_is_chosen(able: Classifier) -> None:
    before, along = accuracy(able, HELD_OUT), [towards_wrong(able, t=place / 12)[0] for place in range(13)]
    logits = [predict(model, HELD_OUT) for model in along]
    right = [float((guess.argmax(1) == HELD_OUT.labels).float().mean()) for guess in logits]
    losses = [float(F.cross_entropy(guess, HELD_OUT.labels)) for guess in logits]
    limits = {(one + other) / 2 for one, other in pairwise(right) if one > other}  # one more and one less
    places = []
    for limit in sorted(limits | {0.0}, reverse=True):
        enough = [place for place in range(13) if right[place] >= limit]
        places.append(min(enough, key=lambda place: (abs(place - 6), losses[place])))
        model, t = towards_wrong(able, tolerance=min(0.99, before - limit))
        assert t == places[-1] / 12
        assert not moved(model, state(along[places[-1]]))
    assert len(set(places)) > 3
    assert places[-1] == 6  # the middle, where all is allowed


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
    curve_rule(start, end, generator(1))(bend, bend.batch())
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
