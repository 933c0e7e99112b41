"""SAU: what it does to a model whose backdoor is known."""

import copy
import math

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from closesesame.models import Classifier
from closesesame.removal import SAU
from closesesame.removal.sau import divergence, shared_risk, unshare
from tests.removal.planted import clips, entering, planted, rates, repaired

PLAIN = {"optimizer": "sgd", "momentum": 0.0, "batch_size": 40}


def test_its_length_and_bound_are_those_of_the_code() -> None:
    method = SAU()
    assert (method.training().steps, method.batch_size, method.schedule, method.lr) == (
        1000,
        256,
        "constant",
        1e-4,
    )
    assert method.bound == method.step == 0.8  # 0.2 of a picture in 0..1, whose deviation is a quarter


def _clean_and_moved(method: SAU, model: Classifier) -> tuple[Tensor, Tensor]:
    """The batch of the only step, whose labels are each the class behind, and the same examples moved."""
    seen, data = entering(model), clips()
    method.repair(model, data.with_labels((data.labels + 1) % 4), clips(8, 5), 0)
    return seen[0], seen[-1]


@pytest.mark.parametrize(("bound", "step"), [(0.5, 0.2), (0.2, 0.3)])
def test_examples_go_up_the_loss_by_steps_within_the_bound(bound: float, step: float) -> None:
    # It starts at the upper corner of the box. Model and suspect are the same, so their divergence has no
    # slope: the first step goes by the cross-entropy alone, back where that falls, and not beyond the box.
    model = planted(strength=3.0)
    clean, moved = _clean_and_moved(SAU(bound=bound, step=step, ascent_steps=1, steps=1, **PLAIN), model)
    change = (moved - clean) / clean.std()
    before = (clean + bound * clean.std()).requires_grad_()
    body = planted(strength=3.0).body
    label = (body(clean).argmax(1) + 1) % 4
    slope = torch.autograd.grad(F.cross_entropy(body(before), label), before)[0]
    assert torch.allclose(change[slope < 0], torch.tensor(max(bound - step, -bound)), atol=1e-5)
    assert torch.allclose(change[slope > 0], torch.tensor(bound), atol=1e-5)
    assert (slope < 0).any()
    assert (slope > 0).any()


def test_what_is_unlearned_is_what_fools_the_suspect_and_not_the_model_as_it_is() -> None:
    # Three steps followed by hand. The learning rate is high, so the model soon differs from the suspect.
    # Every eighth label is another class than what is heard, so labels and predictions cannot be swapped.
    model, data = planted(), clips()
    data = data.with_labels(torch.where(torch.arange(40) % 8 == 0, 2, data.labels))
    x, y = data.inputs[:], data.labels
    suspect, body, unit = model.body, copy.deepcopy(model.body), float(x.std())
    fooled, alike, apart, mislabelled = [], [], 0, 0
    for _ in range(3):
        with torch.no_grad():
            suspected, before = suspect(x).argmax(1), body(x).argmax(1)
        delta = torch.full_like(x, 0.9 * unit)
        for _ in range(2):
            delta.requires_grad_()
            risk = shared_risk(body(x + delta), suspect(x + delta), before, suspected, y, 2.0, 0.7)
            slope = torch.autograd.grad(risk, delta)[0]
            delta = (delta.detach() + 0.6 * unit * slope.sign()).clamp(-0.9 * unit, 0.9 * unit)
        other = suspect(x + delta).argmax(1)
        hit = (other != suspected) & (other != y)
        mislabelled += int(((other != suspected) & (other == y)).sum())
        logits = body(x + delta)
        fooled.append(float(hit.float().mean()))
        alike.append(float((hit & (logits.argmax(1) == other)).float().mean()))
        apart += int((logits.argmax(1) != other).sum())
        loss = F.cross_entropy(body(x), y) + 3 * unshare(logits, other, hit)
        _descend(body, loss, 0.5)
    assert mislabelled > 0  # what is moved to its own label is not to be unlearned
    assert apart > 0  # else suspect and model could be swapped, and nothing would show
    method = SAU(
        bound=0.9, step=0.6, ascent_steps=2, beta1=2.0, beta2=0.7, shared=3.0, steps=3, lr=0.5, **PLAIN
    )
    other_model = copy.deepcopy(model)
    chosen = method.repair(other_model, data, clips(8, 5), 0)
    for weight, new in zip(body.parameters(), other_model.body.parameters(), strict=True):
        assert torch.allclose(weight, new, atol=1e-5)
    assert chosen == {
        "fooled_first": round(fooled[0], 3),
        "fooled_last": round(fooled[-1], 3),
        "shared_first": round(alike[0], 3),
    }


