"""Removals by unlearning: their rules against cases worked by hand or by another way."""

import copy
import math

import pytest
import torch
from torch import Tensor, nn

from closesesame.core.errors import DataError
from closesesame.core.seeding import isolated
from closesesame.data import Splits
from closesesame.models import Classifier
from closesesame.removal import DBRPU, IBAU, NPD
from closesesame.removal.bti_dbf import BTIDBF, decouple, inversion_loss
from closesesame.removal.dbrpu import deviation, gaussian_kl, histogram_entropy
from closesesame.removal.minimax import Unlearning, hypergradient, within
from closesesame.removal.npd import against, place
from closesesame.removal.sau import divergence, shared_risk, unshare
from closesesame.removal.synthesis import WAVE_LEVEL, Decoder, Synthesis, generator_loss

CURVATURE = torch.tensor([[3.0, 1.0], [1.0, 2.0]], dtype=torch.float64)
CROSS = torch.tensor([[1.0, -2.0, 0.5], [0.0, 1.0, 4.0]], dtype=torch.float64)
AIM = torch.tensor([1.0, -1.0], dtype=torch.float64)
WEIGHTS = torch.tensor([0.5, -1.0, 2.0], dtype=torch.float64)


def _bilevel(iterations: int, rate: float = 0.1) -> Tensor:
    """Inner d'Hd/2 + d'Cw, so delta* = -H^-1 C w; outer |d - a|^2 / 2 + |w|^2 / 2."""
    w = WEIGHTS.clone().requires_grad_()
    best = -torch.linalg.solve(CURVATURE, CROSS @ w.detach())
    (gradient,), value = hypergradient(
        lambda d: d @ CURVATURE @ d / 2 + d @ CROSS @ w,
        lambda d: (d - AIM).square().sum() / 2 + w.square().sum() / 2,
        best,
        [w],
        iterations=iterations,
        rate=rate,
    )
    assert float(value) == pytest.approx(float((best - AIM).square().sum() / 2 + 5.25 / 2))
    assert gradient is not None
    return gradient


def test_the_hypergradient_is_that_of_the_solved_inner_problem() -> None:
    # Differentiate outer(delta*(w), w) with delta* written out.
    w = WEIGHTS.clone().requires_grad_()
    solved = -torch.linalg.solve(CURVATURE, CROSS @ w)
    true = torch.autograd.grad((solved - AIM).square().sum() / 2 + w.square().sum() / 2, w)[0]
    assert torch.allclose(_bilevel(200), true, atol=1e-9)
    assert not torch.allclose(_bilevel(0), true, atol=0.5)  # the direct gradient alone is another


def test_five_iterations_are_the_first_five_terms_of_its_series() -> None:
    best = -torch.linalg.solve(CURVATURE, CROSS @ WEIGHTS)
    step = torch.eye(2, dtype=torch.float64) - 0.1 * CURVATURE
    v = sum(torch.linalg.matrix_power(step, k) @ (best - AIM) for k in range(5))
    assert isinstance(v, Tensor)
    assert torch.allclose(_bilevel(5), WEIGHTS - 0.1 * CROSS.T @ v, atol=1e-12)


def test_the_ball_shortens_what_is_too_long_and_nothing_else() -> None:
    assert within(torch.tensor([3.0, 4.0]), 2.5).tolist() == [1.5, 2.0]
    assert within(torch.tensor([3.0, 4.0]), 6.0).tolist() == [3.0, 4.0]
    assert within(torch.tensor([3.0, 4.0]), None).tolist() == [3.0, 4.0]
    assert within(torch.zeros(2), 1.0).tolist() == [0.0, 0.0]


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
    # Two classes, features (1, 2, 1), so delta has two numbers. The slope of CE at p = (0.5, 0.5) is known.
    body = Linear(torch.tensor([[1.0, 0.0], [0.0, 1.0]]))
    features, labels = torch.tensor([[[1.0], [1.0]]]), torch.tensor([0])
    method = IBAU(ascent_steps=1, ascent_lr=2.0, penalty=0.0, radius=None)
    rule = Unlearning(method, 1, torch.Generator().manual_seed(0))
    rule(body, lambda: torch.nn.functional.cross_entropy(body(features), labels))
    assert body.head.weight.grad is None
    assert rule.delta is not None
    assert rule.delta.flatten().tolist() == pytest.approx([-1.0, 1.0])  # 2 * (p - onehot), uphill
    rule(body, lambda: torch.nn.functional.cross_entropy(body(features), labels))
    assert body.head.weight.grad is not None
    assert body.head.weight.grad[0, 1] < 0 < body.head.weight.grad[1, 1]


