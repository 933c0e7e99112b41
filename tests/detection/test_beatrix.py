"""Beatrix: Gram matrices, bounds and deviations by hand; what an input is compared with."""

import pytest
import torch
from torch import Tensor, nn

from closesesame.data import Dataset, Splits
from closesesame.data.rows import Rows
from closesesame.detection import Beatrix
from closesesame.detection.beatrix import gram
from closesesame.evaluation.screening import area
from closesesame.models import Classifier, adapt


def test_an_element_is_the_root_of_a_sum_of_products_of_powers_with_its_sign() -> None:
    maps = torch.tensor([[[1.0, 2.0], [-3.0, -4.0]]]).double()
    assert gram(maps, 1).tolist() == [[5.0, -11.0, 25.0]]
    assert gram(maps, 2)[0].tolist() == pytest.approx([17**0.5, 73**0.5, 337**0.5])
    third = [(1 + 64) ** (1 / 3), -((27 + 512) ** (1 / 3)), (27**2 + 64**2) ** (1 / 3)]
    assert gram(maps, 3)[0].tolist() == pytest.approx(third)


def one_place(*values: float) -> Tensor:
    """Maps of one channel and one place, whose only element of order 1 is the square of the value."""
    return torch.tensor(values).double()[:, None, None]


def test_deviations_are_relative_to_the_bound_that_is_passed() -> None:
    method = Beatrix(orders=1, band=1)
    bounds = method.bounds(one_place(1, 2, 3))  # elements 1, 4, 9: median 4, MAD 3
    assert [bound.tolist() for bound in bounds[0]] == [[1.0], [7.0]]
    found = method.deviation(one_place(4, 0.5, 2), bounds)
    assert found.tolist() == pytest.approx([9 / 7, 0.75, 0])


def test_deviations_are_the_mean_over_elements_and_orders() -> None:
    method = Beatrix(orders=2, band=1)
    clean = torch.cat([one_place(1, 2, 3), one_place(1, 1, 1)], 1)
    bounds = method.bounds(clean)
    alike = Beatrix(orders=1, band=1)
    both = [alike.deviation(torch.tensor([[[4.0], [1.0]]]).double(), bounds[:1])]
    # Elements of order 1: 16, 4 and 1, whose bounds end at 7, 3 and 1; of order 2 they are the same.
    assert both[0].tolist() == pytest.approx([(9 / 7 + 1 / 3) / 3])
    assert method.deviation(torch.tensor([[[4.0], [1.0]]]).double(), bounds).tolist() == pytest.approx(
        both[0].tolist()
    )


class Signed(nn.Module):
    """Two maps that are the clip, and logits that are its mean and minus its mean."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = (nn.Conv1d(1, 1, 1, bias=False) for _ in range(2))
        with torch.no_grad():
            self.one.weight.fill_(1)
            self.two.weight.fill_(1)

    def forward(self, wav: Tensor) -> Tensor:
        mean = self.two(self.one(wav[:, None])).mean(2)
        return torch.cat([mean, -mean], 1)


def levels(*values: float) -> Dataset:
    wav = torch.tensor(values)[:, None].expand(-1, 800).clone()
    return Dataset.of(wav, torch.zeros(len(values), dtype=torch.long), classes=("a", "b"), sample_rate=8_000)


def test_an_input_is_compared_with_clean_clips_of_the_class_that_is_answered() -> None:
    suspect = adapt(Signed(), ("a", "b"), (800,), 8_000)
    soft, loud = (0.1, 0.1, 0.1, 0.1, 0.11), (-0.5, -0.5, -0.5, -0.5, -0.51)
    scores = Beatrix(band=1).score(suspect, levels(0.1, -0.1, 0.5, -0.5), levels(*soft, *loud), 0).scores
    assert (scores > 0.1).tolist() == [False, True, True, False]
    few = Beatrix(band=1).score(suspect, levels(0.1, -0.1), levels(*soft, *loud[:2]), 0).scores
    assert (few > 0.1).tolist() == [
        False,
        False,
    ]  # two loud clips are too few: compared with all, mostly soft


def test_the_last_but_one_stage_is_looked_at(clean_model: Classifier) -> None:
    assert Beatrix().stage(clean_model).name == "blocks.0"


def test_it_finds_inputs_that_sound_like_no_clean_clip(clean_model: Classifier, tones: Splits) -> None:
    inputs = tones.test.inputs[:]
    inputs[::4] += 0.3 * torch.hann_window(inputs.shape[1])
    odd = torch.arange(len(inputs)) % 4 == 0
    scores = Beatrix().score(clean_model, tones.test.with_inputs(Rows.of(inputs)), tones.validation, 0).scores
    assert area(scores[odd], scores[~odd]).value > 0.95
