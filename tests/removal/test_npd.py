"""NPD: what it does to a model whose backdoor is known."""

import copy
import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from closesesame.data import Dataset, Splits
from closesesame.models import Classifier
from closesesame.removal import NPD
from closesesame.removal.npd import against, layers_at
from tests.removal.planted import clips, entering, planted, rates, repaired

PLAIN = {"momentum": 0.0, "weight_decay": 0.0, "batch_size": 40}


def test_its_length_is_that_of_the_code_on_2500_examples() -> None:
    method = NPD()
    assert (method.steps, method.batch_size, method.schedule, method.lr) == (1000, 128, "constant", 0.01)
    assert (method.warmup * method.steps, method.warmup_lr) == (100, 1e-4)


def mislabelled() -> Dataset:
    """The clips, every eighth of them with a wrong label."""
    data = clips()
    return data.with_labels(torch.where(torch.arange(40) % 8 == 0, 3, data.labels))


def _beside(logits: Tensor, labels: Tensor) -> Tensor:
    """The most likely class that is not the label, example by example."""
    ranked = logits.argsort(1, descending=True)
    return torch.tensor([int(row[row != label][0]) for row, label in zip(ranked, labels, strict=True)])


def _mixing(method: NPD, data: Dataset) -> Tensor:
    """The layer that was folded in: the weights of the first layer, which are the identity, times it."""
    weight: Tensor = repaired(method, data=data).get_submodule("body.mix").weight[..., 0]  # type: ignore[index]
    return weight.detach()


def _polarized(mixing: Tensor, x: Tensor) -> Tensor:
    """The planted model with the layer in front."""
    head = planted().get_submodule("body.head")
    logits: Tensor = head(torch.einsum("ij,njf->nif", mixing, x).relu().mean(2))
    return logits


def test_each_loss_has_its_own_weight(monkeypatch: pytest.MonkeyPatch) -> None:
    # The examples are moved to another class than the second most likely: then all four losses differ. Every
    # eighth label is another class than what is heard, so labels and predictions cannot be swapped.
    data = mislabelled()
    x, y = data.inputs[:], data.labels
    away = torch.zeros(1, 8, 6)
    away[:, 3] = 1.7
    monkeypatch.setattr(NPD, "_perturbation", lambda *_: away)
    mixing = torch.eye(8, requires_grad=True)
    predicted = _polarized(mixing, x).argmax(1)
    assert (predicted != y).any()
    aim = _beside(_polarized(mixing, x), y)
    logits = _polarized(mixing, x + away)
    best = _beside(logits, y)
    assert (best != aim).any()
    losses = [F.cross_entropy(_polarized(mixing, x), y), F.cross_entropy(logits, predicted)]
    losses += [against(logits, best), against(logits, aim)]
    loss = sum(weight * value for weight, value in zip((1.3, 0.7, 0.5, 0.2), losses, strict=True))
    assert isinstance(loss, Tensor)
    wanted = mixing - 0.4 * torch.autograd.grad(loss, mixing)[0]
    found = _mixing(
        NPD(
            depth=0.0,
            steps=1,
            lr=0.4,
            warmup=0.0,
            clean=1.3,
            adversarial=0.7,
            wrong=0.5,
            aimed=0.2,
            **PLAIN,
        ),
        data,
    )
    assert torch.allclose(wanted, found, atol=1e-5)


def test_a_warm_up_and_two_steps_are_those_written_out_by_hand() -> None:
    # A step of the warm-up and two steps, followed by hand: two steps of 0.5 by sign within a ball of 2.
    data = mislabelled()
    x, y, unit = data.inputs[:], data.labels, float(data.inputs[:].std())
    mixing = torch.eye(8, requires_grad=True)
    slope = torch.autograd.grad(F.cross_entropy(_polarized(mixing, x), y), mixing)[0]
    mixing = (mixing - 0.3 * slope).detach().requires_grad_()
    for _ in range(2):
        predicted, aim = _polarized(mixing, x).argmax(1), _beside(_polarized(mixing, x), y)
        delta = torch.zeros_like(x)
        for number in range(2):
            delta.requires_grad_()
            logits = _polarized(mixing, x + delta)
            assert number == 0 or float((logits.argmax(1) == aim).float().mean()) <= 0.6  # it goes on
            slope = torch.autograd.grad(F.cross_entropy(logits, aim), delta)[0]
            delta = delta.detach() - 0.5 * unit * slope.sign()
            delta = delta * (2 * unit / delta.flatten(1).norm(dim=1).clamp(min=2 * unit)).view(-1, 1, 1)
        assert float(delta.flatten(1).norm(dim=1).max()) == pytest.approx(2 * unit, rel=1e-4)
        logits = _polarized(mixing, x + delta)
        best = _beside(logits, y)
        loss = 1.3 * F.cross_entropy(_polarized(mixing, x), y) + 0.7 * F.cross_entropy(logits, predicted)
        loss = loss + 0.5 * against(logits, best) + 0.2 * against(logits, aim)
        mixing = (mixing - 0.4 * torch.autograd.grad(loss, mixing)[0]).detach().requires_grad_()
    found = _mixing(
        NPD(
            depth=0.0,
            steps=2,
            lr=0.4,
            warmup=0.5,
            warmup_lr=0.3,
            clean=1.3,
            adversarial=0.7,
            wrong=0.5,
            aimed=0.2,
            radius=2.0,
            step=0.5,
            ascent_steps=2,
            **PLAIN,
        ),
        data,
    )
    assert torch.allclose(mixing, found, atol=1e-5)


