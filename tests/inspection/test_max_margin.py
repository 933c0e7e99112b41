"""MM-BD by hand: margins, the gamma fit, p-values, and an ascent whose end is known."""

import math
from itertools import pairwise

import pytest
import torch
from torch import Tensor, nn

from closesesame.core import machine
from closesesame.core.errors import ModelError
from closesesame.data import Dataset
from closesesame.inspection import MaxMargin
from closesesame.inspection.max_margin import fit_gamma, margins, p_value
from closesesame.models import Classifier, adapt
from closesesame.training import train
from tests.conftest import QUICK, RATE, SMALL

# Two numbers t and 1/t have a gamma of shape 1 if the log of their mean is Euler's constant:
# log(k) - digamma(k) = 0.577216 at k = 1. So t + 1/t = 2 exp(0.577216).
MEAN = math.exp(0.5772156649015329)
T = MEAN + math.sqrt(MEAN**2 - 1)


def numbers(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def test_a_margin_is_the_logit_of_a_class_minus_the_largest_other() -> None:
    logits = torch.tensor([[1.0, 5.0, 3.0], [-1.0, -5.0, -4.0]])
    assert margins(logits, 1).tolist() == [2.0, -4.0]
    assert margins(logits, 0).tolist() == [-4.0, 3.0]
    assert margins(logits, 2).tolist() == [-2.0, -3.0]


def test_the_gamma_fit_by_hand() -> None:
    shape, scale = fit_gamma(numbers(T, 1 / T, T, 1 / T)[None])
    assert float(shape) == pytest.approx(1, abs=1e-9)
    assert float(scale) == pytest.approx(MEAN, abs=1e-9)


def test_the_gamma_fit_solves_the_likelihood_equation_at_any_spread() -> None:
    rows = torch.stack([numbers(1, 1.01, 0.99), numbers(0.01, 1, 30), numbers(5, 6, 7)])
    shape, scale = fit_gamma(rows)
    s = rows.mean(1).log() - rows.log().mean(1)
    assert (shape.log() - torch.digamma(shape)).tolist() == pytest.approx(s.tolist(), rel=1e-6)
    assert (shape * scale).tolist() == pytest.approx(rows.mean(1).tolist())


def test_p_values_by_hand() -> None:
    # The null of {t, 1/t, t, 1/t} is exponential with mean 1.78107: F(x) = 0.99 at x = 1.78107 log(100).
    largest = MEAN * math.log(100)
    assert p_value(numbers(T, 1 / T, largest, T, 1 / T)) == pytest.approx(1 - 0.99**5, abs=1e-9)
    # A class that never wins has no part in it.
    assert p_value(numbers(T, -3, 1 / T, largest, T, 1 / T, 0)) == pytest.approx(1 - 0.99**5, abs=1e-9)
    # Far out the digits do not get lost: 5 (1 - F) = 5 exp(-60).
    far = p_value(numbers(T, 1 / T, 60 * MEAN, T, 1 / T))
    assert far == pytest.approx(5 * math.exp(-60), rel=1e-6)
    assert p_value(numbers(3, 4, 50)) == 1.0
    assert p_value(numbers(-1, -2, -3, -4, -5)) == 1.0
    assert p_value(numbers(2, 2, 2, 2, 9)) < 1e-9


def test_the_published_p_value_alarms_too_often_and_the_calibrated_one_as_often_as_it_says() -> None:
    rng = torch.Generator().manual_seed(0)
    # Sums of ten exponentials are gamma of shape 10.
    models = -torch.rand(300, 10, 10, generator=rng, dtype=torch.float64).log().sum(2)
    published = [p_value(row) < 0.05 for row in models]
    calibrated = [p_value(row, draws=499, seed=at) < 0.05 for at, row in enumerate(models)]
    assert 0.18 < sum(published) / 300 < 0.32
    assert 0.02 < sum(calibrated) / 300 < 0.09


class Slopes(nn.Module):
    """Each logit is the mean of the features times a slope of its own."""

    def __init__(self, slopes: list[float]) -> None:
        super().__init__()
        self.slopes = nn.Parameter(torch.tensor(slopes))

    def forward(self, features: Tensor) -> Tensor:
        return features.mean(1)[:, None] * self.slopes


CLASSES = tuple("abcdef")


def sloped(*slopes: float) -> Classifier:
    """On waveforms of 800 samples, whose features are themselves: from -1 to 1."""
    return adapt(Slopes(list(slopes)), CLASSES, (800,), 8_000)


def test_an_ascent_ends_at_the_edge_of_what_the_features_can_be() -> None:
    model = sloped(5.0, 1.0, 2.0, -4.0, 0.0, -1.0)
    verdict = MaxMargin(starts=3, lr=100, steps=60, tolerance=0).inspect(model, None, 0)
    # All features at 1 give class a 5 - 2; all at -1 give class d 4 - 1. Noise of full scale ends near 1.
    assert verdict.statistics["a"] == pytest.approx(3, abs=0.02)
    assert verdict.statistics["d"] == pytest.approx(3, abs=0.02)
    # No feature lets the others win: at their best all logits are 0.
    assert max(verdict.statistics[name] for name in "bce") < 0.05
    assert not verdict.backdoored
    assert verdict.pattern is None


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_the_precision_of_the_ascents_is_told_to_the_blocks_around(
    precision: machine.Precision, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine, "has_bf16", lambda _: True)
    with machine.precision(precision) as used:
        MaxMargin(starts=1, steps=1).inspect(sloped(5.0, 1.0, 2.0, -4.0, 0.0, -1.0), None, 0)
    assert used == {precision}


def test_the_class_that_stands_out_is_named() -> None:
    class Corners(nn.Module):
        """Six classes that look at a sixth of the features each; the last is a hundred times as steep."""

        def __init__(self) -> None:
            super().__init__()
            self.gain = nn.Parameter(torch.tensor([1.0, 1.2, 0.9, 1.1, 1.0, 100.0]))

        def forward(self, features: Tensor) -> Tensor:
            parts = features[:, :600].reshape(-1, 6, 100)
            return parts.mean(2) * self.gain

    method = MaxMargin(starts=2, lr=50, steps=60, calibrated=True)
    verdict = method.inspect(adapt(Corners(), CLASSES, (800,), 8_000), None, 0)
    assert verdict.backdoored
    assert verdict.target == "f"
    assert verdict.p_value is not None
    assert verdict.p_value < 0.01
    assert verdict.threshold == 0.05
    strict = MaxMargin(starts=2, lr=50, steps=60, level=verdict.p_value / 2, calibrated=True)
    assert not strict.inspect(adapt(Corners(), CLASSES, (800,), 8_000), None, 0).backdoored


def test_momentum_and_step_length_are_those_of_gradient_ascent() -> None:
    # Each step adds lr times the speed, which is half of the speed before plus the slope of the margin.
    class Line(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.slope = nn.Parameter(torch.tensor([1.0, 0.0, -1.0, -2.0]))

        def forward(self, features: Tensor) -> Tensor:
            return features[:, :1] * self.slope

    model = adapt(Line(), tuple("abcd"), (800,), 8_000)
    ends = [
        MaxMargin(starts=1, lr=0.001, momentum=0.5, steps=steps, tolerance=0)
        .inspect(model, None, 0)
        .statistics["a"]
        for steps in (0, 1, 2, 3)
    ]
    moved = [after - before for before, after in pairwise(ends)]
    # At x > 0 class a leads by x. Scaled to 0 to 1 the slope is the range, 2, and a step moves x by 2 lr 2.
    assert moved[0] == pytest.approx(0.004, rel=0.02)
    assert moved[1] / moved[0] == pytest.approx(1.5, rel=0.02)
    assert moved[2] / moved[0] == pytest.approx(1.75, rel=0.02)


def test_too_few_classes_are_refused() -> None:
    model = adapt(nn.Linear(800, 3), ("a", "b", "c"), (800,), 8_000)
    with pytest.raises(
        ModelError, match="max_margin compares classes and needs 4 or more, and the model has 3"
    ):
        MaxMargin().inspect(model, None, 0)


def make_words(n: int, seed: int) -> Dataset:
    """Ten 'words', each a pair of tones."""
    rng = torch.Generator().manual_seed(seed)
    labels = torch.arange(n) % 10
    base = 200 * 1.3 ** labels[:, None]
    time = torch.arange(RATE // 2) / RATE
    phase = 6.28 * torch.rand(n, 2, 1, generator=rng)
    wav = torch.sin(6.2832 * base * time + phase[:, 0]) + torch.sin(6.2832 * 1.5 * base * time + phase[:, 1])
    wav = 0.1 * (0.5 + torch.rand(n, 1, generator=rng)) * wav + 0.02 * torch.randn(wav.shape, generator=rng)
    return Dataset.of(wav.float(), labels, classes=[f"word {row}" for row in range(10)], sample_rate=RATE)


def test_models_that_were_never_poisoned_raise_no_alarm_if_p_values_are_calibrated() -> None:
    method = MaxMargin(**MaxMargin.quick, calibrated=True)
    for seed in range(3):
        data = make_words(300, seed)
        model = train(SMALL, data, QUICK, seed=seed)
        verdict = method.inspect(model, data, seed)
        assert not verdict.backdoored, verdict