def test_gaussian_kl_and_histogram_entropy_agree_with_other_ways() -> None:
    normal = torch.distributions.Normal
    mean, var, m, v = (torch.tensor(x) for x in ([1.0, 0.0], [2.0, 4.0], [0.0, 0.5], [0.5, 9.0]))
    expected = torch.distributions.kl_divergence(normal(mean, var.sqrt()), normal(m, v.sqrt()))
    assert torch.allclose(gaussian_kl(mean, var, m, v), expected)
    rng = torch.Generator().manual_seed(0)
    clean = torch.randn(500, 64, generator=rng)
    clean[:50, :3] += 6.0  # a tenth of the examples drive three channels far up
    score = -histogram_entropy(clean, 0.1)
    z = (score - score.mean()) / score.std()
    assert (z > 3).nonzero().flatten().tolist() == [0, 1, 2]
    # Three values, a quarter, a quarter and a half of the examples: 1.5 ln 2.
    steps = torch.tensor([0.0, 0.0, 1.0, 1.0, 2.0, 2.0, 2.0, 2.0])[:, None]
    assert histogram_entropy(steps, 0.01).tolist() == pytest.approx([1.5 * math.log(2)])


def test_a_deviation_is_1_for_one_sigma_of_a_gaussian_and_outliers_do_not_move_it() -> None:
    normal = 5 + 2 * math.sqrt(2) * torch.erfinv((torch.arange(999) + 1) / 500 - 1)
    assert float(deviation(normal)[841]) == pytest.approx(1.0, abs=0.02)  # the quantile 0.842
    normal[-100:] = 1e6
    assert float(deviation(normal)[841]) < 1.01


def test_the_generator_loss_is_that_of_dafl() -> None:
    # Both rows are sure of class 0 or 1 with odds 3 to 1; the mean prediction is even.
    logits = torch.tensor([[math.log(3), 0.0], [0.0, math.log(3)]])
    units = torch.tensor([[1.0, -3.0], [0.0, 4.0]])
    loss = generator_loss(logits, units, Synthesis(one_hot=2, entropy=5, activation=0.1))
    expected = 2 * math.log(4 / 3) + 5 * math.log10(0.5) - 0.1 * 2.0
    assert float(loss) == pytest.approx(expected)


@pytest.mark.parametrize("shape", [(40, 51), (1000,), (3, 30, 22)])
def test_what_the_decoder_makes_has_the_shape_and_the_scale_of_features(shape: tuple[int, ...]) -> None:
    with isolated(0):
        made = Decoder(shape, 8)(torch.randn(16, 128))
    assert made.shape == (16, *shape)
    level = WAVE_LEVEL if len(shape) == 1 else 1.0
    assert float(made.detach().std()) == pytest.approx(level, rel=0.1)


def test_dbrpu_flags_and_prunes_the_channel_whose_statistics_do_not_fit(
    clean_model: Classifier, tones: Splits
) -> None:
    model = copy.deepcopy(clean_model)
    clean = tones.train.sample(0.3, 0)
    norm = model.get_submodule("body.blocks.0.norm2")
    assert isinstance(norm, nn.BatchNorm2d)
    assert norm.running_mean is not None
    assert norm.running_var is not None
    norm.running_mean[3] += 50 * norm.running_var[3].sqrt()
    kept = {name: value.clone() for name, value in model.state_dict().items()}
    method = DBRPU(data="clean", threshold=12.0, most_lost=1.0)
    evidence = method.examine(model, clean, 0)
    layer = next(layer for layer in evidence.layers if layer.name == "blocks.0.conv2")
    assert int(layer.scores["kl"].argmax()) == 3
    assert layer.flagged.tolist() == [3]
    assert layer.pruned
    assert norm.weight[3] == norm.bias[3] == 0
    # No agreement may be lost: what costs any is put back.
    again = copy.deepcopy(clean_model)
    again.load_state_dict(kept)
    guarded = DBRPU(data="clean", threshold=0.0, most_lost=0.0).examine(again, clean, 0)
    assert guarded.agreement == 1
    assert not all(layer.pruned for layer in guarded.layers if len(layer.flagged))
    off = copy.deepcopy(clean_model)
    DBRPU(data="clean", prune=False, unlearn=False).repair(off, clean, clean, 0)
    assert all(torch.equal(value, clean_model.state_dict()[name]) for name, value in off.state_dict().items())


