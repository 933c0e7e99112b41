"""What removals share: heads, masks, and rounds against one universal perturbation."""

import copy
import math
from typing import ClassVar

import pytest
import torch
from torch import Tensor, nn

from closesesame.core.errors import ModelError, SettingError
from closesesame.core.settings import default
from closesesame.data import Splits
from closesesame.models import Classifier
from closesesame.models.channels import channels_in
from closesesame.removal import (
    ANP,
    FST,
    FT,
    IBAU,
    NGF,
    REMOVALS,
    RNP,
    FETuning,
    FTInit,
    LinearProbe,
    Repair,
)
from closesesame.removal.base import FineTuning
from closesesame.removal.common.by_score import outliers
from closesesame.removal.common.masking import (
    THRESHOLDS,
    Masked,
    masked_copy,
    prune_as_allowed,
    prune_below,
)
from closesesame.removal.common.universal import Unlearning
from closesesame.training import accuracy, judge
from tests.removal.rules import batch_of, model_of


def test_without_a_linear_head_the_head_methods_refuse(clean_model: Classifier, tones: Splits) -> None:
    body = nn.Sequential(nn.Conv1d(40, 4, 1), nn.AdaptiveAvgPool1d(1), nn.Flatten())
    for method in (FST(), FETuning(), FTInit(), LinearProbe(), NGF()):
        with pytest.raises(ModelError, match="ends in a linear layer; this one does not"):
            method.remove(model_of(body, clean_model), tones.train.sample(0.1, 0), 0)


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
        method = RNP(threshold=None, tolerance=settings[0], max_loss_rise=settings[1])
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
            assert torch.equal(layer.weight_rows(), before.weight_rows())
            now, then = layer.statistics, before.statistics
            assert now is not None
            assert then is not None
            assert now.running_mean is not None
            assert then.running_mean is not None
            assert torch.equal(now.running_mean, then.running_mean)
            alive = now.weight != 0
            assert torch.equal(now.weight[alive], then.weight[alive])


def test_masked_network_is_the_network(clean_model: Classifier, tones: Splits) -> None:
    twin, masked = masked_copy(clean_model)
    assert isinstance(masked, Masked)
    inputs = tones.test.inputs[:8]
    with torch.no_grad():
        assert torch.allclose(twin.eval()(inputs), clean_model(inputs), atol=1e-4)
        masked.masks[0].fill_(1.5)
        masked.clamp()
        assert float(masked.masks[0].max()) == 1


class Linear(nn.Module):
    """Features (batch, band, frame) to logits by one matrix on the mean over frames."""

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.head = nn.Linear(weight.shape[1], weight.shape[0], bias=False)
        self.head.weight.data = weight

    def forward(self, features: Tensor) -> Tensor:
        logits: Tensor = self.head(features.mean(2))
        return logits


def test_a_round_moves_first_the_perturbation_and_then_the_weights() -> None:
    # Two classes, features (1, 2, 2) with mean 1 and deviation 2, so delta has four numbers. With p = 1/2
    # the slope of CE has one direction, away from the class, and the step has a length of 2 deviations.
    body = Linear(torch.tensor([[1.0, 0.0], [0.0, 1.0]]))
    root = math.sqrt(3.0)
    features, labels = torch.tensor([[[1 + root, 1 - root], [1 + root, 1 - root]]]), torch.tensor([0])
    method = IBAU(ascent_steps=1, ascent_step=2.0, penalty=0.0, radius=None)
    rule = Unlearning(method, 1, torch.Generator().manual_seed(0))
    rule(body, batch_of(features, labels))
    assert body.head.weight.grad is None
    assert rule.delta is not None
    assert rule.unit == pytest.approx(2.0)
    assert rule.delta.flatten().tolist() == pytest.approx([-1.0, -1.0, 1.0, 1.0])
    rule(body, batch_of(features, labels))
    assert body.head.weight.grad is not None
    assert body.head.weight.grad[0, 1] < 0 < body.head.weight.grad[1, 1]


def test_outliers_are_those_above_mean_and_deviations_of_the_scores_that_are_judged() -> None:
    # Nine zeros and a one: mean 0.1, deviation 1 / sqrt(10), so the one is 2.846 deviations above.
    score = torch.zeros(12)
    score[4], score[[0, 7]] = 1.0, torch.nan
    assert outliers(score, 2.84).tolist() == [4]
    assert outliers(score, 2.85).tolist() == []
    assert outliers(-score, 1.0).tolist() == []
    assert outliers(score[[0, 4, 7]], 0.1).tolist() == []  # one is judged: nothing to compare


@pytest.mark.parametrize("name", [name for name in REMOVALS if issubclass(REMOVALS[name], FineTuning)])
def test_a_setting_that_a_method_restates_keeps_its_range(name: str) -> None:
    method = REMOVALS[name]
    for field, parent in FineTuning.model_fields.items():
        assert method.model_fields[field].metadata == parent.metadata
    with pytest.raises(SettingError, match=f"{method.__name__}.lr must be > 0.0, got -1"):
        REMOVALS.make(name, {"lr": -1})


def test_another_default_leaves_the_parent_as_it_is() -> None:
    class Child(FineTuning):
        name: ClassVar[str] = "child"
        lr: float = default(FineTuning, "lr", 0.5)
        steps: int = default(FineTuning, "steps", 7, description="few")

    assert (Child.model_fields["lr"].default, FineTuning.model_fields["lr"].default) == (0.5, 0.01)
    assert Child.model_fields["lr"].description == FineTuning.model_fields["lr"].description
    assert (Child.model_fields["steps"].description, FT.model_fields["steps"].description) == (
        "few",
        "batches in all",
    )


@pytest.mark.parametrize(("after", "harmed"), [(1.0, False), (0.95, False), (0.9, True), (None, False)])
def test_a_repair_says_that_it_did_harm_if_two_clips_or_more_turned_wrong(
    clean_model: Classifier, after: float | None, harmed: bool
) -> None:
    repair = Repair(clean_model, tuned_on=80, held_out=20, acc_before=1.0, acc_after=after, seconds=0)
    assert (repair.harm is not None) == harmed
    assert not harmed or str(repair.harm).startswith("The repair turned 2 of 20 held-out clips wrong: ")
