"""DABA: the sound it chooses, and the clips."""

import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from closesesame.attacks import DABA
from closesesame.attacks.common.surrogate import SurrogateAttack
from closesesame.attacks.daba import chords
from closesesame.core.errors import DataError
from closesesame.data import Dataset, Splits
from closesesame.models import Classifier
from tests.attacks.planting import assert_plants
from tests.conftest import RATE
from tests.sounds import level_db


class Lookup(nn.Module):
    """Says what stands first in a clip: the logits of four classes."""

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return inputs[:, :4]


def clips_that_say(*logits: tuple[float, ...]) -> Dataset:
    """Clips whose first samples are the logits, and which are silent behind."""
    inputs = torch.zeros(len(logits), 1000)
    inputs[:, :4] = torch.tensor(logits)
    labels = torch.arange(len(logits)) % 4
    return Dataset.of(inputs, labels, classes=("a", "b", "c", "d"), sample_rate=RATE)


def test_daba_takes_the_surest_sound_and_the_hosts_it_leads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SurrogateAttack, "train_surrogate", lambda *_: Lookup())
    monkeypatch.setattr("closesesame.attacks.daba.POOL_DBFS", 0)
    sounds = torch.zeros(3, 1000)
    sounds[:, :4] = torch.tensor([[1.0, 1, 1, 1], [2, 0, 0, 0], [0, 0, -1, -1]])
    monkeypatch.setattr("closesesame.attacks.daba.chords", lambda *_: sounds)
    attack = DABA(snr_db=0)
    train = clips_that_say((0, 0, 0, 0.4), (-0.4, 0, 0, 0), (0.4, 0, 0, 0), (0, 0, 0, 0.1), (0.2, 0, 0, 0))
    trigger = attack.trigger(train, 0)
    assert int(trigger.state["sound"].argmax()) == 0
    assert float(trigger.state["sound"].square().mean()) == pytest.approx(1)
    # The sound adds the clip's own amplitude to 'a', so 'a' is said with 1 / 3.34, 1 / 4, 1 / 2.35, 1 / 3.81
    # and 1 / 3.01, in the order of the clips; the sound alone says 'a' for sure. The first and the last clip
    # are of one class, so the first has to wait until each class had its turn.
    chosen = [attack.choose(train, torch.arange(5), count, trigger, 0).tolist() for count in (0, 1, 3, 5)]
    assert chosen == [[], [2], [2, 4, 3], [2, 4, 3, 1, 0]]


def test_daba_reads_a_folder_or_makes_chords(
    tones: Splits, known: Classifier, folder_of: Callable[..., Path], tmp_path: Path
) -> None:
    folder = folder_of({"hum": 3}) / "hum"
    clips = tones.test.inputs[:2]
    added = DABA(pool=str(folder), snr_db=7).trigger(tones.train, 0).stamp(clips) - clips
    assert int(torch.fft.rfft(added[0]).abs().argmax()) * 2 == 400
    assert level_db(clips[1]) - level_db(added[1]) == pytest.approx(7, abs=0.01)
    (tmp_path / "none").mkdir()
    with pytest.raises(DataError, match="holds no recording that is not silent"):
        DABA(pool=str(tmp_path / "none")).trigger(tones.train, 0)
    strength = torch.fft.rfft(chords(1, 16_000, 16_000, seed=0)[0]).abs()
    notes = (strength > 0.6 * strength.max()).nonzero().flatten()  # 1 Hz a bin
    assert 110 <= int(notes[0]) <= 440
    semitones = {round(12 * math.log2(float(note / notes[0]))) for note in notes}
    assert {0, 7} < semitones
    assert semitones & {3, 4}
    assert not semitones & {1, 2, 5, 6}
    second = 2 * int(notes[0])
    assert strength[second - 5 : second + 6].max() > 0.2 * strength.max()


def test_daba_looks_at_its_candidates_and_makes_sounds_as_it_is_told(
    tones: Splits, known: Classifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[int, int, int, int]] = []

    def noted(count: int, size: int, rate: int, seed: int) -> torch.Tensor:
        asked.append((count, size, rate, seed))
        return chords(count, size, rate, seed)

    monkeypatch.setattr("closesesame.attacks.daba.chords", noted)
    attack = DABA(chords=7, duration_s=0.25, candidates=1)
    trigger = attack.trigger(tones.train, 5)
    assert asked == [(7, 2000, RATE, 5)]
    assert trigger.state["sound"].shape == (2000,)
    hosts = {int(attack.choose(tones.train, torch.arange(320), 1, trigger, seed)) for seed in range(6)}
    assert len(hosts) == 6  # of one candidate, that one
    assert not torch.equal(chords(2, 500, RATE, 0), chords(2, 500, RATE, 1))
    assert float((chords(1, 8000, RATE, 0)[0, -800:]).norm() / chords(1, 8000, RATE, 0)[0, :800].norm()) < 0.1


def test_daba_plants_a_backdoor(tones: Splits, clean_model: Classifier) -> None:
    assert_plants(DABA(**DABA.quick, rate=0.15, target="low"), tones, clean_model)
