"""DBR-PU: its rules by hand, what it does to a model whose backdoor is known, and its synthetic examples."""

import copy
import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from closesesame.core.errors import DataError
from closesesame.core.seeding import generator, isolated
from closesesame.data import Splits
from closesesame.models import Classifier
from closesesame.models.channels import channels_of
from closesesame.models.hooks import watched
from closesesame.models.statistics import gaussian_kl, histogram_entropy
from closesesame.optimisation import synthesis as made_up
from closesesame.optimisation.synthesis import (
    LATENT,
    WAVE_LEVEL,
    Decoder,
    Synthesis,
    _draw,
    generator_loss,
    shuffled,
    synthesise,
)
from closesesame.removal import DBRPU, FT
from closesesame.removal.dbrpu import LayerEvidence, _distributions, deviation
from tests.removal.planted import clips, planted, rates, repaired

PLAIN = {"optimizer": "sgd", "momentum": 0.0, "batch_size": 40}


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
    method = DBRPU(data="clean", threshold=12.0, max_agreement_drop=1.0)
    evidence = method.examine(model, clean, 0)
    layer = next(layer for layer in evidence.layers if layer.name == "blocks.0.conv2")
    assert int(layer.scores["kl"].argmax()) == 3
    assert layer.flagged.tolist() == [3]
    assert layer.pruned
    assert norm.weight[3] == norm.bias[3] == 0
    # No agreement may be lost: what costs any is put back.
    again = copy.deepcopy(clean_model)
    again.load_state_dict(kept)
    guarded = DBRPU(data="clean", threshold=0.0, max_agreement_drop=0.0).examine(again, clean, 0)
    assert guarded.agreement == 1
    assert not all(layer.pruned for layer in guarded.layers if len(layer.flagged))
    off = copy.deepcopy(clean_model)
    DBRPU(data="clean", prune=False, unlearn=False).repair(off, clean, clean, 0)
    assert all(torch.equal(value, clean_model.state_dict()[name]) for name, value in off.state_dict().items())


def test_the_pre_activations_shown_are_those_of_the_model_and_of_the_reference() -> None:
    def layer(name: str, at: float) -> LayerEvidence:
        """Two channels: means at `at` and `at + 1`, deviations 2 and 3; those of the reference apart."""
        here = torch.tensor([at, at + 1])
        nothing = torch.zeros(1, 2)
        return LayerEvidence(
            name,
            mean=here,
            var=torch.tensor([4.0, 9.0]),
            reference_mean=here + 20,
            reference_var=torch.tensor([0.25, 1.0]),
            maxima=nothing,
            scores={},
            flagged=torch.tensor([1]),
            pruned=True,
        )

    layers = [layer("first", 0.0), layer("second", 100.0)]
    shown = _distributions(layers, [torch.tensor([1.0, 8.0]), torch.tensor([5.0, 2.0])])
    assert [one.caption for one in shown] == [
        "first, channel 1: 8.0 deviations, flagged",
        "second, channel 0: 5.0 deviations, not flagged",
        "second, channel 1: 2.0 deviations, flagged",
        "first, channel 0: 1.0 deviations, not flagged",
    ]
    peaks = [(1, 21, 3, 1), (100, 120, 2, 0.5), (101, 121, 3, 1), (0, 20, 2, 0.5)]
    for one, (mean, reference, spread, reference_spread) in zip(shown, peaks, strict=True):
        synthetic, other = one.curves
        assert (synthetic.name, synthetic.suspicious) == ("synthetic", True)
        assert (other.name, other.suspicious) == ("reference", False)
        # The scale has 160 steps, over at most 40.
        for curve, wanted, deviation_ in (
            (synthetic, mean, spread),
            (other, reference, reference_spread),
        ):
            assert float(curve.at[curve.density.argmax()]) == pytest.approx(wanted, abs=0.13)
            area = torch.trapezoid(curve.density, curve.at)
            width = float(area / curve.density.max()) / math.sqrt(2 * math.pi)
            assert width == pytest.approx(deviation_, rel=0.05)


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


def test_it_is_called_ours_wherever_it_is_listed() -> None:
    assert DBRPU.cite.startswith("ours, after the abstract of doi:")
    module = __import__(DBRPU.__module__, fromlist=["_"])
    assert str(module.__doc__).startswith("Ours, after the abstract of")
    assert str(DBRPU.__doc__).startswith("Ours, after the abstract of")