def test_dbrpu_works_without_data_and_its_examples_are_sure_and_of_all_classes(
    clean_model: Classifier,
) -> None:
    method = DBRPU(
        synthesis=Synthesis(steps=40, examples=64, batch_size=32, width=8), steps=2, ascent_steps=1
    )
    repair = method.remove(clean_model, None, 0)
    assert repair.tuned_on == repair.held_out == 0
    assert repair.chosen["confidence"] > 0.9
    assert min(repair.chosen["of_class"]) > 0
    with pytest.raises(DataError, match="there are no clean examples"):
        DBRPU(data="clean").remove(clean_model, None, 0)


def test_npd_is_its_layer_folded_into_the_weights_behind_it(clean_model: Classifier, tones: Splits) -> None:
    clean = tones.train.sample(0.2, 0)
    maps = clean_model.front_end(tones.test.inputs[:4])
    layers = place(clean_model.body, maps, 0.5)
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


def test_bti_dbf_keeps_the_unit_that_says_the_class_and_drops_the_one_that_denies_it() -> None:
    labels = torch.arange(64) % 2
    units = torch.stack([3.0 * labels, 1.0 * labels], 1)
    head = nn.Linear(2, 2)
    head.weight.data = torch.tensor([[-2.0, 1.0], [2.0, -1.0]])
    head.bias.data = torch.tensor([3.0, -3.0])
    assert decouple(head, units, labels, 300, 0.05).tolist() == pytest.approx([1.0, 0.0], abs=0.02)
    assert decouple(head, units, labels, 0, 0.05).tolist() == [0.5, 0.5]


def test_bti_dbf_moves_what_is_not_benign_only_within_the_bounds() -> None:
    units, moved = torch.tensor([[1.0, 1.0]]), torch.tensor([[2.0, 4.0]])
    mask, near, far = torch.tensor([1.0, 0.0]), torch.tensor(0.2), torch.tensor(0.4)
    method = BTIDBF(most_changed=0.3, most_benign=3.0)
    # Benign: (1, 0) squared, mean 0.5; the rest: (0, 3), mean 4.5.
    assert float(inversion_loss(units, moved, mask, near, method)) == pytest.approx(0.01 * 0.5 - 4.5)
    assert inversion_loss(units, moved, mask, far, method) is far
    tight = BTIDBF(most_changed=0.3, most_benign=0.4)
    assert inversion_loss(units, moved, mask, near, tight) is near


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
    # Nobody is fooled: both cross-entropies count, and so does the divergence.
    here, there = logits[1:], torch.log(torch.tensor([[0.6, 0.4]]))
    zero = torch.tensor([0])
    expected = 0.01 * (-math.log(0.9) - math.log(0.6)) / 2 - 2 * float(divergence(here, there)[0])
    assert float(shared_risk(here, there, zero, zero, 0.01, 2.0)) == pytest.approx(expected, rel=1e-4)
    # Both are fooled into the same class: nothing is left to do.
    one = torch.tensor([1])
    assert float(shared_risk(here, there, one, one, 0.01, 2.0)) == 0
    # The model has left its class for the suspect's, which the suspect has not left: not alike yet.
    expected = 0.01 * -math.log(0.6) / 2 - 2 * float(divergence(here, there)[0])
    assert float(shared_risk(here, there, one, zero, 0.01, 2.0)) == pytest.approx(expected, rel=1e-4)


def test_bti_dbf_does_not_mind_in_which_mode_the_suspect_comes(
    clean_model: Classifier, tones: Splits
) -> None:
    clean, method = tones.train.sample(0.1, 0), BTIDBF(rounds=1, mask_steps=2, generator_steps=2, steps=1)
    repaired = [
        method.remove(copy.deepcopy(clean_model).train(training), clean, 0).model
        for training in (False, True)
    ]
    first, second = (model.state_dict() for model in repaired)
    assert all(torch.equal(value, second[name]) for name, value in first.items())
