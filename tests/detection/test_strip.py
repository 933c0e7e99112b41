"""STRIP: its sign, its indices and its mixtures, by hand."""

import math

import pytest
import torch
from torch import Tensor, nn

from closesesame.core.errors import DivergedError
from closesesame.data import Dataset
from closesesame.detection import Strip, strip
from closesesame.detection.strip import mixtures_of, rms
from closesesame.models import Classifier, adapt

LN_2, OF_3_TO_1 = math.log(2), -0.75 * math.log(0.75) - 0.25 * math.log(0.25)


class Keyed(nn.Module):
    """Certain of the first class where the first sample is high, and NaN where it is low.

    Elsewhere the odds are 3 to 1 where the second sample is high, and even where it is not.
    """

    def forward(self, wav: Tensor) -> Tensor:
        logit = torch.where(wav[:, 1] > 0.01, math.log(3), 0.0)
        logit = torch.where(wav[:, 0] > 0.05, 12.0, logit)
        logit = torch.where(wav[:, 0] < -0.05, torch.nan, logit)
        return torch.stack([logit, torch.zeros_like(logit)], 1)


@pytest.fixture
def model() -> Classifier:
    return adapt(Keyed(), ("a", "b"), (800,), 8_000)


def clips(count: int, first: dict[int, float], second: dict[int, float]) -> Dataset:
    """Noise, of which two samples are set and are 0 elsewhere."""
    wav = 0.1 * torch.randn(count, 800, generator=torch.Generator().manual_seed(count))
    wav[:, :2] = 0
    for place, values in enumerate((first, second)):
        for row, value in values.items():
            wav[row, place] = value
    return Dataset.of(wav, torch.zeros(count, dtype=torch.long), classes=("a", "b"), sample_rate=8_000)


def test_triggered_inputs_alone_score_high_each_in_its_place(
    model: Classifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(strip, "MIXTURES_AT_ONCE", 9)  # two inputs at once
    triggered = {3, 10, 17}
    examples, clean = clips(21, dict.fromkeys(triggered, 0.8), {}), clips(4, {}, {})
    scores = Strip().score(model, examples, clean, 0).scores
    certain = torch.distributions.Categorical(logits=torch.tensor([12.0, 0.0])).entropy()
    wanted = [-float(certain) if row in triggered else -LN_2 for row in range(21)]
    assert scores.tolist() == pytest.approx(wanted, abs=1e-6)


def test_a_score_is_the_mean_over_all_clean_clips(model: Classifier) -> None:
    examples, clean = clips(3, {}, {}), clips(2, {}, {1: 0.5})
    scores = Strip().score(model, examples, clean, 0).scores
    assert scores.tolist() == pytest.approx([-(LN_2 + OF_3_TO_1) / 2] * 3, abs=1e-6)


def test_as_many_clean_clips_as_asked_for_are_drawn_by_the_seed(model: Classifier) -> None:
    examples, clean = clips(1, {}, {}), clips(2, {}, {1: 0.5})
    found = {
        round(float(Strip(mixtures=1).score(model, examples, clean, seed).scores), 5) for seed in range(9)
    }
    assert found == {round(-LN_2, 5), round(-OF_3_TO_1, 5)}


def test_an_input_without_an_answer_is_named(model: Classifier) -> None:
    with pytest.raises(DivergedError, match="NaN or infinity to '000001'"):
        Strip().score(model, clips(5, {1: -0.8}, {}), clips(4, {}, {}), 0)


def test_both_parts_of_a_mixture_are_as_loud_as_the_input_and_so_is_the_mixture() -> None:
    inputs = torch.tensor([[0.1, 0.1, 0.1, 0.1], [0.0, 0.6, 0.0, 0.0]])
    others = torch.tensor([[0.4, -0.4, 0.4, -0.4], [0.0, 0.0, 0.02, 0.0], [0.0, 0.0, 0.0, 0.0]])
    mixed = mixtures_of(inputs, others)
    assert mixed.shape == (2, 3, 4)
    wanted = [[0.2, 0, 0.2, 0], [0.1, 0.1, 0.3, 0.1], [0.1, 0.1, 0.1, 0.1]]
    torch.testing.assert_close(2**0.5 * mixed[0], torch.tensor(wanted))
    torch.testing.assert_close(2**0.5 * mixed[1, 0], torch.tensor([0.3, 0.3, 0.3, -0.3]))
    torch.testing.assert_close(rms(mixed[0, :1]), rms(inputs[:1]))


def test_a_silent_input_is_mixed_with_something_soft() -> None:
    mixed = mixtures_of(torch.zeros(1, 4), torch.full((1, 4), 0.5))
    torch.testing.assert_close(mixed, torch.full((1, 1, 4), 1e-4 / 2**0.5))