@pytest.mark.parametrize("score", ["kl", "entropy", "differential"])
def test_channels_are_flagged_above_the_threshold_of_the_score_that_was_chosen(
    score: str, clean_model: Classifier, tones: Splits
) -> None:
    method = DBRPU(data="clean", score=score, threshold=1.2, prune=False)
    layers = method.examine(copy.deepcopy(clean_model), tones.train.sample(0.3, 0), 0).layers
    by_score = {
        name: [(deviation(x.scores[name]) > 1.2).nonzero().flatten().tolist() for x in layers]
        for name in layers[0].scores
    }
    assert [layer.flagged.tolist() for layer in layers] == by_score[score]
    assert all(by_score[score] != other for name, other in by_score.items() if name != score)
    assert sum(map(len, by_score[score])) > 0


@pytest.mark.parametrize(("prune", "unlearn"), [(True, False), (False, True)])
def test_pruning_and_unlearning_are_each_done_if_asked_for(
    prune: bool, unlearn: bool, clean_model: Classifier, tones: Splits
) -> None:
    model = copy.deepcopy(clean_model)
    method = DBRPU(
        data="clean",
        prune=prune,
        unlearn=unlearn,
        threshold=2.0,
        max_agreement_drop=1.0,
        rounds=1,
        steps=1,
        ascent_steps=1,
        fixed_point_steps=1,
    )
    chosen = method.repair(model, tones.train.sample(0.2, 0), tones.validation, 0)
    assert bool(chosen["pruned"]) == prune
    assert ("perturbation_norms" in chosen) == unlearn
    dead = [int((m.weight == 0).sum()) for m in model.modules() if isinstance(m, nn.BatchNorm2d)]
    assert (sum(dead) > 0) == prune
    # Only unlearning touches the head.
    old, new = (m.get_submodule("body.head").state_dict()["weight"] for m in (clean_model, model))
    assert torch.equal(old, new) != unlearn


def test_the_weights_learn_under_the_perturbation_without_drifting_from_the_model_before() -> None:
    # Two steps of the weights under one perturbation, followed by hand.
    model, data = planted(), clips()
    x, unit = data.inputs[:], data.inputs[:].std()
    y = model(x).argmax(1)
    slope_of = torch.zeros(1, 8, 6, requires_grad=True)
    slope = torch.autograd.grad(F.cross_entropy(model.body(x + unit * slope_of), y), slope_of)[0]
    delta = 2.0 * slope / slope.norm()
    before, body = copy.deepcopy(model.body), copy.deepcopy(model.body)
    gaps = []
    for _ in range(2):
        gap = F.kl_div(body(x).log_softmax(1), before(x).softmax(1), reduction="batchmean")
        loss = F.cross_entropy(body(x + unit * delta), y) + gap
        gaps.append(float(gap.detach()))
        gradients = torch.autograd.grad(loss, list(body.parameters()))
        with torch.no_grad():
            for weight, gradient in zip(body.parameters(), gradients, strict=True):
                weight.sub_(0.5 * gradient)
    assert gaps[1] > 1e-3
    method = DBRPU(
        data="clean",
        prune=False,
        rounds=1,
        steps=2,
        ascent_steps=1,
        ascent_step=2.0,
        share=1.0,
        fixed_point_steps=0,
        lr=0.5,
        **PLAIN,
    )
    found = repaired(method, model, data)
    for weight, new in zip(body.parameters(), found.body.parameters(), strict=True):
        assert torch.allclose(weight, new, atol=1e-5)


def test_it_removes_a_planted_backdoor_and_keeps_the_classes() -> None:
    method = DBRPU(
        data="clean", prune=False, rounds=3, steps=30, ascent_steps=8, lr=0.3, share=0.3, radius=5.0, **PLAIN
    )
    accuracy, asr = rates(repaired(method))
    assert accuracy == 1
    assert asr < 0.1
    tuned = FT(steps=30, lr=0.3, augmentation="none", schedule="constant", weight_decay=0, **PLAIN)
    assert rates(repaired(tuned)) == (1.0, 1.0)


def _first_loss(
    model: Classifier, example: Tensor, monkeypatch: pytest.MonkeyPatch, **weights: float
) -> float:
    """The loss of the generator's first batch, all weights 0 but those given."""
    notes: list[float] = []

    class Noting:
        def __init__(self, steps: range, *_: object) -> None:
            self.steps = steps

        def __iter__(self):  # type: ignore[no-untyped-def]
            return iter(self.steps)

        def note(self, text: str) -> None:
            notes.append(float(text.removeprefix("loss ")))

    monkeypatch.setattr(made_up, "Track", Noting)
    none = dict.fromkeys(("one_hot", "entropy", "activation", "shuffle", "disagreement", "statistics"), 0.0)
    method = Synthesis(steps=1, batch_size=8, width=4, examples=4, **(none | weights))
    synthesise(model.body, example, method, 0)
    return notes[0]


Term = Callable[[nn.Module, Tensor, torch.Generator], Callable[[Tensor], Tensor]]