def test_perturbed_examples_look_more_like_the_second_most_likely_class() -> None:
    model = planted()
    body = copy.deepcopy(model.body)
    seen = entering(model)
    NPD(depth=0.0, steps=1, warmup=0.0, ascent_steps=1).repair(model, clips(), clips(8, 5), 0)
    clean, moved = seen[-4], seen[-1]  # the clean loss, its classes, the slope, and the perturbed examples
    label, aim = body(clean).topk(2, 1).indices.T
    before, after = (body(x).softmax(1).gather(1, aim[:, None]) for x in (clean, moved))
    assert (after > before).all()
    assert (label != aim).all()


@pytest.mark.parametrize(("depth", "layer"), [(0.0, "mix"), (1.0, "head")])
def test_the_layer_is_put_where_the_depth_says_and_folded_in_there_alone(depth: float, layer: str) -> None:
    model = planted()
    chosen = NPD(depth=depth, steps=3, lr=0.1).repair(model, clips(), clips(8, 5), 0)
    assert chosen["before"] == [layer]
    old, new = planted().body.state_dict(), model.body.state_dict()
    assert list(old) == list(new)
    assert {name for name in old if not torch.equal(old[name], new[name])} == {f"{layer}.weight"}
    assert chosen["change"] > 0.01


@pytest.mark.parametrize("depth", [0.0, 1.0])
def test_it_removes_a_planted_backdoor_and_keeps_the_classes(depth: float) -> None:
    accuracy, asr = rates(repaired(NPD(depth=depth, steps=150, lr=0.03)))
    assert accuracy == 1
    assert asr < 0.1


def test_npd_is_its_layer_folded_into_the_weights_behind_it(clean_model: Classifier, tones: Splits) -> None:
    clean = tones.train.sample(0.2, 0)
    maps = clean_model.front_end(tones.test.inputs[:4])
    layers = layers_at(clean_model.body, maps, 0.5)
    names = {module: name for name, module in clean_model.body.named_modules()}
    assert [names[layer] for layer in layers] == ["blocks.1.conv1", "blocks.1.skip"]
    repair = NPD(steps=3, lr=0.5, depth=0.5).remove(copy.deepcopy(clean_model).train(), clean, 0)
    assert repair.chosen["before"] == ["blocks.1.conv1", "blocks.1.skip"]
    assert repair.chosen["change"] > 0.01
    old, new = clean_model.state_dict(), repair.model.state_dict()
    changed = {name for name in old if not torch.equal(old[name], new[name])}
    assert changed == {"body.blocks.1.conv1.weight", "body.blocks.1.skip.weight"}
    assert list(old) == list(new)
    # One and the same matrix lies between the old weights and the new, in both layers.
    skip_old, skip_new = (state["body.blocks.1.skip.weight"][..., 0, 0] for state in (old, new))
    mixing = torch.linalg.lstsq(skip_old, skip_new).solution
    conv_old, conv_new = (state["body.blocks.1.conv1.weight"] for state in (old, new))
    assert skip_old.shape[0] >= skip_old.shape[1]
    assert torch.allclose(torch.einsum("oihw,ij->ojhw", conv_old, mixing), conv_new, atol=1e-4)


def test_npd_pushes_down_a_class_by_minus_log_of_one_minus_p() -> None:
    logits = torch.log(torch.tensor([[0.25, 0.75], [0.5, 0.5]]))
    expected = -(math.log(0.75) + math.log(0.5)) / 2
    assert float(against(logits, torch.tensor([0, 1]))) == pytest.approx(expected, abs=3e-4)
    assert against(torch.tensor([[90.0, -90.0]]), torch.tensor([0])).isfinite()