def _descend(body: nn.Module, loss: Tensor, lr: float) -> None:
    gradients = torch.autograd.grad(loss, list(body.parameters()))
    with torch.no_grad():
        for weight, gradient in zip(body.parameters(), gradients, strict=True):
            weight.sub_(lr * gradient)


def test_it_removes_a_planted_backdoor_and_says_that_it_was_at_work() -> None:
    model, settings = planted(), {"steps": 60, "lr": 0.3, **PLAIN}
    chosen = SAU(**settings).repair(model, clips(), clips(8, 5), 0)
    accuracy, asr = rates(model)
    assert accuracy == 1
    assert asr < 0.1
    assert chosen["fooled_first"] > 0.1 > chosen["fooled_last"]
    assert "unlearning" not in chosen
    # Fine-tuning alone leaves it in place.
    assert rates(repaired(SAU(shared=0.0, **settings))) == (1.0, 1.0)


def test_a_bound_that_fools_nobody_is_said_so() -> None:
    chosen = SAU(bound=0.01, step=0.01, steps=2).repair(planted(), clips(), clips(8, 5), 0)
    assert chosen["fooled_first"] == 0
    assert chosen["unlearning"].startswith("idle: the suspect is hardly ever fooled")


def test_sau_divergence_and_risks_by_hand() -> None:
    logits = torch.log(torch.tensor([[0.5, 0.5], [0.9, 0.1]]))
    other = torch.log(torch.tensor([[0.9, 0.1], [0.9, 0.1]]))
    # (0.5, 0.5) and (0.9, 0.1) have the middle (0.7, 0.3).
    half = [0.5 * math.log(0.5 / 0.7) + 0.5 * math.log(0.5 / 0.3)]
    half += [0.9 * math.log(0.9 / 0.7) + 0.1 * math.log(0.1 / 0.3)]
    assert divergence(logits, other).tolist() == pytest.approx([sum(half) / 2, 0.0], abs=1e-6)
    # Where the suspect is fooled into class 0: -log(1 - 0.9), over two examples.
    hit = torch.tensor([False, True])
    assert float(unshare(logits, torch.tensor([0, 0]), hit)) == pytest.approx(-math.log(0.1) / 2, rel=1e-4)
    # Nobody is fooled: both cross-entropies count, those of the label, and so does the divergence.
    here, there = logits[1:], torch.log(torch.tensor([[0.6, 0.4]]))
    zero, one = torch.tensor([0]), torch.tensor([1])
    apart = 2 * float(divergence(here, there)[0])
    for label, likely in ((zero, (0.9, 0.6)), (one, (0.1, 0.4))):
        expected = 0.01 * -sum(map(math.log, likely)) / 2 - apart
        assert float(shared_risk(here, there, zero, zero, label, 0.01, 2.0)) == pytest.approx(
            expected, rel=1e-4
        )
    # Both are fooled into the same class: nothing is left to do.
    assert float(shared_risk(here, there, one, one, one, 0.01, 2.0)) == 0
    # The model has left its class, the suspect has not: its cross-entropy counts, and the divergence.
    expected = 0.01 * -math.log(0.6) / 2 - apart
    assert float(shared_risk(here, there, one, zero, zero, 0.01, 2.0)) == pytest.approx(expected, rel=1e-4)
