"""I-BAU: what its rounds do to a model whose backdoor is known."""

import copy

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from closesesame.models import Classifier
from closesesame.optimisation.hypergradient import hypergradient
from closesesame.removal import FT, IBAU
from tests.removal.planted import clips, descended, entering, planted, rates, repaired

PLAIN = {"optimizer": "sgd", "momentum": 0.0, "batch_size": 40}


def _sure(times: int) -> Classifier:
    """A model so sure of the clips that its loss has next to no slope; with 10, its square is 0."""
    model = planted()
    for weight in model.get_submodule("body.head").parameters():
        weight.data *= times
    return model


def _chosen(model: Classifier, **settings: object) -> dict[str, object]:
    return IBAU(**settings).repair(copy.deepcopy(model), clips(), clips(8, 5), 0)


def test_its_length_is_that_of_the_code_on_5000_examples() -> None:
    training, length = IBAU().plan()
    assert (training.steps, length, IBAU().rounds, IBAU().batch_size) == (500, 50, 5, 100)
    assert training.lr == 1e-3
    training, length = IBAU(rounds=3, steps=7, ascent_steps=4).plan()
    assert (training.steps, length) == (3 * 4 + 7, 3)


@pytest.mark.parametrize(("radius", "norm"), [(10.0, 10.0), (3.0, 3.0), (None, 15.0)])
@pytest.mark.parametrize("times", [5, 10])
def test_the_perturbation_reaches_its_ball_even_where_the_loss_has_no_slope(
    radius: float | None, norm: float, times: int
) -> None:
    settings = {"radius": radius, "penalty": 0.0, "batch_size": 40}
    found = _chosen(_sure(times), rounds=3, steps=0, ascent_steps=15, **settings)
    assert found["perturbation_norms"] == pytest.approx([norm] * 3, rel=0.02)
    assert "inner_ascent" not in found


def test_a_penalty_holds_the_perturbation_where_its_slope_is_as_long_as_a_step() -> None:
    found = _chosen(
        planted(),
        radius=None,
        penalty=0.25,
        rounds=1,
        steps=0,
        ascent_steps=40,
        ascent_step=0.2,
        batch_size=40,
    )
    assert found["perturbation_norms"] == pytest.approx([2.0], abs=0.05)


def test_an_ascent_that_finds_nothing_is_said_so() -> None:
    flat = planted()
    for weight in flat.get_submodule("body.head").parameters():
        weight.data.zero_()
    found = _chosen(flat, rounds=2, steps=0, ascent_steps=3)
    assert found["perturbation_norms"] == [0.0, 0.0]
    assert str(found["inner_ascent"]).startswith("died in round 1, 2: no perturbation raised the loss")


@pytest.mark.parametrize(("share", "changed"), [(0.01, 1), (0.25, 10), (1.0, 40)])
def test_a_share_of_each_batch_is_perturbed_where_the_weights_learn(share: float, changed: int) -> None:
    model = planted()
    seen = entering(model)
    IBAU(rounds=1, steps=1, ascent_steps=2, share=share, batch_size=40, radius=0.5).repair(
        model, clips(), clips(8, 5), 0
    )
    # The run for the curvature, after that for the weights, perturbs all examples of the same batch.
    outer, all_moved = seen[-2:]
    assert outer.shape == all_moved.shape == (40, 8, 6)
    apart = (all_moved - outer).flatten(1).norm(dim=1)
    assert int((apart < 1e-6).sum()) == changed
    assert apart[apart > 1e-6].tolist() == pytest.approx(
        [0.5 * float(seen[0].std())] * (40 - changed), rel=1e-4
    )


def test_the_weights_learn_what_the_perturbation_does_to_the_batch() -> None:
    # One round of one step each, followed by hand: up the slope of the loss, then down its hypergradient.
    model, data = planted(), clips()
    x, y = data.inputs[:], data.labels
    unit, delta = x.std(), torch.zeros(1, 8, 6, requires_grad=True)
    slope = torch.autograd.grad(F.cross_entropy(model.body(x + unit * delta), y), delta)[0]
    delta = 0.7 * slope / slope.norm()
    body = copy.deepcopy(model.body)

    def under(d: Tensor) -> Tensor:
        return F.cross_entropy(body(x + unit * d), y)

    wanted, _ = hypergradient(
        lambda d: 0.3 * d.square().sum() - under(d),
        under,
        delta,
        list(body.parameters()),
        iterations=4,
        rate=0.2,
    )
    other = repaired(
        IBAU(
            rounds=1,
            steps=1,
            ascent_steps=1,
            ascent_step=0.7,
            penalty=0.3,
            share=1.0,
            fixed_point_steps=4,
            fixed_point_rate=0.2,
            lr=0.5,
            **PLAIN,
        ),
        model,
        data,
    )
    for weight, gradient, new in zip(body.parameters(), wanted, other.body.parameters(), strict=True):
        assert gradient is not None
        assert torch.allclose(weight - 0.5 * gradient, new, atol=1e-6)
    # Without the perturbation the weights would have gone elsewhere.
    unmoved = descended(model, lambda f: F.cross_entropy(f(x), y), 0.5)
    assert not torch.allclose(unmoved["head.weight"], other.state_dict()["body.head.weight"], atol=1e-3)


@pytest.mark.parametrize("target", [2, 3])
def test_it_removes_a_planted_backdoor_and_keeps_the_classes(target: int) -> None:
    model = planted(target)
    assert rates(model, target) == (1.0, 1.0)
    method = IBAU(rounds=3, steps=30, ascent_steps=8, lr=0.3, share=0.3, radius=5.0, **PLAIN)
    healed = copy.deepcopy(model)
    assert method.repair(healed, clips(), clips(8, 5), 0) == {"perturbation_norms": [5.0, 5.0, 5.0]}
    accuracy, asr = rates(healed, target)
    assert accuracy == 1
    assert asr < 0.1
    # Fine-tuning alone leaves it in place.
    tuned = FT(steps=30, lr=0.3, augmentation="none", schedule="constant", weight_decay=0, **PLAIN)
    assert rates(repaired(tuned, model), target) == (1.0, 1.0)
