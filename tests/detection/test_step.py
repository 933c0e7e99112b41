"""STEP: the score by hand, its direction, and what the perturbations do."""

import math

import pytest
import torch
from torch import Generator, Tensor, nn

from closesesame.audio.effects import rms
from closesesame.core.seeding import generator
from closesesame.core.types import Wave
from closesesame.data import Dataset
from closesesame.detection import STEP, step
from closesesame.detection.step import BREAKING, PRESERVING
from closesesame.models import Classifier, adapt


class Louder(nn.Module):
    """Says the second class where the sum of the first samples is above a half."""

    def forward(self, wav: Tensor) -> Tensor:
        return torch.stack([torch.full((len(wav),), 0.5), wav[:, :4].sum(1)], 1)


def model() -> Classifier:
    return adapt(Louder(), ("a", "b"), (800,), 8_000)


def clips(levels: list[float]) -> Dataset:
    """Clips whose first samples sum to a level."""
    wav = torch.zeros(len(levels), 800)
    wav[:, 0] = torch.tensor(levels)
    return Dataset.of(wav, torch.zeros(len(levels), dtype=torch.long), classes=("a", "b"), sample_rate=8_000)


def plus(level: float) -> step.Perturbation:
    def act(wav: Wave, rng: Generator) -> Wave:
        moved = wav.clone()
        moved[:, 0] += level
        return moved

    return act


@pytest.mark.parametrize("part", [256, 2])
def test_scores_are_distances_from_clean_clips_in_the_direction_of_each_branch(
    part: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(step, "PART", part)
    monkeypatch.setattr(step, "BREAKING", {"more": plus(0.2), "much more": plus(0.4)})
    monkeypatch.setattr(step, "PRESERVING", {"little": plus(0.1)})
    # All clean clips are "a": 0.2 more changes the last two, 0.4 the last three, 0.1 the last.
    clean, asked = clips([0.0, 0.2, 0.35, 0.45]), clips([0.0, 0.45, 0.9])
    found = STEP(draws=2).score(model(), asked, clean, 0).scores.tolist()
    stays = {  # shares by perturbation, of the clean clips and of those asked
        "more": ([1, 1, 0, 0], [1, 0, 1]),
        "much more": ([1, 0, 0, 0], [1, 0, 1]),
        "little": ([1, 1, 1, 0], [1, 0, 1]),
    }
    z: dict[str, list[list[float]]] = {}
    for name, (known, own) in stays.items():
        mean = sum(known) / 4
        deviation = math.sqrt(sum((one - mean) ** 2 for one in known) / 4) + 0.05
        z[name] = [[(one - mean) / deviation for one in part] for part in (known, own)]
    breaking = [[(a + b) / 2 for a, b in zip(z["more"][k], z["much more"][k], strict=True)] for k in (0, 1)]
    preserving = [[-one for one in z["little"][k]] for k in (0, 1)]
    expected = [0.0, 0.0, 0.0]
    for of_clean, of_asked in (breaking, preserving):
        deviation = torch.tensor(of_clean).double().std(unbiased=False).item() + 0.05
        expected = [total + one / deviation for total, one in zip(expected, of_asked, strict=True)]
    assert found == pytest.approx(expected, abs=1e-5)


def test_a_label_that_survives_broken_words_is_suspicious_and_so_is_one_that_small_changes_turn(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clean = clips([0.0, 0.1, 0.2, 0.3])
    monkeypatch.setattr(step, "BREAKING", {"more": plus(0.45)})
    monkeypatch.setattr(step, "PRESERVING", {"nothing": plus(0.0)})
    stable, usual = STEP(draws=1).score(model(), clips([0.9, 0.3]), clean, 0).scores.tolist()
    assert stable > usual
    monkeypatch.setattr(step, "BREAKING", {"much": plus(5.0)})
    monkeypatch.setattr(step, "PRESERVING", {"little": plus(0.1)})
    fragile, usual = STEP(draws=1).score(model(), clips([0.45, 0.3]), clean, 0).scores.tolist()
    assert fragile > usual


def test_the_score_of_a_clip_does_not_depend_on_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(step, "PART", 5)
    wav = 0.2 * torch.randn(12, 800, generator=torch.Generator().manual_seed(0))
    data = Dataset.of(wav, torch.zeros(12, dtype=torch.long), classes=("a", "b"), sample_rate=8_000)
    clean = data.take(torch.arange(4))
    together = STEP(draws=2).score(model(), data, clean, 3).scores
    alone = STEP(draws=2).score(model(), data.take(torch.tensor([7])), clean, 3).scores
    assert together[7] == alone[0]
    assert len(set(together.tolist())) > 2


def test_the_perturbations_do_what_they_say() -> None:
    rate = 8_000
    time = torch.arange(rate) / rate
    wav = 0.3 * torch.sin(2 * math.pi * 400 * time)[None] * (1 + time) * torch.ones(2, 1)
    before = wav.clone()
    done = {name: act(wav, generator(1, name)) for name, act in (BREAKING | PRESERVING).items()}
    assert torch.equal(wav, before)
    for name, made in done.items():
        assert made.shape == wav.shape, name
        assert torch.equal(made[0], made[1]), name  # the same draws for all clips
        assert not torch.equal(made, wav), name
        assert not torch.equal(made, (BREAKING | PRESERVING)[name](wav, generator(2, name))), name
    assert torch.equal(done["shuffled"].sort(1).values, wav.sort(1).values)
    size = rate // 12
    assert torch.equal(done["shuffled"][:, 12 * size :], wav[:, 12 * size :])
    assert torch.allclose(done["reversed"].sort(1).values, wav.sort(1).values)
    assert int((done["reversed"].flip(1).roll(1, 1) != wav).sum()) > 0
    level = rms(wav)
    for name, snr_db in (("drowned", -5), ("noisy", 25)):
        ratio = 20 * torch.log10(level / rms(done[name] - wav))
        assert torch.allclose(ratio, torch.full_like(ratio, snr_db), atol=0.1), name
    moved = done["shifted"]
    shift = int((moved[0] != 0).nonzero()[0]) - int((wav[0] != 0).nonzero()[0])
    assert abs(shift) <= rate // 20
    bins = torch.fft.rfft(done["speed"][0]).abs().argmax()
    assert 376 <= int(bins) <= 424
    assert int(bins) != 400
    gain_db = 20 * float(torch.log10(rms(done["filtered"])[0, 0] / level[0, 0]))
    assert 0.1 < abs(gain_db) <= 3.1