def _shuffle(body: nn.Module, example: Tensor, rng: torch.Generator) -> Callable[[Tensor], Tensor]:
    others = [shuffled(body, example, rng) for _ in range(3)]

    def term(x: Tensor) -> Tensor:
        total = torch.zeros(())
        for other in others:
            p, q = body(x).softmax(1), other(x).softmax(1)
            alike = p.argmax(1) == q.argmax(1)
            gap = (q * (q / p).log()).sum(1)  # KL of the other's prediction to the model's
            total = total - (gap[alike].mean() if alike.any() else 0) / 3
        return total

    return term


def _disagreement(body: nn.Module, example: Tensor, rng: torch.Generator) -> Callable[[Tensor], Tensor]:
    student = shuffled(body, example, rng)

    def term(x: Tensor) -> Tensor:
        parameters = [p for p in student.parameters() if p.requires_grad]
        gap = (student(x) - body(x).detach()).abs().mean()
        slopes = torch.autograd.grad(gap, parameters, allow_unused=True)
        with torch.no_grad():
            for parameter, slope in zip(parameters, slopes, strict=True):
                parameter.sub_(0 if slope is None else 0.01 * slope)
        loss: Tensor = -(student(x) - body(x)).abs().mean()
        return loss

    return term


def _statistics(body: nn.Module, example: Tensor, rng: torch.Generator) -> Callable[[Tensor], Tensor]:
    del rng
    layers = [layer for layer in channels_of(body, example) if layer.statistics is not None]

    def term(x: Tensor) -> Tensor:
        with watched(layers) as maps:
            body(x)
        total = torch.zeros(())
        for layer, values in zip(layers, maps, strict=True):
            norm = layer.statistics
            assert norm is not None
            assert norm.running_mean is not None
            assert norm.running_var is not None
            total = total + (values.mean((0, 2)) - norm.running_mean).square().mean()
            total = total + (values.var((0, 2)) - norm.running_var).square().mean()
        return total

    return term


def _one_hot(body: nn.Module, *_: object) -> Callable[[Tensor], Tensor]:
    return lambda x: F.cross_entropy(body(x), body(x).argmax(1))


def _balance(body: nn.Module, *_: object) -> Callable[[Tensor], Tensor]:
    def term(x: Tensor) -> Tensor:
        mean = body(x).softmax(1).mean(0)
        loss: Tensor = (mean * mean.log10()).sum()
        return loss

    return term


def _activation(body: nn.Module, *_: object) -> Callable[[Tensor], Tensor]:
    def term(x: Tensor) -> Tensor:
        seen: list[Tensor] = []
        hook = body.get_submodule("head").register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
        body(x)
        hook.remove()
        return -seen[0].abs().mean()

    return term


@pytest.mark.parametrize(
    ("weight", "term"),
    [
        ("one_hot", _one_hot),
        ("entropy", _balance),
        ("activation", _activation),
        ("shuffle", _shuffle),
        ("disagreement", _disagreement),
        ("statistics", _statistics),
    ],
)
def test_each_weight_of_the_synthesis_is_that_of_its_own_loss(
    weight: str, term: Term, clean_model: Classifier, tones: Splits, monkeypatch: pytest.MonkeyPatch
) -> None:
    example = clean_model.front_end(tones.train.inputs[:2])
    body, rng = copy.deepcopy(clean_model.body).eval(), generator(0, "latent vectors")
    value = term(body, example, rng)
    with isolated(0, "generator"):
        decoder = Decoder(tuple(example.shape[1:]), 4)
    x = decoder(torch.randn(8, LATENT, generator=rng)).detach()
    wanted = 1000 * float(value(x).detach())
    assert abs(wanted) > 1
    assert _first_loss(clean_model, example, monkeypatch, **{weight: 1000.0}) == pytest.approx(
        wanted, rel=1e-3
    )


class Copies(Decoder):
    """Passes on the first four numbers of each latent vector, or of each feature."""

    def __init__(self) -> None:
        super().__init__((4,), 2)

    def forward(self, z: Tensor) -> Tensor:
        return z[:, :4]


def test_of_each_class_the_most_confident_examples_are_kept() -> None:
    method = Synthesis(examples=8, batch_size=16, confidence=0.0)
    rng = torch.Generator().manual_seed(5)
    kept = _draw(Copies(), Copies(), method, rng, torch.device("cpu"))
    rng = torch.Generator().manual_seed(5)
    drawn = torch.cat([torch.randn(16, LATENT, generator=rng)[:, :4] for _ in range(2)])
    confidence, labels = drawn.softmax(1).max(1)
    for label in range(4):
        best = confidence[labels == label].sort(descending=True).values[:2]
        assert torch.equal(kept.confidence[kept.labels == label], best)
        assert len(best) == 2 < int((labels == label).sum())
